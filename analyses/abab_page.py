"""The page and the figures of abab, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analyses import results
from analyses.cases import NAMES, Found
from analyses.results import number, p_value, with_interval
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
    percent = f"{wanted.level:.0%}"
    smd = overall["standardised_mean_difference"]
    lines = [
        "# ABAB: what the intervention did",
        "",
        f"{headline(overall)}.",
        "",
        "![the effects](effects.png)",
        "",
        "## Over all cases",
        "",
        "No standardised mean difference: fewer than three cases, or phases of one point."
        if smd is None
        else f"Between-case standardised mean difference (Hedges, Pustejovsky and Shadish 2012): {number(smd['delta'])}"
        f", standard error {number(smd['se'])}, {count(smd['cases'], 'case')}, {number(smd['nu'], 1)} degrees of "
        f"freedom; autocorrelation phi {number(smd['phi'])}, share of the variance between cases rho "
        f"{number(smd['rho'])}.",
        "",
        "## Each case",
        "",
        f"Sessions in each phase, the mean score, B minus A with its {percent} interval, and the randomization test: "
        "two-sided, over all days of change that the design could have drawn. The interval is of the constant effects "
        "that this test does not reject.",
        "",
        results.table(
            ["case", "sessions", "A1", "B1", "A2", "B2", "B minus A", "p", "assignments", "WWC"],
            [case_line(one) for one in found],
        ),
        "",
        *(f"- Case {one.case.number}: no p, {one.why_no_p}." for one in found if one.why_no_p),
        *(
            f"- Case {one.case.number}: the days of change were read off its first sessions."
            for one in found
            if one.case.plan is not None and one.case.plan.read_off
        ),
        "",
        "## Overlap",
        "",
        f"NAP and Tau with Newcombe's {percent} interval; Tau-U has none, since its distribution has not been "
        "described; Tau corrected for the baseline's trend (Tarlow 2017). They take sessions for independent.",
        "",
        results.table(
            ["case", "phases", "n", "NAP", "Tau", "Tau-U", "corrected Tau", "p of it"],
            [
                [
                    str(one.case.number),
                    name,
                    str(one.corrected[name].n),
                    with_interval(o.nap),
                    with_interval(o.tau),
                    number(o.tau_u),
                    with_interval(one.corrected[name].tau),
                    f"{one.corrected[name].p:.3f}" if one.corrected[name].p >= 0.001 else "under 0.001",
                ]
                for one in found
                for name, o in one.overlaps.items()
            ],
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


def method(wanted: Abab) -> list[str]:
    return [
        "## How",
        "",
        "A point is the mean score of a session. The days on which phases change were drawn among all that leave each "
        "phase its shortest length, so p is the share of these assignments whose B minus A (the mean of all points in "
        "B minus that in A) is at least as far from 0 as the one that was drawn; up to "
        f"{wanted.bound:,} of them are all counted, beyond "
        f"that {wanted.draws:,} draws from seed {wanted.seed}. p is never less than one over their "
        "number. Over all cases each is drawn apart. Phases and points are judged by the What Works Clearinghouse's "
        "technical documentation 1.0 (Kratochwill et al. 2010): five points in each of four phases, or three with "
        "reservations. Case numbers follow the order of userId.",
        "",
    ]


def case_line(one: Found) -> list[str]:
    return [
        str(one.case.number),
        "/".join(str(phase["n"]) for phase in one.phases),
        *(number(phase["mean"], 1) for phase in one.phases),
        number(one.difference) if one.effect is None else with_interval(one.effect),
        "none" if one.test is None else p_value(one.test.p, 1 / one.test.assignments),
        "none" if one.test is None else f"{one.test.assignments:,}",
        one.standard,
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
    axes.set_ylabel("mean score")
    axes.set_title(f"case {one.case.number}", loc="left", fontsize=10)
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
    axes.set_xlabel("B minus A, in percent of score")
    axes.set_title(
        f"effect in each case, {wanted.level:.0%} interval of its randomization test; dashed: mean", fontsize=10
    )
    return figure
