"""The page and the figure of its, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyses import results
from analyses.ar1 import Interval
from analyses.daily import Series
from analyses.fitted import Fitted
from analyses.its_causalpy import BAYES, OLS
from analyses.results import number, with_interval
from analyses.segmented import FEWEST
from analyses.settings import Its
from pipeline.core.progress import count

EFFECTS = {
    "level": "on the first day",
    "slope": "more each day after",
    "mean": "on a mean day from then on",
    "cumulative": "over all these days",
}

METHODS = {
    "exact": "exact posterior over phi",
    "reml": "REML, AR(1), Satterthwaite",
    "hac": "OLS, Newey-West (too short here; for comparison)",
    BAYES: "CausalPy, Bayes (too short here)",
    OLS: "CausalPy, OLS (far too short)",
}

# Whose answer comes first, by `its.method`.
FIRST = {"exact": "exact", "causalpy": BAYES}


def page(content: Mapping[str, Any], groups: Mapping[str, Fitted], series: Series, wanted: Its) -> str:
    percent = f"{wanted.level:.0%}"
    lines = [f"# Interrupted time series: {wanted.outcome} from {wanted.start}", ""]
    for entry, (name, one) in zip(content["groups"], groups.items(), strict=True):
        first, n = FIRST[wanted.method], len(one.values)
        shown = {method: words for method, words in METHODS.items() if method in one.effects}
        lines += [
            f"## {name.capitalize()}",
            "",
            f"{count(n, 'day')}, {entry['post']} of them from {wanted.start} on, {count(content['users'], 'user')}. "
            f"From then on {wanted.outcome} was {said(one.effects[first]['mean'], n)} other than without the "
            f"intervention, on a mean day: {percent} interval in brackets, by {METHODS[first]}, n {n}.",
            "",
            results.table(
                ["effect", *shown.values()],
                [
                    [f"{effect}: {words}", *(said(one.effects[method].get(effect), n) for method in shown)]
                    for effect, words in EFFECTS.items()
                ],
            ),
            "",
            *relative_lines(one),
            f"Autocorrelation phi {said(one.phi, n)} by the exact posterior, n {n}; REML's is {number(one.reml.phi)}.",
            "",
            *sampler_lines(one),
            *(f"- {notice}." for notice in entry["notices"]),
            "",
        ]
    if (did := content["difference_in_differences"]) is not None:
        found = Interval(did["estimate"], did["low"], did["high"])
        lines += [
            f"Difference in differences, by the level alone: {with_interval(found)}, exact posterior, n {did['n']}.",
            "",
        ]
    lines += ["![the series](its.png)", "", *placebo_lines(content["placebos"], percent), *method(wanted, series)]
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def said(found: Interval | None, n: int) -> str:
    if found is None:
        return "none"
    if n < FEWEST:
        return f"{number(found.estimate)} (no interval: {count(n, 'day')}, and fewer than {FEWEST} give none)"
    return with_interval(found)


def relative_lines(fitted: Fitted) -> list[str]:
    if not fitted.relative:
        return []
    parts = [
        f"{effect} {'none, for it may be 0' if ratio is None else said(percents(ratio), len(fitted.values)) + ' %'}"
        for effect, ratio in fitted.relative.items()
    ]
    by = f"by the exact posterior, n {len(fitted.values)}"
    return [f"Relative to the counterfactual, {by}: {'; '.join(parts)}.", ""]


def sampler_lines(fitted: Fitted) -> list[str]:
    if not fitted.sampler:
        return []
    rows = [[one.name, f"{one.value:.4g}", one.expected, "yes" if one.passed else "NO"] for one in fitted.sampler]
    return [results.table(["CausalPy's sampler", "is", "expected", "passed"], rows), ""]


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
        results.table(
            ["day", "n", "mean effect, exact posterior"],
            [[one["day"], str(one["n"]), with_interval(one["mean"])] for one in found],
        ),
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
    axes.set_title(
        f"{wanted.outcome}, interrupted on {wanted.start}; dashed: without the intervention, "
        f"{wanted.level:.0%} interval (exact posterior, n {len(known)})",
        fontsize=9,
    )
    axes.legend(loc="upper left", frameon=False, ncols=3)
    axes.tick_params(axis="x", rotation=30)
    return figure
