"""Interrupted time series: did a day change the outcome, by how much, and how sure is that?

Reads data/export and analyses/params.yaml; writes analyses/results/its.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from analyses import results
from analyses.ar1 import Array, Hac, Interval, Posterior, Reml, Singular, autocorrelation, whiten
from analyses.results import number, with_interval
from analyses.segmented import FEWEST, MANY, SIDE, Design, design, level_only
from analyses.settings import Its, Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")

VALUES = {
    "mean_score": "CAST(sum(score_sum) AS DOUBLE) / nullif(sum(scored_events), 0)",
    "events": "CAST(sum(events) AS DOUBLE)",
    "sessions": "CAST(sum(sessions) AS DOUBLE)",
    "active_minutes": "CAST(sum(active_minutes) AS DOUBLE)",
}

EFFECTS = {
    "level": "on the first day",
    "slope": "more each day after",
    "mean": "on a mean day from then on",
    "cumulative": "over all these days",
}

METHODS = {
    "exact": "exact posterior over phi (the default)",
    "reml": "REML, AR(1), Satterthwaite",
    "hac": "OLS, Newey-West (too short here; for comparison)",
}

LAGS = 7

TREATED, DIFFERENCE = "treated", "treated minus control"


class Series(NamedTuple):
    """A value a day; days without one are left out."""

    days: Array  # (n,): numbers from 0, ascending
    values: Array  # (n,)
    first: date  # day 0
    last: int  # the number of the window's last day

    def day(self, number: float) -> date:
        return self.first + timedelta(days=int(number))


class Fitted(NamedTuple):
    """What the three methods say of a design. Intervals are None for fewer than FEWEST points."""

    design: Design
    values: Array
    effects: dict[str, dict[str, Interval]]  # by method, by effect
    relative: dict[str, Interval | None]  # level and mean, of the counterfactual; empty for a difference
    posterior: Posterior
    reml: Reml
    phi: Interval
    residuals: list[float]  # autocorrelation of whitened residuals at lag 1 to LAGS


def read(snapshot: Snapshot, outcome: str, users: str) -> Series:
    rows = snapshot.rows(
        f"SELECT event_date, {VALUES[outcome]} FROM daily_activity WHERE userId IN ({users}) "
        "GROUP BY event_date ORDER BY event_date"
    )
    known = [((day - snapshot.first).days, value) for day, value in rows if value is not None]
    days, values = (np.array([pair[i] for pair in known], dtype=np.float64) for i in (0, 1))
    return Series(days, values, snapshot.first, (snapshot.last - snapshot.first).days)


def minus(series: Series, control: Series) -> Series:
    """The difference on the days that both have."""
    days, mine, theirs = np.intersect1d(series.days, control.days, return_indices=True)
    return series._replace(days=days, values=series.values[mine] - control.values[theirs])


def check(series: Series, start: int, what: str, coefficients: int) -> None:
    """Raise DataError where there is nothing to fit."""
    before, after = int((series.days < start).sum()), int((series.days >= start).sum())
    if before < SIDE or after < SIDE or before + after <= coefficients:
        raise too_little(
            f"its: {what} has {count(before, 'day')} before {series.day(start)} and {after} from then on",
            f"{SIDE} on either side, and more than {coefficients} in all",
        )
    if np.ptp(series.values) == 0:
        raise too_little(f"its: {what} has the same value on every day", "values that differ")


def fit(series: Series, start: int, wanted: Its, what: str) -> Fitted:
    """Fit a series. Raises DataError where it is degenerate."""
    made = design(series.days, start, series.last, wanted.weekdays, series.first.weekday())
    check(series, start, what, made.x.shape[1])
    try:
        posterior, reml = Posterior(made.x, series.values, series.days), Reml(made.x, series.values, series.days)
    except Singular:
        raise too_little(f"its: {what} lies on a line, or has days of too few kinds", "values that differ") from None
    hac = Hac(made.x, series.values, wanted.hac_lag)
    contrasts, under = made.contrasts(), made.counterfactuals()
    effects = {
        name: {effect: method.interval(contrast, wanted.level) for effect, contrast in contrasts.items()}
        for name, method in (("exact", posterior), ("reml", reml), ("hac", hac))
    }
    relative = {
        effect: posterior.ratio(contrasts[effect], under[effect], wanted.level) for effect in under if what == TREATED
    }
    phi = posterior.phi(wanted.level)
    centre = posterior.weights @ posterior.beta
    white = whiten(series.values - made.x @ centre, series.days, phi.estimate)
    residuals = autocorrelation(white, min(LAGS, len(white) - 2))
    return Fitted(made, series.values, effects, relative, posterior, reml, phi, residuals)


def difference_in_differences(series: Series, start: int, level: float) -> Interval:
    """Of a difference of two groups of which only the level changes."""
    x = level_only(series.days, start)
    return Posterior(x, series.values, series.days).interval(np.array([0.0, 1.0]), level)


def placebos(series: Series, start: int, wanted: Its) -> list[dict[str, Any]]:
    """The same regression on the days before, as if the interruption had come earlier."""
    before = series.days < start
    own = series._replace(days=series.days[before], values=series.values[before], last=start - 1)
    room = range(int(own.days.min()) + FEWEST, start - FEWEST + 1)
    if wanted.placebos == 0 or not room:
        return []
    chosen = sorted({int(day) for day in np.linspace(room[0], room[-1], wanted.placebos).round()})
    found = []
    for day in chosen:
        made = design(own.days, day, own.last, wanted.weekdays, own.first.weekday())
        try:
            interval = Posterior(made.x, own.values, own.days).interval(made.contrasts()["mean"], wanted.level)
        except Singular:
            continue
        found.append({"day": str(series.day(day)), "mean": interval, "holds_0": interval.low <= 0 <= interval.high})
    return found


def bands(fitted: Fitted, series: Series, level: float) -> list[tuple[Any, ...]]:
    """For each day of the window: value, fit, counterfactual with its interval."""
    all_days = np.arange(series.last + 1, dtype=np.float64)
    with_it, without = fitted.design.rows(all_days), fitted.design.rows(all_days, treated=False)
    values = dict(zip(series.days.astype(int).tolist(), series.values.tolist(), strict=True))
    rows = []
    for day in range(series.last + 1):
        fit_ = fitted.posterior.mean(with_it[day])
        row: tuple[Any, ...] = (series.day(day), values.get(day), fit_)
        if day >= fitted.design.start:
            row += tuple(fitted.posterior.interval(without[day], level))
        else:
            row += (None, None, None)
        rows.append(row)
    return rows


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


def said(found: Interval, n: int) -> str:
    if n < FEWEST:
        return f"{number(found.estimate)} (no interval: {count(n, 'day')}, and fewer than {FEWEST} give none)"
    return with_interval(found)


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


def notices(fitted: Fitted) -> list[str]:
    n = len(fitted.values)
    found = []
    if n < FEWEST:
        found.append(f"{count(n, 'point')}: no interval, which fewer than {FEWEST} do not give")
    elif n < MANY:
        found.append(f"{count(n, 'point')}: intervals of fewer than {MANY} lean on the model")
    if fitted.posterior.at_boundary or fitted.reml.at_boundary:
        found.append(
            "phi sits at its boundary: the series may not be stationary, a trend may be chance, an interval too short"
        )
    bound = 2 / np.sqrt(n)
    far = [lag for lag, value in enumerate(fitted.residuals, 1) if abs(value) > bound]
    if far:
        lags = ", ".join(map(str, far))
        found.append(f"residuals are correlated beyond {bound:.2f} at lag {lags}: AR(1) may not be all of it")
    missing = fitted.design.last + 1 - n
    if missing:
        found.append(f"{count(missing, 'day')} of the window without a value; the model spans them")
    return found


def page(content: Mapping[str, Any], groups: Mapping[str, Fitted], series: Series, wanted: Its) -> str:
    percent = f"{wanted.level:.0%}"
    lines = [f"# Interrupted time series: {wanted.outcome} from {wanted.start}", ""]
    for entry, (name, one) in zip(content["groups"], groups.items(), strict=True):
        main = one.effects["exact"]
        n = len(one.values)
        lines += [
            f"## {name.capitalize()}",
            "",
            f"{count(n, 'day')}, {entry['post']} of them from {wanted.start} on, {count(content['users'], 'user')}. "
            f"From then on {wanted.outcome} was {said(main['mean'], n)} other than without the intervention, on a mean "
            f"day: {percent} interval in brackets, by the exact posterior.",
            "",
            results.table(
                ["effect", *METHODS.values()],
                [
                    [f"{effect}: {words}", *(said(one.effects[method][effect], n) for method in METHODS)]
                    for effect, words in EFFECTS.items()
                ],
            ),
            "",
            *relative_lines(one),
            f"Autocorrelation phi {said(one.phi, n)}; REML's is {number(one.reml.phi)}.",
            "",
            *(f"- {notice}." for notice in entry["notices"]),
            "",
        ]
    if (did := content["difference_in_differences"]) is not None:
        found = Interval(did["estimate"], did["low"], did["high"])
        lines += [f"Difference in differences, by the level alone: {with_interval(found)}.", ""]
    lines += ["![the series](its.png)", "", *placebo_lines(content["placebos"], percent), *method(wanted, series)]
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def relative_lines(fitted: Fitted) -> list[str]:
    if not fitted.relative:
        return []
    parts = [
        f"{effect} {'none, for it may be 0' if ratio is None else said(percents(ratio), len(fitted.values)) + ' %'}"
        for effect, ratio in fitted.relative.items()
    ]
    return [f"Relative to the counterfactual: {'; '.join(parts)}.", ""]


def percents(ratio: Interval) -> Interval:
    return Interval(*(100 * one for one in ratio))


def placebo_lines(found: list[dict[str, Any]], percent: str) -> list[str]:
    if not found:
        return []
    missed = sum(not one["holds_0"] for one in found)
    return [
        "## Placebo days",
        "",
        f"The same regression on the days before, as if something had happened then. {missed} of {len(found)} "
        f"{percent} intervals of the mean effect do not hold 0; by chance one in twenty would not.",
        "",
        results.table(["day", "mean effect"], [[one["day"], with_interval(one["mean"])] for one in found]),
        "",
    ]


def method(wanted: Its, series: Series) -> list[str]:
    return [
        "## How",
        "",
        "Segmented regression (Wagner et al. 2002): a level and a slope before, a change of both at the interruption"
        + (", an effect of each weekday" if wanted.weekdays else "")
        + ", errors AR(1) in days. The interval is of the exact posterior with the prior 1 / sigma squared and phi "
        "uniform on 195 points from -0.95 to 0.99; at each phi the coefficients are a t with n - k degrees of freedom. "
        "Over a missing day the correlation is phi to the power of the gap. An effect is what the fit has beyond the "
        "counterfactual, the line from before carried on. A treated series alone can't tell the intervention from "
        "anything else that began on the same day; the difference to a control group can, as far as both share it.",
        "",
        f"Numbers behind the figure: series.csv, {series.first} to {series.day(series.last)}.",
        "",
    ]


def drawn(rows: list[tuple[Any, ...]], wanted: Its) -> Any:
    figure = results.new_figure()
    axes = figure.subplots()
    days = [row[0] for row in rows]
    known = [(row[0], row[1]) for row in rows if row[1] is not None]
    after = [row for row in rows if row[3] is not None]
    axes.plot([day for day, _ in known], [value for _, value in known], "o", ms=3, color=results.GREY, label="day")
    axes.plot(days, [row[2] for row in rows], "-", color=results.BLUE, label="fit")
    axes.plot([row[0] for row in after], [row[3] for row in after], "--", color=results.ORANGE, label="without")
    low, high = ([row[i] for row in after] for i in (4, 5))
    axes.fill_between([row[0] for row in after], low, high, color=results.ORANGE, alpha=0.2, hatch="//", lw=0)
    axes.axvline(wanted.start, color="black", lw=1, ls=":")  # type: ignore[arg-type]
    axes.set_ylabel(wanted.outcome)
    axes.set_title(f"{wanted.outcome}, interrupted on {wanted.start}; dashed: without, {wanted.level:.0%} interval")
    axes.legend(loc="upper left", frameon=False, ncols=3)
    axes.tick_params(axis="x", rotation=30)
    return figure


if __name__ == "__main__":
    analyse("its", its)
