"""Thresholds on a whole snapshot: what each check takes for good, and what not."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from pipeline.checks import quality
from pipeline.checks.facts import Facts
from pipeline.checks.quality import Result
from pipeline.core.errors import ParamsError
from pipeline.core.params import Quality, Threshold
from pipeline.core.watermark import Change, Moved
from schemas.behavioral_events import BEHAVIORAL_EVENTS

UNTIL = date(2025, 10, 28)
DAYS = [UNTIL - timedelta(days=n) for n in range(28, 0, -1)]
LAST = DAYS[-1]


def facts(**other: Any) -> Facts:
    """Four weeks of 100 rows a day, of which nothing is to be said."""
    rows = dict.fromkeys(DAYS, 100)
    usual: dict[str, Any] = {
        "table": "t",
        "until": UNTIL,
        "rows": rows,
        "types": {"A": dict.fromkeys(DAYS, 40), "B": dict.fromkeys(DAYS, 60)},
        "nulls": {"a": 0, "b": 1400},
        "users": 10,
        "asked": 0,
        "last": datetime(2025, 10, 27, 23),
        "quarantined": 0,
        "backwards": 0,
        "moved": Moved(LAST, (), {"t": 27}, {}),
    }
    return Facts(**(usual | other))


def without(types: dict[str, Any], name: str, days: list[date]) -> dict[str, Any]:
    return {**types, name: {day: n for day, n in types[name].items() if day not in days}}


def result(check: str, one: Facts, limit: float, level: str = "warn", each: tuple[Any, ...] = ()) -> list[Result]:
    """What the check says with all others off."""
    off = {name: Threshold(0, "off") for name in Quality._fields}
    return quality.judge(one, Quality(**(off | {check: Threshold(limit, level, each)})))  # type: ignore[arg-type]


USUAL = facts()
MONDAY_LOW = facts(rows={**USUAL.rows, LAST: 49})
EMPTY = facts(rows=dict.fromkeys(DAYS, 0), types={}, last=None, users=0, nulls={"a": 0, "b": 0})
SHRUNK = {day: Change(200, 100) for day in DAYS[:14]}


@pytest.mark.parametrize(
    ("check", "limit", "good", "bad", "value", "words"),
    [
        ("rows", 1, USUAL, EMPTY, 0, "the snapshot has 0 rows"),
        ("last_day", 1, USUAL, facts(rows={**USUAL.rows, LAST: 0}), 0, "the last day, 2025-10-27, has 0 rows"),
        ("day_rows", 0.5, USUAL, MONDAY_LOW, 0.51, "1 day more than 50% .* 2025-10-27 with 49 rows, 51% below"),
        ("day_rows", 0.5, USUAL, facts(rows={**USUAL.rows, LAST: 200}), 1.0, "2025-10-27 with 200 rows, 100% above"),
        ("empty_days", 0, USUAL, facts(rows={**USUAL.rows, DAYS[3]: 0}), 1, "1 day without rows: 2025-10-03"),
        (
            "shrunk_days",
            0.5,
            USUAL,
            facts(moved=Moved(LAST, (), {"t": 27}, {"t": SHRUNK})),
            14 / 27,
            "14 days with fewer rows",
        ),
        (
            "emptied_days",
            0,
            USUAL,
            facts(moved=Moved(LAST, (), {"t": 27}, {"t": {DAYS[3]: Change(7, 0)}})),
            1,
            "1 day that had rows and have none now: 2025-10-03",
        ),
        (
            "vanished_types",
            0,
            facts(types=without(USUAL.types, "A", DAYS[:20])),
            facts(types=without(USUAL.types, "A", [LAST])),
            1,
            "A was there every day until 2025-10-26",
        ),
        (
            "new_types",
            0,
            facts(types=without(USUAL.types, "A", DAYS[:20])),
            facts(types=without(USUAL.types, "A", DAYS[:21])),
            1,
            "A came first on 2025-10-21",
        ),
        ("largest_type", 0.6, USUAL, facts(types={"A": dict.fromkeys(DAYS, 61)}), 0.61, "A is 61% of the rows"),
        ("users", 5, USUAL, facts(users=4), 4, "4 users"),
        ("users", 5, facts(users=1, asked=1), facts(users=1, asked=2), 1, "1 user of the 2 asked for"),
        ("nulls", 0.5, USUAL, facts(nulls={"a": 1401, "b": 2}), 1401 / 2800, "a is NULL in 50% of the rows"),
        ("last_event", 12, USUAL, facts(last=datetime(2025, 10, 27, 11)), 13, "came 13.0 hours before the end"),
        ("quarantined", 0.01, facts(quarantined=28), facts(quarantined=29), 29 / 2829, "29 rows in quarantine"),
        ("phases_backwards", 0, USUAL, facts(backwards=1), 1, "1 event in an earlier phase"),
    ],
    ids=[
        "no rows",
        "an empty last day",
        "a low day",
        "a high day",
        "a day without rows",
        "many days with fewer rows",
        "an emptied day",
        "a type that is gone",
        "a type that is new",
        "one type",
        "few users",
        "fewer users than asked for",
        "many NULLs",
        "a silent end",
        "many in quarantine",
        "phases backwards",
    ],
)
def test_what_is_past_a_limit(check: str, limit: float, good: Facts, bad: Facts, value: float, words: str) -> None:
    (passed,) = result(check, good, limit)
    assert passed.verdict == "passed"
    for level, verdict in (("warn", "warned"), ("fail", "failed")):
        (found,) = result(check, bad, limit, level)
        assert (found.verdict, found.value, found.limit) == (verdict, pytest.approx(value), found.limit)
        assert re.search(words, found.words)
    assert result(check, bad, limit, "off") == []


@pytest.mark.parametrize(
    ("check", "one"),
    [
        ("rows", EMPTY._replace(asked=1)),
        ("last_day", EMPTY),
        ("last_day", facts(rows=dict.fromkeys(DAYS[-3:], 5))),
        ("day_rows", EMPTY),
        ("shrunk_days", facts(moved=None)),
        ("emptied_days", facts(moved=None)),
        ("vanished_types", EMPTY),
        ("new_types", EMPTY),
        ("largest_type", EMPTY),
        ("users", facts(users=None)),
        ("nulls", EMPTY),
        ("last_event", EMPTY),
        ("quarantined", EMPTY),
        ("phases_backwards", facts(backwards=None)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_be_judged_says_so(check: str, one: Facts) -> None:
    (found,) = result(check, one, 0)
    assert (found.verdict, found.value) == ("not judged", None)
    assert found.words


def test_a_type_or_a_column_has_a_limit_of_its_own() -> None:
    nulls = facts(nulls={"a": 1400, "b": 2700})
    own = (("b", Threshold(0.9, "fail")), ("c", Threshold(0, "fail")))
    found = result("nulls", nulls, 0.6, each=own)
    assert [(one.check, one.where, one.verdict) for one in found] == [
        ("nulls", "a", "passed"),
        ("nulls b", "b", "failed"),
        ("nulls c", "", "not judged"),
    ]
    low = facts(types={"A": {**dict.fromkeys(DAYS, 10), LAST: 1}, "B": dict.fromkeys(DAYS, 90)})
    found = result("day_rows", low, 0.5, each=(("A", Threshold(0.5, "warn")),))
    assert [(one.check, one.where, one.verdict) for one in found][1] == ("day_rows A", str(LAST), "warned")
    assert "2025-10-27 with 1 row, 90% below" in found[1].words


def test_an_app_that_began_within_the_window_has_no_empty_days_before() -> None:
    young = facts(rows={day: 100 if day >= DAYS[10] else 0 for day in DAYS})
    assert result("empty_days", young, 0)[0].verdict == "passed"
    assert result("day_rows", young, 0.5)[0].verdict == "passed"


def test_what_was_accepted_is_told_and_does_not_fail() -> None:
    accepted = facts(moved=Moved(LAST, ("t lost rows",), {"t": 27}, {"t": SHRUNK}))
    (found,) = result("shrunk_days", accepted, 0.5, "fail")
    assert found.verdict == "warned"
    assert found.words.endswith("; accepted")


@pytest.mark.parametrize(
    ("verdicts", "overall", "sentence"),
    [
        (["passed", "not judged"], "passed", "This snapshot can be used: 1 quality check passed"),
        (
            ["warned", "passed"],
            "warned",
            "This snapshot can be used with care: 1 of 2 quality checks is past its limit",
        ),
        (["warned", "failed", "warned"], "failed", "Do not use this snapshot: 1 of 3 quality checks failed"),
        ([], "passed", "No quality check is on"),
    ],
    ids=["green", "yellow", "red", "nothing on"],
)
def test_the_sentence_agrees_with_the_checks(verdicts: list[str], overall: str, sentence: str) -> None:
    results = [Result("rows", "t", "", 1, 1, verdict, verdict) for verdict in verdicts]
    assert quality.overall(results) == overall
    assert quality.sentence(results) == sentence
    assert [one.verdict for one in quality.worst_first(results)] == sorted(
        [one for one in verdicts if one in ("failed", "warned")], key="failed warned".index
    )


def test_what_was_accepted_of_the_window_is_no_yes_to_fewer_rows() -> None:
    back = facts(moved=Moved(LAST, ("the window moved back",), {"t": 27}, {"t": SHRUNK}))
    (found,) = result("shrunk_days", back, 0.5, "fail")
    assert found.verdict == "failed"


@pytest.mark.parametrize("check", ["nulls", "day_rows", "largest_type"])
def test_a_name_that_there_is_not_is_refused(check: str) -> None:
    off = {name: Threshold(0, "off") for name in Quality._fields}
    typo = Quality(**(off | {check: Threshold(1, "off", (("FLASHCRD_FLIP", Threshold(1, "fail")),))}))  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match=rf"quality\.{check}\.each\.FLASHCRD_FLIP is no "):
        quality.check_names([BEHAVIORAL_EVENTS], typo)
