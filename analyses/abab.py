"""ABAB reversal designs: what the intervention did in each case, and over all cases.

Reads data/export, params.yaml (the labels of the phases) and analyses/params.yaml; writes analyses/results/abab. A
point is the mean score of a session. Cases have numbers there, in the order of their userId, since results are in Git.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np

from analyses import between_cases, randomization, results
from analyses.ar1 import Array, Interval
from analyses.overlap import Corrected, Overlap, corrected_tau, overlap
from analyses.randomization import Test
from analyses.results import number, p_value, with_interval
from analyses.settings import Abab, Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.params import load_params
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")

NAMES = ("A1", "B1", "A2", "B2")

# Kratochwill, Hitchcock, Horner, Levin, Odom, Rindskopf and Shadish (2010), Single-case designs technical
# documentation, What Works Clearinghouse, version 1.0 (Pilot), B: four phases a case with at least five points each, or
# with reservations at least three.
PHASES_NEEDED, WITHOUT_RESERVATIONS, WITH_RESERVATIONS = 4, 5, 3


class Plan(NamedTuple):
    """How the days of change were drawn."""

    start: date
    days: int
    shortest: int
    changes: tuple[date, ...]
    read_off: bool  # from the first sessions of the phases, since the app did not write it

    @property
    def cut(self) -> tuple[int, int, int]:
        first, second, third = ((day - self.start).days for day in self.changes)
        return first, second, third


class Session(NamedTuple):
    number: int
    phase: int  # 0 to 3
    day: date
    score: float


class Case(NamedTuple):
    """A user in the experiment. Sessions without a score are no points."""

    number: int
    sessions: tuple[Session, ...]
    plan: Plan | None  # None where a phase is missing

    def points(self, phase: int) -> Array:
        return np.array([one.score for one in self.sessions if one.phase == phase])

    def times(self, phase: int) -> Array:
        return np.array([one.number for one in self.sessions if one.phase == phase], dtype=np.float64)

    def occasions(self, shortest: int) -> randomization.Case:
        """Points by day. The case has to have a plan."""
        assert self.plan is not None
        sums, counts = np.zeros(self.plan.days), np.zeros(self.plan.days)
        for one in self.sessions:
            at = (one.day - self.plan.start).days
            if 0 <= at < self.plan.days:
                sums[at] += one.score
                counts[at] += 1
        return randomization.Case(sums, counts, self.plan.cut, shortest)


class Found(NamedTuple):
    """What is said of a case."""

    case: Case
    standard: str
    phases: list[dict[str, Any]]
    overlaps: dict[str, Overlap]
    corrected: dict[str, Corrected]
    test: Test | None
    effect: Interval | None
    why_no_p: str
    difference: float | None


def read(snapshot: Snapshot, labels: Sequence[str], wanted: Abab) -> list[Case]:
    """All cases. Raises DataError where there is none."""
    rows = snapshot.rows(
        "SELECT userId, session_number, phase, event_date, score FROM abab_sessions ORDER BY userId, session_number"
    )
    plans: dict[str, str] = dict(
        snapshot.rows(
            "SELECT userId, any_value(eventData ->> '$.experiment' ORDER BY timestamp) FROM behavioral_events "
            "WHERE eventType = 'SESSION_STARTED' AND (eventData ->> '$.experiment') IS NOT NULL GROUP BY userId"
        )
    )
    sessions: dict[str, list[Session]] = {}
    for user, number_, phase, day, score in rows:
        own = sessions.setdefault(user, [])
        if score is not None and phase in labels:
            own.append(Session(number_, labels.index(phase), day, score))
    if not sessions:
        raise too_little("abab: no session lies in an experiment", "rows with an experimentPhase")
    return [
        Case(place, tuple(own), plan(own, plans.get(user), wanted))
        for place, (user, own) in enumerate(sorted(sessions.items()), 1)
    ]


def plan(sessions: Sequence[Session], written: str | None, wanted: Abab) -> Plan | None:
    """As the app wrote it to eventData.experiment, or read off the first session of each phase."""
    if written is not None:
        try:
            data = json.loads(written)
            changes = tuple(date.fromisoformat(day) for day in data["changes"])
            if len(changes) == len(NAMES) - 1:
                start = date.fromisoformat(data["start"])
                return Plan(start, int(data["days"]), int(data["min_days"]), changes, False)
        except (ValueError, KeyError, TypeError):
            pass  # another form than ours: read off
    first: dict[int, date] = {}
    for one in sessions:
        first.setdefault(one.phase, one.day)
    if sorted(first) != list(range(len(NAMES))):
        return None
    begin, *rest = (first[phase] for phase in range(len(NAMES)))
    return Plan(begin, wanted.days, wanted.shortest, tuple(rest), True)


def standard(case: Case) -> str:
    """As to the number of phases and points; the design standards ask for more."""
    points = [len(case.points(phase)) for phase in range(len(NAMES))]
    if sum(one > 0 for one in points) < PHASES_NEEDED or min(points) < WITH_RESERVATIONS:
        return "does not meet"
    return "meets" if min(points) >= WITHOUT_RESERVATIONS else "meets with reservations"


def look(case: Case, wanted: Abab) -> Found:
    phases, lower = [phase_of(case, phase) for phase in range(len(NAMES))], wanted.improvement == "decrease"
    overlaps, corrected = {}, {}
    for a, b in ((0, 1), (2, 3)):
        before, after = case.points(a), case.points(b)
        if len(before) >= WITH_RESERVATIONS and len(after) >= WITH_RESERVATIONS:
            name = f"{NAMES[a]} to {NAMES[b]}"
            overlaps[name] = overlap(before, after, wanted.level, lower)
            signed = -1.0 if lower else 1.0
            corrected[name] = corrected_tau(signed * before, signed * after, wanted.level)
    why = why_no_p(case, wanted)
    test = effect = None
    difference = None
    if all(len(case.points(phase)) for phase in range(len(NAMES))):
        in_b, in_a = (np.concatenate([case.points(i), case.points(i + 2)]).mean() for i in (1, 0))
        difference = float(in_b - in_a)
    if not why:
        occasions = case.occasions(case.plan.shortest if case.plan else wanted.shortest)
        test = randomization.test(occasions, wanted.bound, wanted.draws, wanted.seed)
        effect = randomization.interval(occasions, wanted.level, wanted.bound, wanted.draws, wanted.seed)
        difference = test.observed
    return Found(case, standard(case), phases, overlaps, corrected, test, effect, why, difference)


def why_no_p(case: Case, wanted: Abab) -> str:
    """Why a randomization test would say nothing; empty where it does."""
    if case.plan is None:
        missing = [name for i, name in enumerate(NAMES) if not len(case.points(i))]
        return f"phase {', '.join(missing)} is missing"
    if not wanted.randomised:
        return "the days of change were not drawn"
    if not all(len(case.points(phase)) for phase in range(len(NAMES))):
        return "a phase has no point"
    occasions = case.occasions(case.plan.shortest)
    if not randomization.admissible(occasions):
        return f"the days of change are none that leave each phase {count(case.plan.shortest, 'day')}"
    inside = sum(occasions.counts) == len(case.sessions)
    if not inside:
        return "there are sessions outside the planned days"
    if np.ptp([one.score for one in case.sessions]) == 0:
        return "all scores are the same"
    return ""


def phase_of(case: Case, phase: int) -> dict[str, Any]:
    values, times = case.points(phase), case.times(phase)
    n = len(values)
    slope = float(np.polyfit(times, values, 1)[0]) if n > 1 and np.ptp(times) else None
    return {
        "phase": NAMES[phase],
        "n": n,
        "mean": float(values.mean()) if n else None,
        "sd": float(values.std(ddof=1)) if n > 1 else None,
        "slope_a_session": slope,
    }


def over_all(found: Sequence[Found], wanted: Abab) -> dict[str, Any]:
    """The standardised mean difference, and the combined test."""
    whole = [one.case for one in found if one.difference is not None]
    cases = [
        between_cases.Case(tuple(c.points(i) for i in range(4)), tuple(c.times(i) for i in range(4))) for c in whole
    ]
    smd = between_cases.difference(cases)
    tested = [one for one in found if one.test is not None]
    combined = None
    if len(tested) > 1:
        occasions = [one.case.occasions(one.case.plan.shortest) for one in tested if one.case.plan]
        combined = randomization.combined(occasions, wanted.draws, wanted.seed)
    return {
        "cases": len(found),
        "whole_cases": len(whole),
        "mean_difference": float(np.mean([one.difference for one in found if one.difference is not None]))
        if whole
        else None,
        "standardised_mean_difference": None if smd is None else {**smd._asdict(), "se": smd.variance**0.5},
        "randomization": None if combined is None else {**combined._asdict(), "cases": len(tested)},
    }


def as_entry(one: Found) -> dict[str, Any]:
    plan_ = one.case.plan
    return {
        "case": one.case.number,
        "n": len(one.case.sessions),
        "standard": one.standard,
        "phases": one.phases,
        "changes_read_off": None if plan_ is None else plan_.read_off,
        "mean_difference": one.difference,
        "randomization": None
        if one.test is None
        else {**one.test._asdict(), "interval": None if one.effect is None else one.effect._asdict()},
        "no_p_because": one.why_no_p or None,
        "overlap": [
            {
                "phases": name,
                "nap": found.nap._asdict(),
                "tau": found.tau._asdict(),
                "tau_se": found.tau_se,
                "tau_u": found.tau_u,
                "corrected_tau": one.corrected[name].tau._asdict(),
                "corrected_tau_p": one.corrected[name].p,
                "n": one.corrected[name].n,
            }
            for name, found in one.overlaps.items()
        ],
    }


def abab(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.abab
    labels = load_params(snapshot.paths.params).validate.experiment_phases
    if len(labels) != len(NAMES):
        raise too_little(
            f"abab: validate.experiment_phases in params.yaml has {count(len(labels), 'label')}", "four, A B A B"
        )
    found = [look(case, wanted) for case in read(snapshot, list(labels), wanted)]
    overall = over_all(found, wanted)
    if not overall["whole_cases"]:
        raise too_little("abab: no case has a point in each of the four phases", "a window that holds the experiment")
    content = {
        "analysis": "abab",
        "improvement": wanted.improvement,
        "level": wanted.level,
        "overall": [overall],
        "cases": [as_entry(one) for one in found],
        "provenance": snapshot.provenance(wanted, PACKAGES),
    }
    points = [(one.case.number, s.number, NAMES[s.phase], s.day, s.score) for one in found for s in one.case.sessions]
    files = {
        "abab.json": results.as_json(content),
        "points.csv": results.as_csv(("case", "session", "phase", "event_date", "score"), points),
        "effects.csv": results.as_csv(("case", "estimate", "low", "high", "n"), effects(found)),
        "abab.md": page(content, found, overall, wanted).encode(),
        **results.figures("effects", drawn_effects(found, overall, wanted)),
    }
    for one in found[: wanted.plots]:
        files |= results.figures(f"case-{one.case.number:03}", drawn_case(one))
    snapshot.check()
    results.write(RESULTS / "abab", files)
    print(f"abab: {headline(overall)}; {RESULTS / 'abab/abab.md'}")


def effects(found: Sequence[Found]) -> list[tuple[Any, ...]]:
    return [
        (
            one.case.number,
            one.difference,
            None if one.effect is None else one.effect.low,
            None if one.effect is None else one.effect.high,
            len(one.case.sessions),
        )
        for one in found
        if one.difference is not None
    ]


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
        f"NAP and Tau with Newcombe's {percent} interval; Tau-U has none that is known; Tau corrected for the "
        "baseline's trend (Tarlow 2017). They take sessions for independent.",
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
        axes.set_yticks(range(len(shown)), [f"case {one.case.number}" for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel("B minus A, in percent of score")
    axes.set_title(f"effect in each case, {wanted.level:.0%} interval; dashed: mean", fontsize=10)
    return figure


if __name__ == "__main__":
    analyse("abab", abab)
