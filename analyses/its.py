"""Interrupted time series: did a day change the outcome, by how much, and how sure is that?

Reads data/export and analyses/params.yaml; writes analyses/results/its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyses import its_causalpy, results
from analyses.ar1 import Interval
from analyses.daily import minus, read
from analyses.fitted import DIFFERENCE, TREATED, Fitted, bands, difference_in_differences, fit, notices, placebos
from analyses.its_causalpy import Outside
from analyses.its_page import FIRST, METHODS, drawn, page, said
from analyses.segmented import FEWEST
from analyses.settings import Its, Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")


def its(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.its
    by_causalpy = wanted.method == "causalpy"
    if by_causalpy:
        its_causalpy.require()
    start = (wanted.start - snapshot.first).days
    treated = snapshot.users("its.treated", wanted.treated)
    series = read(snapshot, wanted.outcome, treated)
    several = {TREATED: series}
    if wanted.control is not None:
        several[DIFFERENCE] = minus(series, read(snapshot, wanted.outcome, controls(snapshot, treated, wanted.control)))
    groups = {name: fit(one, start, wanted, name) for name, one in several.items()}
    if by_causalpy:
        for name, one in several.items():
            groups[name] = beside(groups[name], its_causalpy.look(one, start, wanted))
    did = difference_in_differences(several[DIFFERENCE], start, wanted.level) if DIFFERENCE in several else None
    users = snapshot.rows(f"SELECT count(*) FROM ({treated})")[0][0]
    content = report(groups, did, placebos(series, start, wanted), wanted)
    packages = PACKAGES + (its_causalpy.PACKAGES if by_causalpy else ())
    content |= {"users": users, "provenance": snapshot.provenance(wanted, packages)}
    rows = bands(groups[TREATED], series, wanted.level)
    files = {
        "its.json": results.as_json(content),
        "series.csv": results.as_csv(("event_date", "value", "fit", "without", "without_low", "without_high"), rows),
        "its.md": page(content, groups, series, wanted).encode(),
        **results.figures("its", drawn(rows, wanted)),
    }
    snapshot.check()
    results.write(RESULTS / "its", files)
    first = FIRST[wanted.method]
    main = groups.get(DIFFERENCE, groups[TREATED])
    print(
        f"its: {wanted.outcome} changed by {said(main.effects[first]['mean'], len(main.values))} on a mean day "
        f"({METHODS[first]}, n {len(main.values)}); {RESULTS / 'its/its.md'}"
    )


def controls(snapshot: Snapshot, treated: str, condition: str) -> str:
    """The users of the control group, as a query. Raises DataError where a user is in both."""
    control = snapshot.users("its.control", condition)
    both = snapshot.rows(f"SELECT count(*) FROM (({treated}) INTERSECT ({control}))")[0][0]
    if both:
        raise too_little(f"its: {count(both, 'user')} meet both its.treated and its.control", "groups of two")
    return control


def beside(fitted: Fitted, outside: Outside) -> Fitted:
    return fitted._replace(effects=fitted.effects | outside.effects, sampler=outside.checks)


def report(
    groups: Mapping[str, Fitted], did: Interval | None, placebo: list[dict[str, Any]], wanted: Its
) -> dict[str, Any]:
    found = []
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
        entry["phi"] = {"method": "exact", "n": n, **shown(one.phi, n), "at_boundary": one.posterior.at_boundary}
        entry["reml_phi"] = {"method": "reml", "n": n, "estimate": one.reml.phi, "at_boundary": one.reml.at_boundary}
        entry["residual_autocorrelation"] = one.residuals
        entry["sampler"] = [check._asdict() for check in one.sampler]
        entry["notices"] = notices(one)
        found.append(entry)
    did_n = len(groups[DIFFERENCE].values) if DIFFERENCE in groups else None
    return {
        "analysis": "its",
        "outcome": wanted.outcome,
        "start": str(wanted.start),
        "level": wanted.level,
        "groups": found,
        "difference_in_differences": None if did is None else {"method": "exact", "n": did_n, **did._asdict()},
        "placebos": placebo,
    }


def shown(interval: Interval, n: int) -> dict[str, float | None]:
    if n < FEWEST:
        return {"estimate": interval.estimate, "low": None, "high": None}
    return dict(interval._asdict())


if __name__ == "__main__":
    analyse("its", its)
