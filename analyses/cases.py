"""The cases of an ABAB experiment, and what is said of each and of all. A point is the mean score of a session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from analyses import between_cases, randomization
from analyses.ar1 import Array, Interval
from analyses.overlap import Corrected, Overlap, corrected_tau, overlap
from analyses.randomization import Test
from analyses.settings import Abab
from analyses.snapshot import Snapshot, too_little
from pipeline.core.progress import count

NAMES = ("A1", "B1", "A2", "B2")

# Kratochwill, Hitchcock, Horner, Levin, Odom, Rindskopf and Shadish (2010), Single-case designs technical
# documentation, What Works Clearinghouse, version 1.0 (Pilot), B: four phases a case with at least five points each, or
# with reservations at least three.
PHASES_NEEDED, WITHOUT_RESERVATIONS, WITH_RESERVATIONS = 4, 5, 3


# Days of a plan that an app may write; more is a mistake.
LONGEST_PLAN = 10_000


class Plan(NamedTuple):
    """How the days of change were drawn."""

    start: date
    days: int
    shortest: int
    changes: tuple[date, ...]
    read_off: bool  # from the first sessions of the phases, since the app did not write it

    def phase(self, day: date) -> int:
        return sum(day >= change for change in self.changes)

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
    plan: Plan | None  # None where there is none
    why_no_plan: str = ""

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
    plans: dict[str, list[str]] = dict(
        snapshot.rows(
            "SELECT userId, list(DISTINCT eventData ->> '$.experiment') FROM behavioral_events "
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
        Case(place, tuple(own), *plan(own, plans.get(user, []), wanted))
        for place, (user, own) in enumerate(sorted(sessions.items()), 1)
    ]


def check_order(cases: Sequence[Case]) -> None:
    """Raise DataError where the labels of the phases stand in another order than most cases go through them."""
    orders = []
    for case in cases:
        first = [min((one.day for one in case.sessions if one.phase == phase), default=None) for phase in range(4)]
        known = [day for day in first if day is not None]
        orders.append(known == sorted(known))
    if sum(orders) * 2 < len(orders):
        raise too_little(
            "abab: most cases do not go through the phases in the order of validate.experiment_phases in params.yaml",
            f"that list in the order {', '.join(NAMES)}: baseline, intervention, baseline, intervention",
        )


def plan(sessions: Sequence[Session], written: Sequence[str], wanted: Abab) -> tuple[Plan | None, str]:
    """As the app wrote it to eventData.experiment, or read off the first session of each phase; else why not."""
    if len(written) > 1:
        return None, "the app wrote more than one plan"
    if written:
        found = parse(written[0])
        return found, "" if found else "the app wrote a plan that is none"
    first: dict[int, date] = {}
    for one in sessions:
        first.setdefault(one.phase, one.day)
    if missing := [name for phase, name in enumerate(NAMES) if phase not in first]:
        return None, f"phase {', '.join(missing)} is missing"
    if wanted.start is None:
        return None, "the app wrote no plan, and abab.start does not say when the experiment began"
    changes = tuple(first[phase] for phase in range(1, len(NAMES)))
    return Plan(wanted.start, wanted.days, wanted.shortest, changes, True), ""


def parse(written: str) -> Plan | None:
    """A plan in eventData.experiment; None where it is another thing."""
    try:
        data = json.loads(written)
        start, changes = date.fromisoformat(data["start"]), tuple(date.fromisoformat(day) for day in data["changes"])
        days, shortest = data["days"], data["min_days"]
    except (ValueError, KeyError, TypeError):
        return None
    whole = type(days) is int and type(shortest) is int and 4 <= 4 * shortest <= days <= LONGEST_PLAN
    if not whole or len(changes) != len(NAMES) - 1:
        return None
    inside = [start, *changes, start + timedelta(days=days)]
    return Plan(start, days, shortest, changes, False) if inside == sorted(set(inside)) else None


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
            corrected[name] = corrected_tau(signed * before, signed * after, wanted.level, always=False)
    difference = None
    if all(len(case.points(phase)) for phase in range(len(NAMES))):
        in_b, in_a = (np.concatenate([case.points(i), case.points(i + 2)]).mean() for i in (1, 0))
        difference = float(in_b - in_a)
    why = why_no_p(case, wanted)
    test = effect = None
    if not why and case.plan is not None:
        occasions = case.occasions(case.plan.shortest)
        test = randomization.test(occasions, wanted.bound, wanted.draws, wanted.seed)
        effect = randomization.interval(occasions, wanted.level, wanted.bound, wanted.draws, wanted.seed)
    return Found(case, standard(case), phases, overlaps, corrected, test, effect, why, difference)


def why_no_p(case: Case, wanted: Abab) -> str:
    """Why a randomization test would say nothing; empty where it does."""
    if not wanted.randomised:
        return "the days of change were not drawn"
    if case.plan is None:
        return case.why_no_plan
    if missing := [name for phase, name in enumerate(NAMES) if not len(case.points(phase))]:
        return f"phase {', '.join(missing)} has no point"
    last = case.plan.start + timedelta(days=case.plan.days - 1)
    if outside := sum(not case.plan.start <= one.day <= last for one in case.sessions):
        return f"{count(outside, 'session')} outside the planned days, {case.plan.start} to {last}"
    if others := sum(case.plan.phase(one.day) != one.phase for one in case.sessions):
        return f"{count(others, 'session')} of another phase than the plan has on that day"
    if not randomization.admissible(case.occasions(case.plan.shortest)):
        return f"the days of change are none that leave each phase {count(case.plan.shortest, 'day')}"
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
        "sessions": sum(len(one.sessions) for one in whole),
        "mean_difference": float(np.mean([one.difference for one in found if one.difference is not None]))
        if whole
        else None,
        "standardised_mean_difference": None if smd is None else {**smd._asdict(), "se": smd.variance**0.5},
        "randomization": None if combined is None else {**combined._asdict(), "cases": len(tested)},
    }
