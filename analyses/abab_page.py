"""The page and the figures of abab, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analyses import results
from analyses.cases import NAMES, Found
from analyses.results import number, p_value, share, with_interval
from analyses.settings import Abab
from pipeline.core.progress import count


def headline(overall: Mapping[str, Any]) -> str:
    cases = count(overall["whole_cases"], "case")
    words = f"{cases} with all phases; B minus A is {number(overall['mean_difference'])} on average"
    test = overall["randomization"]
    if test:
        words += f", p {p_value(test['p'], 1 / test['assignments'])} of {test['assignments']:,} draws"
        words += f" ({count(test['cases'], 'case')}, combined randomization test)"
    return words


def page(content: Mapping[str, Any], found: Sequence[Found], overall: Mapping[str, Any], wanted: Abab) -> str:
    percent = share(wanted.level)
    labels = content["phases"]
    lines = [
        "# ABAB: what the intervention did",
        "",
        f"{headline(overall)}.",
        "",
        "A point is the mean sessionPerformanceScore of a session, in percent. "
        + ", ".join(f"{name} is `{label}`" for name, label in labels.items())
        + ".",
        "",
        "![the effects](effects.png)",
        "",
        "## Over all cases",
        "",
        *overall_lines(overall),
        "## Each case",
        "",
        f"Sessions in each phase, the mean score, B minus A with its {percent} interval, and the randomization test: "
        "two-sided, over all days of change that the design could have drawn. The interval is of the constant effects "
        f"that this test does not reject. With {count(len(found), 'case')} some p are small by chance; they are not "
        "corrected for that, and the combined test is one. WWC: whether the phases and the points in them are as many "
        "as the What Works Clearinghouse asks; its standards ask for more than numbers.",
        "",
        results.table(
            ["case", "n", "sessions", *labels, "B minus A", "p", "assignments", "points, by WWC 2010"],
            [case_line(one) for one in found],
        ),
        "",
        *(f"- Case {one.case.number}: no p, {one.why_no_p}." for one in found if one.why_no_p),
        "",
        *design_lines(found),
        "## Overlap",
        "",
        f"NAP and Tau with Newcombe's {percent} interval; Tau-U has none, since its distribution has not been "
        "described, and may be above 1. Corrected Tau (Tarlow 2017) is Kendall's tau-b of score and phase, which does "
        "not reach 1 here; the line of the baseline is taken off first where the baseline has a trend at 0.05. Its "
        "interval is by the standard error sqrt(2 / n (1 - tau squared)), its p Kendall's own, so they may disagree. "
        "All of these take sessions for independent. "
        + (
            "Lower is better: above 0.5 (NAP) and 0 (the others) is an improvement. B minus A keeps its sign."
            if wanted.improvement == "decrease"
            else "Higher is better: above 0.5 (NAP) and 0 (the others) is an improvement."
        ),
        "",
        results.table(
            ["case", "phases", "n", "NAP", "Tau", "Tau-U", "tau-b", "baseline's p", "corrected", "corrected Tau", "p"],
            [overlap_line(one, name) for one in found for name in one.overlaps],
        ),
        "",
        *method(wanted),
        *(f"![case {one.case.number}](case-{one.case.number:03}.png)" for one in found[: wanted.plots]),
        "",
        *(
            [f"{count(len(found) - wanted.plots, 'more case')} not drawn: abab.plots.", ""]
            if len(found) > wanted.plots
            else []
        ),
    ]
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def overall_lines(overall: Mapping[str, Any]) -> list[str]:
    smd = overall["standardised_mean_difference"]
    counted = f"{count(overall['whole_cases'], 'case')}, {count(overall['sessions'], 'session')}"
    lines = [
        f"Mean of the cases' B minus A, each counted once: {number(overall['mean_difference'])} ({counted}).",
        "",
        "No standardised mean difference: fewer than three cases, phases of one point, or points that do not vary."
        if smd is None
        else f"Between-case standardised mean difference (Hedges, Pustejovsky and Shadish 2012): {number(smd['delta'])}"
        f", standard error {number(smd['se'])}, {counted}, {number(smd['nu'], 1)} degrees of freedom; autocorrelation "
        f"phi {number(smd['phi'])}, share of the variance between cases rho {number(smd['rho'])}.",
        "",
    ]
    test = overall["randomization"]
    if test and test["p"] <= 1 / test["assignments"]:
        lines += [f"The combined test's p is the least that {test['assignments']:,} draws can give.", ""]
    return lines


def design_lines(found: Sequence[Found]) -> list[str]:
    """Each case's days of change, and the design they were drawn from."""
    rows = [
        [
            str(one.case.number),
            "read off" if plan.read_off else "the app",
            str(plan.start),
            str(plan.days),
            str(plan.shortest),
            ", ".join(map(str, plan.changes)),
        ]
        for one in found
        if (plan := one.case.plan) is not None
    ]
    return ["## Design", "", results.table(["case", "from", "start", "days", "least a phase", "changes"], rows), ""]


