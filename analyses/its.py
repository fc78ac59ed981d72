"""Interrupted time series: did a day change the outcome, by how much, and how sure is that?

Reads data/export and analyses/params.yaml; writes analyses/results/its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyses import results
from analyses.ar1 import Interval
from analyses.daily import Series, minus, read
from analyses.fitted import DIFFERENCE, TREATED, Fitted, bands, difference_in_differences, fit, notices, placebos
from analyses.its_page import drawn, page, said
from analyses.segmented import FEWEST
from analyses.settings import Its, Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")


def its(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.its
    start = (wanted.start - snapshot.first).days
    treated = snapshot.users("its.treated", wanted.treated)
    series = read(snapshot, wanted.outcome, treated)
    groups = {TREATED: fit(series, start, wanted, TREATED)}
    compared: Series | None = None
    did: Interval | None = None
    if wanted.control is not None:
        control = snapshot.users("its.control", wanted.control)
        both = snapshot.rows(f"SELECT count(*) FROM (({treated}) INTERSECT ({control}))")[0][0]
        if both:
            raise too_little(f"its: {count(both, 'user')} meet both its.treated and its.control", "groups of two")
        compared = minus(series, read(snapshot, wanted.outcome, control))
        groups[DIFFERENCE] = fit(compared, start, wanted, DIFFERENCE)
        did = difference_in_differences(compared, start, wanted.level)
    users = snapshot.rows(f"SELECT count(*) FROM ({treated})")[0][0]
    content = report(groups, did, placebos(series, start, wanted), wanted)
    content |= {"users": users, "provenance": snapshot.provenance(wanted, PACKAGES)}
    rows = bands(groups[TREATED], series, wanted.level)
    files = {
        "its.json": results.as_json(content),
        "series.csv": results.as_csv(("event_date", "value", "fit", "without", "without_low", "without_high"), rows),
        "its.md": page(content, groups, series, wanted).encode(),
        **results.figures("its", drawn(rows, wanted)),
    }
    snapshot.check()
    results.write(RESULTS / "its", files)
    main = groups.get(DIFFERENCE, groups[TREATED]).effects["exact"]["mean"]
    print(f"its: {wanted.outcome} changed by {said(main, len(series.days))} on a mean day; {RESULTS / 'its/its.md'}")


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
        entry["phi"] = {**shown(one.phi, n), "at_boundary": one.posterior.at_boundary}
        entry["reml_phi"] = {"estimate": one.reml.phi, "at_boundary": one.reml.at_boundary}
        entry["residual_autocorrelation"] = one.residuals
        entry["notices"] = notices(one)
        found.append(entry)
    return {
        "analysis": "its",
        "outcome": wanted.outcome,
        "start": str(wanted.start),
        "level": wanted.level,
        "groups": found,
        "difference_in_differences": None if did is None else {"method": "exact", **did._asdict()},
        "placebos": placebo,
    }


def shown(interval: Interval, n: int) -> dict[str, float | None]:
    if n < FEWEST:
        return {"estimate": interval.estimate, "low": None, "high": None}
    return dict(interval._asdict())


if __name__ == "__main__":
    analyse("its", its)
