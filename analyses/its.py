"""Interrupted time series: did a day change the outcome, by how much, and how sure is that?

Reads data/export and analyses/params.yaml; writes analyses/results/its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyses import its_causalpy, results
from analyses.ar1 import Interval
from analyses.daily import Series, minus, read
from analyses.fitted import DIFFERENCE, TREATED, Fitted, bands, difference_in_differences, fit, notices, placebos
from analyses.its_causalpy import Outside
from analyses.its_page import FILES, FIRST, METHODS, drawn, page, said
from analyses.segmented import FEWEST
from analyses.settings import Its, Settings, wrong
from analyses.snapshot import PARAMS, RESULTS, Snapshot, analyse
from pipeline.core.progress import count

COLUMNS = ("event_date", "day", "value", "fit", "without", "without_low", "without_high")
PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")


def its(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.its
    by_causalpy = wanted.method == "causalpy"
    if by_causalpy:
        its_causalpy.require()
    start = (wanted.start - snapshot.first).days
    treated = snapshot.users("its.treated", wanted.treated)
    several, users = {TREATED: read(snapshot, wanted.outcome, treated)}, {"treated": snapshot.count(treated)}
    if wanted.control is not None:
        control = controls(snapshot, treated, wanted.control)
        several[DIFFERENCE] = minus(several[TREATED], read(snapshot, wanted.outcome, control))
        users["control"] = snapshot.count(control)
    groups = {name: fit(one, start, wanted, name) for name, one in several.items()}
    if by_causalpy:
        for name, one in several.items():
            groups[name] = beside(groups[name], its_causalpy.look(one, start, wanted))
    content = report(groups, several, wanted)
    packages = PACKAGES + (its_causalpy.PACKAGES if by_causalpy else ())
    content |= {"users": users, "provenance": snapshot.provenance(wanted, packages)}
    rows = {name: bands(groups[name], one, wanted.level) for name, one in several.items()}
    files = {f"{FILES[name]}.csv": results.as_csv(COLUMNS, table) for name, table in rows.items()}
    files |= {
        "its.json": results.as_json(content),
        "its.md": page(content, groups, wanted).encode(),
        **results.figures("its", drawn(rows, users, wanted)),
    }
    snapshot.inputs.check()
    results.write(RESULTS / "its", files)
    name, main = list(groups.items())[-1]
    first, n = FIRST[wanted.method], len(main.values)
    print(
        f"its: {wanted.outcome}, {name}, changed by {said(main.effects[first]['mean'], n)} on a mean day from "
        f"{wanted.start} on ({METHODS[first]}, n {n}); {RESULTS / 'its/its.md'}"
    )


def controls(snapshot: Snapshot, treated: str, condition: str) -> str:
    """The users of the control group, as a query. Raises ParamsError where a user is in both."""
    control = snapshot.users("its.control", condition)
    if both := snapshot.count(f"({treated}) INTERSECT ({control})"):
        raise wrong(
            PARAMS, f"{count(both, 'user')} meet both its.treated and its.control", "groups without common users"
        )
    return control


def beside(fitted: Fitted, outside: Outside) -> Fitted:
    return fitted._replace(effects=fitted.effects | outside.effects, sampler=outside.checks)


def report(groups: Mapping[str, Fitted], several: Mapping[str, Series], wanted: Its) -> dict[str, Any]:
    found = []
    start = groups[TREATED].design.start
    for name, one in groups.items():
        n = len(one.values)
        entry: dict[str, Any] = {"series": name, "n": n, "post": int(one.design.x[:, 2].sum())}
        entry["effects"] = [
            {"effect": effect, "method": method, **shown(interval, n), "n": n}
            for method, effects in one.effects.items()
            for effect, interval in effects.items()
        ]
        entry["relative"] = [
            {"effect": effect, "method": "exact", **shown(interval, n), "n": n}
            for effect, interval in one.relative.items()
            if interval is not None
        ]
        entry["coefficients"] = one.design.x.shape[1]
        entry["hac_lag"] = one.hac_lag
        entry["phi"] = {"method": "exact", "n": n, **shown(one.phi, n), "at_boundary": one.posterior.at_boundary}
        entry["reml_phi"] = {"method": "reml", "n": n, "estimate": one.reml.phi, "at_boundary": one.reml.at_boundary}
        entry["residual_autocorrelation"] = one.residuals
        entry["sampler"] = [check._asdict() for check in one.sampler]
        entry["placebos"] = placebos(several[name], start, wanted)
        entry["notices"] = notices(one)
        found.append(entry)
    did = None
    if DIFFERENCE in several:
        n = len(several[DIFFERENCE].days)
        did = {
            "method": "exact",
            "n": n,
            **shown(difference_in_differences(several[DIFFERENCE], start, wanted.level), n),
        }
    first, (name, main) = FIRST[wanted.method], list(groups.items())[-1]
    return {
        "analysis": "its",
        "outcome": wanted.outcome,
        "start": str(wanted.start),
        "level": wanted.level,
        # What `dvc metrics` shows, which leaves lists out.
        "mean_effect": {"series": name, "method": first, "n": len(main.values)}
        | shown(main.effects[first]["mean"], len(main.values)),
        "groups": found,
        "difference_in_differences": did,
    }


def shown(interval: Interval, n: int) -> dict[str, float | None]:
    if n < FEWEST:
        return {"estimate": interval.estimate, "low": None, "high": None}
    return dict(interval._asdict())


if __name__ == "__main__":
    analyse("its", its)
