"""The parts of a table, each with a file of its own: UTC days, or the days of a month; or one, where the table has no
day column.

What is pinned is a day, whatever a file holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

ONE_DAY = timedelta(days=1)

# Under what names the footer of a month's file has its days, and the column that says the day of a row.
DAYS, TIME = "pipeline.days", "pipeline.time"


class _Whole(date):
    """A day before all others, so that one part is handled like any."""

    def __str__(self) -> str:
        return "whole"

    __repr__ = __str__


# The only part of a table without a day column: what watermark.yaml, reports and folders call 'whole'.
WHOLE: date = _Whole(1, 1, 1)


class Month(date):
    """The days of a calendar month that lie in the window. It stands where its first day would, and is not that day."""

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Month) and (self.year, self.month) == (other.year, other.month)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.year, self.month))


def in_months(parts: Iterable[date]) -> bool:
    return any(isinstance(part, Month) for part in parts)


def word(parts: Iterable[date]) -> str:
    """What a part is, for messages."""
    return "month" if in_months(parts) else "day"


def month_of(day: date) -> Month:
    return Month(day.year, day.month, 1)


def divided(days: Iterable[date], by_month: bool) -> dict[date, tuple[date, ...]]:
    """The days that each file is to hold; a table without days stays one part."""
    found: dict[date, list[date]] = {}
    for day in sorted(days):
        found.setdefault(month_of(day) if by_month and day != WHOLE else day, []).append(day)
    return {part: tuple(some) for part, some in found.items()}


def ends(part: date) -> tuple[date, date]:
    """The first day of a part, and the day after its last: all of the month, whatever the window."""
    begin = date(part.year, part.month, part.day)
    if isinstance(part, Month):
        return begin, date(begin.year + begin.month // 12, begin.month % 12 + 1, 1)
    return begin, begin + ONE_DAY


def told(part: date, begin: date, until: date, time: str | None) -> dict[str, str]:
    """What the footer of a month's file says of it: the first and the last of its days that lie in the window.

    `time` is the column that says the day of a row. A file of one day says so by its name.
    """
    if not isinstance(part, Month):
        return {}
    first, end = ends(part)
    return {DAYS: f"{max(first, begin)}/{min(end, until) - ONE_DAY}", TIME: str(time)}


def days_told(facts: Mapping[bytes, bytes]) -> tuple[date, date] | None:
    """The first and the last day that a footer tells of; None where it tells of none."""
    if DAYS.encode() not in facts:
        return None
    first, last = map(date.fromisoformat, facts[DAYS.encode()].decode().split("/"))
    return first, last


def days_of(parts: Iterable[date]) -> list[date]:
    """All days of some parts, oldest first; none of a table that is one part."""
    found = set()
    for part in parts:
        if part != WHOLE:
            begin, end = ends(part)
            found |= {begin + n * ONE_DAY for n in range((end - begin).days)}
    return sorted(found)


def parse_day(text: str) -> date:
    """A part with a pin, by its name. Raises ValueError for all but YYYY-MM-DD and 'whole'."""
    if text == str(WHOLE):
        return WHOLE
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):  # Python also takes 20251027 and 2025-W44-1
        raise ValueError(text)
    return date.fromisoformat(text)


def parse_part(text: str) -> date:
    """A part with a file, by its name. Raises ValueError for all but YYYY-MM-DD, YYYY-MM and 'whole'."""
    if re.fullmatch(r"\d{4}-\d\d", text):
        return month_of(date.fromisoformat(f"{text}-01"))
    return parse_day(text)