def method(wanted: Abab) -> list[str]:
    drawn = (
        "The days on which phases change were drawn among all that leave each phase its shortest length, so p is the "
        "share of these assignments whose B minus A (the mean of all points in B minus that in A) is at least as far "
        f"from 0 as the one that was drawn; up to {wanted.bound:,} of them are all counted, beyond that "
        f"{wanted.draws:,} draws from seed {wanted.seed}. p is never less than one over their number. Over all cases "
        "each is drawn apart. "
        if wanted.randomised
        else "The days on which phases change were not drawn, so there is no randomization test and no interval of it. "
    )
    return [
        "## How",
        "",
        drawn + "Phases and points are counted after the What Works Clearinghouse's technical documentation 1.0 "
        "(Kratochwill et al. 2010): five points in each of four phases, or three with reservations. Case numbers "
        "follow the order of userId.",
        "",
    ]


def case_line(one: Found) -> list[str]:
    return [
        str(one.case.number),
        str(len(one.case.sessions)),
        "/".join(str(phase["n"]) for phase in one.phases),
        *(number(phase["mean"], 1) for phase in one.phases),
        number(one.difference) if one.effect is None else with_interval(one.effect),
        "none" if one.test is None else p_value(one.test.p, 1 / one.test.assignments),
        "none" if one.test is None else f"{one.test.assignments:,}",
        one.standard,
    ]


def overlap_line(one: Found, name: str) -> list[str]:
    overlap, corrected = one.overlaps[name], one.corrected[name]
    return [
        str(one.case.number),
        name,
        str(corrected.n),
        with_interval(overlap.nap),
        with_interval(overlap.tau),
        number(overlap.tau_u),
        number(corrected.uncorrected),
        f"{corrected.baseline_p:.3f}",
        "yes" if corrected.corrected else "no",
        with_interval(corrected.tau),
        f"{corrected.p:.3f}" if corrected.p >= 0.001 else "under 0.001",
    ]


def drawn_case(one: Found) -> Any:
    figure = results.new_figure(8.0, 2.6)
    axes = figure.subplots()
    for phase in range(len(NAMES)):
        times, values = one.case.times(phase), one.case.points(phase)
        if not len(values):
            continue
        in_b = phase % 2 == 1
        colour, mark = (results.ORANGE, "s") if in_b else (results.BLUE, "o")
        axes.plot(times, values, "-", marker=mark, ms=4, lw=1, color=colour, mfc=colour if in_b else "white")
        axes.hlines(values.mean(), times[0], times[-1], color="black", ls="--", lw=1)
        axes.text(times.mean(), 1.02, NAMES[phase], ha="center", transform=axes.get_xaxis_transform())
        if phase:
            axes.axvline(times[0] - 0.5, color="black", lw=1, ls=":")
    axes.set_xlabel("session")
    axes.set_ylabel("mean score, percent")
    axes.set_title(f"case {one.case.number}, n {len(one.case.sessions)}", loc="left", fontsize=10)
    return figure


def drawn_effects(found: Sequence[Found], overall: Mapping[str, Any], wanted: Abab) -> Any:
    shown = [one for one in found if one.difference is not None]
    figure = results.new_figure(8.0, max(2.5, min(0.28 * len(shown) + 1.2, 40)))
    axes = figure.subplots()
    for place, one in enumerate(shown):
        if one.effect is not None:
            axes.hlines(place, one.effect.low, one.effect.high, color=results.BLUE, lw=2)
        filled = results.BLUE if one.effect is not None else "white"
        axes.plot([one.difference or 0.0], [place], "o", color=results.BLUE, mfc=filled)
    axes.axvline(0, color="black", lw=1, ls=":")
    axes.axvline(overall["mean_difference"], color=results.ORANGE, lw=1, ls="--")
    if len(shown) <= 60:
        axes.set_yticks(range(len(shown)), [f"case {one.case.number}, n {len(one.case.sessions)}" for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel("B minus A, in points of score (0 to 100)")
    interval = f", {share(wanted.level)} interval of its randomization test" if wanted.randomised else ""
    axes.set_title(f"effect in each case{interval}; dashed: mean", fontsize=10)
    return figure
