"""What is other than at the refresh before: told to people, kept in watermark.yaml, refused where it is too much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from pipeline.checks.facts import shrunk
from pipeline.checks.quality import lost_rows
from pipeline.core import progress
from pipeline.core.days import WHOLE
from pipeline.core.digest import Pin
from pipeline.core.errors import QualityError
from pipeline.core.params import Threshold
from pipeline.core.progress import count
from pipeline.core.watermark import Change, Moved, Watermark

# Days that are listed one by one before the rest is only counted.
LISTED = 10


def told(old: Watermark | None, new: Watermark) -> Iterator[str]:
    """What is different between two refreshes, a line each; nothing when nothing moved."""
    if old is not None and old.until != new.until:
        yield f"until: {old.until} -> {new.until}"
    for table in sorted(old.tables.keys() - new.tables.keys()) if old is not None else ():
        yield f"{table} is no longer pinned"
    for table, pins in new.tables.items():
        name = f"{table}: " if len(new.tables) > 1 else ""
        before = old.tables.get(table) if old is not None else None
        if before is None:
            yield f"{name}first pins: {count(len(pins), 'day')}"
            continue
        for kind, days in changes(before, pins).items():
            some = ", ".join(days[:LISTED]) + (f" and {len(days) - LISTED} more" if len(days) > LISTED else "")
            if days:
                yield f"{name}{count(len(days), 'day')} {kind}: {some}"


def changes(before: Mapping[date, Pin], now: Mapping[date, Pin]) -> dict[str, list[str]]:
    """The days that are different, with their rows, by what is different."""
    kinds: dict[str, list[str]] = {
        "new": [],
        "with more rows": [],
        "with fewer rows": [],
        "with changed rows": [],
        "left the window": [str(day) for day in before if day not in now],
    }
    for day, pin in now.items():
        was = before.get(day)
        if was is None:
            kinds["new"].append(f"{day} ({pin.rows:,})")
        elif pin.rows != was.rows:
            kind = "with more rows" if pin.rows > was.rows else "with fewer rows"
            kinds[kind].append(f"{day} ({was.rows:,} -> {pin.rows:,})")
        elif pin != was:
            kinds["with changed rows"].append(f"{day} ({pin.rows:,})")
    return kinds


def changed_days(old: Watermark, new: Watermark) -> Moved:
    """The days that both pin, and pin otherwise."""
    tables: dict[str, dict[date, Change]] = {}
    pinned = {}
    for name, pins in new.tables.items():
        before = old.tables.get(name, {})
        pinned[name] = len(before.keys() & pins.keys())
        days = {day: Change(before[day].rows, pin.rows) for day, pin in pins.items() if before.get(day, pin) != pin}
        tables |= {name: days} if days else {}
    return Moved(old.until, (), pinned, tables)


def check_back(old: date, until: date, accept: bool) -> tuple[str, ...]:
    """What was said yes to where the window moves back. Raises QualityError where it was not."""
    if until >= old:
        return ()
    if not accept:
        raise QualityError(
            f"the window would move back: it ended at {old}, today is {until}",
            where="the clocks of this machine and of PostgreSQL, or an earlier --until",
            expected=f"a day from {old} on; nothing was pinned",
            next_step="set the clocks; or, if it shall, python -m commands.refresh --accept",
        )
    return ("the window moved back",)


def check_shrunk(moved: Moved, new: Watermark, threshold: Threshold, accept: bool) -> tuple[str, ...]:
    """What was said yes to where too many days lost rows. Raises QualityError where it was not."""
    said = []
    for name in new.tables:
        days, share = shrunk(moved, name)
        if threshold.level == "off" or share <= threshold.limit:
            continue
        of_days = f"{count(len(days), 'day')} lost rows, {share:.0%} of those that both pin"
        words = f"{name}: {f'it lost {share:.0%} of its rows' if days == [WHOLE] else of_days}"
        if threshold.level == "fail" and not accept:
            change = moved.tables[name][days[-1]]
            raise QualityError(
                f"{words}; the last is {days[-1]} ({change.before:,} -> {change.rows:,})",
                where="what DATABASE_URL leads to",
                expected=f"at most {threshold.limit:.0%}, quality.shrunk_days in params.yaml; nothing was pinned",
                next_step="see whether it is the right database, whole; if the rows are gone for good, "
                "python -m commands.refresh --accept",
            )
        progress.say(f"refresh: notice: {words}")
        said += [lost_rows(name)] if threshold.level == "fail" else []
    return tuple(said)
