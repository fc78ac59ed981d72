"""What is counted of a table of a snapshot, and which of its days and types stand out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from statistics import median
from typing import NamedTuple

from pipeline.core.days import WHOLE
from pipeline.core.watermark import Moved

# Days in a row that make a type one that is always there, and at the end of the window a type new.
WEEK = 7


class Facts(NamedTuple):
    """What is counted of one table of a snapshot."""

    table: str
    until: date
    rows: Mapping[date, int]  # of each day of the window
    types: Mapping[str, Mapping[date, int]]  # of each type the days that have some
    nulls: Mapping[str, int]
    users: int | None  # None: no column names one
    asked: int  # users of extract.user_id; 0: all
    last: datetime | None
    quarantined: int
    backwards: int | None  # events; None: the table has no phases
    moved: Moved | None
    daily: bool = True  # rows are expected on each day


def since_first(rows: Mapping[date, int]) -> dict[date, int]:
    """The days from the first that has rows on: before, the app may not have been there."""
    begin = next((day for day in sorted(rows) if rows[day]), None)
    return {day: rows[day] for day in sorted(rows) if begin is not None and day >= begin}


def deviations(rows: Mapping[date, int]) -> dict[date, float]:
    """By what share each day is above (or below, negative) the median of its weekday, where that is not 0.

    A weekday's only day is not judged, nor are days before the first that has rows.
    """
    known = since_first(rows)
    usual: dict[int, float] = {}
    for weekday in range(WEEK):
        same = [number for day, number in known.items() if day.weekday() == weekday]
        if len(same) > 1:
            usual[weekday] = median(same)
    return {day: number / usual[day.weekday()] - 1 for day, number in known.items() if usual.get(day.weekday())}


def missing_days(rows: Mapping[date, int]) -> list[date]:
    """Days without rows after the first that has some."""
    return [day for day, number in since_first(rows).items() if not number]


def marked(facts: Facts, limit: float) -> dict[date, str]:
    """A word for each day that is missing, further than `limit` from its weekday's median, or got rows late."""
    changes = facts.moved.tables.get(facts.table, {}) if facts.moved else {}
    marks = {day: "late" for day, change in changes.items() if change.rows > change.before}
    if not facts.daily:
        return dict(sorted(marks.items()))
    marks |= {day: "outlying" for day, share in deviations(facts.rows).items() if abs(share) > limit}
    marks |= dict.fromkeys(missing_days(facts.rows), "missing")
    return dict(sorted(marks.items()))


def shrunk(moved: Moved, table: str) -> tuple[list[date], float]:
    """Days that lost rows since the refresh before, and their share of the days that both pin; of a table that is one
    part, the share of its rows."""
    changes = moved.tables.get(table, {})
    lost = sorted(day for day in changes if changes[day].rows < changes[day].before)
    if lost == [WHOLE]:
        return lost, 1 - changes[WHOLE].rows / changes[WHOLE].before
    return lost, len(lost) / max(moved.pinned.get(table, 0), len(lost)) if lost else 0.0


def vanished(facts: Facts) -> dict[str, date]:
    """Types with rows on each of WEEK days in a row and none since, with the last day of each."""
    found = {}
    for name, days in sorted(facts.types.items()):
        last = max(days)
        week = [last - timedelta(days=n) for n in range(WEEK)]
        # On a day without any row no type is gone; that is another check's.
        later = [day for day, number in facts.rows.items() if day > last and number]
        if later and all(day in days for day in week):
            found[name] = last
    return found


def appeared(facts: Facts) -> dict[str, date]:
    """Types whose first row came in the last WEEK days, with rows of others on WEEK days before."""
    found = {}
    for name, days in sorted(facts.types.items()):
        first_ = min(days)
        before = [day for day, number in facts.rows.items() if day < first_ and number]
        if len(before) >= WEEK and first_ >= facts.until - timedelta(days=WEEK):
            found[name] = first_
    return found
