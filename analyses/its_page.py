"""The page and the figure of its, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyses import results
from analyses.ar1 import Interval
from analyses.daily import WORDS
from analyses.fitted import DIFFERENCE, TREATED, Fitted
from analyses.its_causalpy import BAYES, OLS
from analyses.results import number, share, with_interval
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

# What the numbers of a series are in.
FILES = {TREATED: "treated", DIFFERENCE: "difference"}

# Whose answer comes first, by `its.method`.
FIRST = {"exact": "exact", "causalpy": BAYES}


def page(content: Mapping[str, Any], groups: Mapping[str, Fitted], wanted: Its) -> str:
    percent, first = share(wanted.level), FIRST[wanted.method]
    users = content["users"]
    lines = [f"# Interrupted time series: {wanted.outcome} from {wanted.start}", ""]
    lines += [f"A day's value is {WORDS[wanted.outcome]}. {percent} intervals in brackets.", ""]
    lines += [f"- Treated, {count(users['treated'], 'user')}: {in_words(wanted.treated)}."]
    lines += (
        [f"- Control, {count(users['control'], 'user')}: {in_words(wanted.control)}."] if "control" in users else []
    )
    lines += ["", "![the series](its.png)", ""]
    for entry, (name, one) in zip(content["groups"], groups.items(), strict=True):
        n = len(one.values)
        main = one.effects[first]["mean"]
        higher = "higher" if main.estimate > 0 else "lower"
        what = wanted.outcome if name == TREATED else f"{wanted.outcome} of the treated minus that of the control"
        shown = {method: words for method, words in METHODS.items() if method in one.effects}
        lines += [
            f"## {name.capitalize()}",
            "",
            f"{count(n, 'day')}, {entry['post']} of them from {wanted.start} on. On a mean day from then on {what} was "
            f"{higher} than without the intervention: {said(main, n)}, by {METHODS[first]}, n {n}.",
            "",
            f"n {n}, {count(entry['coefficients'], 'coefficient')}:",
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
            f"Autocorrelation phi {said(one.phi, n)} by the exact posterior, n {n}; REML's is {number(one.reml.phi)}. "
            f"Of the residuals at lag 1 to {len(one.residuals)}: {', '.join(map(number, one.residuals))}.",
            "",
            *sampler_lines(one),
            *(f"- {notice}." for notice in entry["notices"]),
            "",
            *placebo_lines(entry["placebos"], wanted.level),
        ]
    if (did := content["difference_in_differences"]) is not None:
        found = Interval(did["estimate"], did["low"], did["high"])
        lines += [
            "## Difference in differences",
            "",
            f"{said(found, did['n'])}, exact posterior, n {did['n']}: how much the mean of treated minus control "
            "changed, without slopes and weekdays. Beside the segmented regression above, which comes first.",
            "",
        ]
    lines += method(wanted, groups)
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def in_words(condition: str | None) -> str:
    return "everybody" if condition is None else f"who has a row for which `{' '.join(condition.split())}` holds"


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


def placebo_lines(found: list[dict[str, Any]], level: float) -> list[str]:
    if not found:
        return []
    missed = sum(not one["holds_0"] for one in found)
    return [
        "Placebo days: the same regression of this series on the days before, as if something had happened then. "
        f"{missed} of {len(found)} {share(level)} intervals of the mean effect do not hold 0; of independent ones "
        f"{share(1 - level)} would not by chance, but these share their days.",
        "",
        results.table(
            ["day", "n", "mean effect, exact posterior"],
            [[one["day"], str(one["n"]), with_interval(one["mean"])] for one in found],
        ),
        "",
    ]


def method(wanted: Its, groups: Mapping[str, Fitted]) -> list[str]:
    lag = next(iter(groups.values())).hac_lag
    return [
        "## How",
        "",
        "Segmented regression (Wagner et al. 2002): a level and a slope before, a change of both at the interruption"
        + (", an effect of each weekday" if wanted.weekdays else "")
        + ", errors AR(1) in days. The interval is of the exact posterior with the prior 1 / sigma squared and phi "
        "uniform on 195 points from -0.95 to 0.99; at each phi the coefficients are a t with n - k degrees of freedom, "
        "k being the number of coefficients. "
        f"Newey and West's covariance takes {count(lag, 'lag')}. "
        "Over a missing day the correlation is phi to the power of the gap. An effect is what the fit has beyond the "
        "counterfactual, the line from before carried on. A treated series alone can't tell the intervention from "
        "anything else that began on the same day; the difference to a control group can, as far as both share it.",
        "",
        f"Numbers behind the figure: {', '.join(f'{FILES[name]}.csv' for name in groups)}.",
        "",
    ]


def drawn(rows: Mapping[str, list[tuple[Any, ...]]], users: Mapping[str, int], wanted: Its) -> Any:
    figure = results.new_figure(8.0, 1.0 + 3.0 * len(rows))
    several = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    dashed = f"without the intervention, {share(wanted.level)} interval"
    for axes, (name, own) in zip(several, rows.items(), strict=True):
        known = [(row[0], row[2]) for row in own if row[2] is not None]
        after = [row for row in own if row[4] is not None]
        days = [day for day, _ in known]
        axes.plot(days, [value for _, value in known], "o", ms=3, color=results.GREY, label="day")
        for label, part in (("fit", [row for row in own if row[4] is None]), ("", after)):
            axes.plot([row[0] for row in part], [row[3] for row in part], "-", color=results.BLUE, label=label or None)
        axes.plot([row[0] for row in after], [row[4] for row in after], "--", color=results.ORANGE, label=dashed)
        if after[0][5] is not None:
            low, high = ([row[i] for row in after] for i in (5, 6))
            axes.fill_between([row[0] for row in after], low, high, color=results.ORANGE, alpha=0.2, hatch="//", lw=0)
        axes.axvline(wanted.start, color="black", lw=1, ls=":")
        axes.set_ylabel(f"{wanted.outcome}{', percent' if wanted.outcome == 'mean_score' else ''}")
        group = ", ".join(f"{number_} {of}" for of, number_ in users.items() if name != TREATED or of == "treated")
        axes.set_title(
            f"{name}: {group} users, n {len(known)} days, exact posterior",
            fontsize=10,
        )
    several[0].legend(loc="upper left", frameon=False, ncols=3)
    several[-1].tick_params(axis="x", rotation=30)
    return figure
