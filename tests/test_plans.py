"""Which ABAB experiments get a p: those whose days of change were drawn, as their plan says, and no others."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from analyses import between_cases, cases, randomization
from analyses.settings import Settings, load
from analyses.snapshot import PARAMS
from pipeline.core.errors import DataError
from tests.helpers import ROOT


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(ROOT / PARAMS)


def session(number: int, phase: int, day: int, score: float) -> cases.Session:
    return cases.Session(number, phase, date(2025, 9, 1) + timedelta(days=day), score)


def a_case(cut: tuple[int, int, int], days: int = 20, shortest: int = 4, score: Any = None) -> cases.Case:
    start = date(2025, 9, 1)
    edges = (0, *cut)
    sessions = tuple(
        session(day + 1, sum(day >= edge for edge in edges) - 1, day, day % 3 if score is None else score)
        for day in range(days)
    )
    changes = tuple(start + timedelta(days=one) for one in cut)
    return cases.Case(1, sessions, cases.Plan(start, days, shortest, changes, False))


def test_a_schedule_that_is_none_has_no_p(settings: Settings) -> None:
    wanted = settings.abab
    assert cases.look(a_case((5, 10, 15)), wanted).test is not None
    unfit = cases.look(a_case((2, 10, 15)), wanted)
    assert unfit.test is None
    assert "none that leave each phase 4 days" in unfit.why_no_p
    assert (
        cases.look(a_case((5, 10, 15)), wanted._replace(randomised=False)).why_no_p
        == "the days of change were not drawn"
    )
    assert cases.look(a_case((5, 10, 15), score=7.0), wanted).why_no_p == "all scores are the same"
    part = a_case((5, 10, 15))
    missing = part._replace(sessions=part.sessions[:12], plan=None, why_no_plan="phase B2 is missing")
    found = cases.look(missing, wanted)
    assert found.why_no_p == "phase B2 is missing"
    assert found.standard == "does not meet"
    assert (found.difference, found.effect) == (None, None)
    assert cases.standard(a_case((5, 10, 15))) == "meets"
    assert cases.standard(a_case((4, 8, 12))) == "meets with reservations"


START = date(2025, 9, 1)
WRITTEN = {"changes": ["2025-09-06", "2025-09-11", "2025-09-16"], "days": 20, "min_days": 4, "start": "2025-09-01"}


def test_a_plan_is_read_off_where_the_app_wrote_none(settings: Settings) -> None:
    case = a_case((5, 10, 15))
    wanted = settings.abab._replace(start=START, days=20, shortest=4)
    made, why = cases.plan(case.sessions, [], wanted)
    assert made is not None
    assert (made.read_off, made.cut, why) == (True, (5, 10, 15), "")
    assert cases.look(case._replace(plan=made), wanted).test == cases.look(case, wanted).test
    # The first session says when somebody came, not when the experiment began.
    made, why = cases.plan(case.sessions, [], wanted._replace(start=None))
    assert made is None
    assert "abab.start does not say" in why
    assert cases.plan(case.sessions[:12], [], wanted) == (None, "phase B2 is missing")


def test_what_the_app_wrote_is_checked(settings: Settings) -> None:
    sessions = a_case((5, 10, 15)).sessions
    made, why = cases.plan(sessions, [json.dumps(WRITTEN)], settings.abab)
    assert (made, why) == (a_case((5, 10, 15)).plan, "")
    for other in (
        {"days": -5},
        {"min_days": -3},
        {"min_days": 0},
        {"days": 20.9},
        {"days": True},
        {"days": 10**13},
        {"min_days": 6},
        {"changes": ["2025-09-06", "2025-09-06", "2025-09-16"]},
        {"changes": ["2025-09-06", "2025-09-11"]},
        {"changes": ["2025-09-06", "2025-09-11", "2025-09-21"]},
        {"changes": "x"},
        {"start": None},
    ):
        assert cases.plan(sessions, [json.dumps(WRITTEN | other)], settings.abab) == (
            None,
            "the app wrote a plan that is none",
        )
    for text in ("[]", "1e400", '{"days": 1e400}', "null"):
        assert cases.plan(sessions, [text], settings.abab)[0] is None
    twice = [json.dumps(WRITTEN), json.dumps(WRITTEN | {"days": 21})]
    assert cases.plan(sessions, twice, settings.abab) == (None, "the app wrote more than one plan")


def test_sessions_that_are_not_as_planned_get_no_p(settings: Settings) -> None:
    """B minus A is that of the labels, whatever the plan says."""
    case = a_case((5, 10, 15))
    difference = cases.look(case, settings.abab).difference
    assert case.plan is not None
    later = case._replace(plan=case.plan._replace(changes=tuple(day + timedelta(days=1) for day in case.plan.changes)))
    found = cases.look(later, settings.abab)
    assert found.why_no_p == "3 sessions of another phase than the plan has on that day"
    assert found.difference == difference
    # All of A: nothing to compare with.
    none = case._replace(
        plan=case.plan._replace(days=60, changes=tuple(START + timedelta(days=n) for n in (30, 40, 50)))
    )
    assert "of another phase" in cases.look(none, settings.abab).why_no_p
    early = case._replace(plan=case.plan._replace(start=START + timedelta(days=1)))
    assert cases.look(early, settings.abab).why_no_p.startswith("1 session outside the planned days")


def test_an_assignment_without_points_on_one_side_has_no_interval() -> None:
    sums = np.array([1.0, 2, 3, 4, 5, 6] + [0.0] * 14)
    case = randomization.Case(sums, (sums > 0) * 1.0, (8, 12, 16), 4)
    assert randomization.interval(case, 0.95, 10**6, 1000, 1) is None


def test_labels_in_another_order_are_refused() -> None:
    case = a_case((5, 10, 15))
    cases.check_order([case])
    swapped = {0: 0, 1: 2, 2: 1, 3: 3}
    other = case._replace(sessions=tuple(one._replace(phase=swapped[one.phase]) for one in case.sessions))
    with pytest.raises(DataError, match="do not go through the phases"):
        cases.check_order([other, other, case])


def test_cases_that_do_not_differ_have_no_standardised_difference() -> None:
    one = between_cases.Case(
        tuple(np.array([1.0, 2, 3]) + phase for phase in range(4)), tuple(np.arange(3.0) + 3 * n for n in range(4))
    )
    assert between_cases.difference([one, one, one]) is None
