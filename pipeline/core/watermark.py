"""watermark.yaml: what the source held at the last refresh. Only `commands.refresh` writes it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pipeline.core.days import WHOLE, parse_day
from pipeline.core.digest import Pin
from pipeline.core.errors import ParamsError, PinError
from pipeline.core.params import load_yaml
from schemas.table import Table

HEADER = """\
# What the source held at the last refresh. Written by `python -m commands.refresh`, committed like a lock file.
# until: the exclusive end of the window, UTC. tables: for each table and UTC day the rows and a digest of them.
# source: sample, where it is the one that comes with the pipeline and no app's.
# moved: days that are other than at the refresh before, whose window ended at `before`; pinned: how many days both pin;
# accepted: what --accept said yes to.
"""


# The contract reaches five years back from `until`, and the calendar begins with the year 1.
FIRST_YEAR = 6


class Change(NamedTuple):
    """Rows of a day at the refresh before, and now; the same number where only their content is another."""

    before: int
    rows: int


class Moved(NamedTuple):
    """What is other than at the refresh before, of the days that both pinned."""

    before: date  # its `until`
    accepted: tuple[str, ...]  # what was refused until --accept said yes
    pinned: Mapping[str, int]  # days of each table that both pin
    tables: Mapping[str, Mapping[date, Change]]


# Where the rows are from: an app's database, or the sample that comes with the pipeline.
Source = Literal["database", "sample"]


class Watermark(NamedTuple):
    until: date  # the window ends where this day begins, UTC
    tables: Mapping[str, Mapping[date, Pin]]
    moved: Moved | None = None  # None: of the first refresh
    source: Source = "database"


def window(until: date, days: int) -> list[date]:
    """The `days` UTC days before `until`, oldest first: until - days <= day < until."""
    try:
        return [until - timedelta(days=n) for n in range(days, 0, -1)]
    except OverflowError:
        raise ParamsError(
            f"the window of {days} days before {until} begins before the year 1",
            where="extract.days, and until in watermark.yaml",
            expected="a window within the calendar",
            next_step="a smaller extract.days, or python -m commands.refresh",
        ) from None


def midnight(day: date) -> datetime:
    """The first instant of `day`, UTC without a zone, as the database stores it."""
    return datetime.combine(day, time())


def parts(table: Table, window: list[date]) -> list[date]:
    """What is pinned of `table`: the days of the window, or the whole of it."""
    return [WHOLE] if table.time is None else window


def pinned(watermark: Watermark, table: Table, days: int) -> dict[date, Pin]:
    """The pins of the last `days` days of `table`. Raises PinError when a day of the window was never pinned."""
    wanted = parts(table, window(watermark.until, days))
    pins = watermark.tables.get(table.name, {})
    missing = [day for day in wanted if day not in pins]
    if missing:
        raise PinError(
            f"{len(missing)} of {len(wanted)} days are not pinned, the first is {missing[0]}"
            if table.time is not None
            else f"{table.name} is not pinned",
            where=f"watermark.yaml, days of {table.name} before {watermark.until}",
            expected=f"a pin for each day from {wanted[0]} to {wanted[-1]}; {len(pins)} are there",
            next_step=f"python -m commands.refresh --days {days}, or a smaller extract.days",
        )
    return {day: pins[day] for day in wanted}


def _broken(path: Path, key: str, found: object, expected: str) -> ParamsError:
    return ParamsError(
        f"{path.name}: {key} is {f'{found}' if isinstance(found, date) else repr(found)} ({type(found).__name__})",
        where=f"{path}, key {key}",
        expected=expected,
        next_step=f"git checkout -- {path}; or rm {path}, then python -m commands.refresh",
    )


def parse_until(value: object, path: Path) -> date:
    """`until` as a day. It is a quoted UTC midnight; an unquoted date is refused, because DVC can't read it."""
    expected = f"a quoted UTC midnight such as '2025-10-28T00:00:00Z', from the year {FIRST_YEAR} on"
    if not isinstance(value, str):
        raise _broken(path, "until", value, expected)
    try:
        instant = datetime.fromisoformat(value)
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _broken(path, "until", value, expected) from None
    if instant.time() != time() or instant.year < FIRST_YEAR:
        raise _broken(path, "until", value, expected)
    return instant.date()


def load(path: Path, text: str | None = None) -> Watermark:
    """Read watermark.yaml, whose text may be at hand. Raises ParamsError that names the key which can't be meant."""
    data = load_yaml(path, text)
    keys = {"until", "tables"}
    if not isinstance(data, dict) or set(data) - {"moved", "source"} != keys or not isinstance(data["tables"], dict):
        raise _broken(path, "(the file)", type(data).__name__, "the keys until and tables")
    until = parse_until(data["until"], path)
    tables = {}
    for table, days in data["tables"].items():
        if not isinstance(table, str) or not isinstance(days, dict):
            raise _broken(path, f"tables.{table}", days, "the days of a table")
        tables[table] = dict(_pin(path, f"tables.{table}.{key}", key, entry) for key, entry in days.items())
    source = data.get("source", "database")
    if source not in get_args(Source):
        raise _broken(path, "source", source, f"one of {', '.join(get_args(Source))}")
    return Watermark(until, tables, _moved(path, data["moved"]) if "moved" in data else None, source)


def _moved(path: Path, data: object) -> Moved:
    known = isinstance(data, dict) and set(data) == {"before", "accepted", "pinned", "tables"}
    if not known or [type(data[key]) for key in ("accepted", "pinned", "tables")] != [list, dict, dict]:  # type: ignore[index]
        raise _broken(path, "moved", data, "the keys before, accepted, pinned and tables")
    assert isinstance(data, dict)
    pinned = {str(table): _rows(path, f"moved.pinned.{table}", days) for table, days in data["pinned"].items()}
    tables: dict[str, dict[date, Change]] = {}
    for table, days in data["tables"].items():
        if not isinstance(days, dict):
            raise _broken(path, f"moved.tables.{table}", days, "the days of a table")
        tables[table] = {}
        for key, entry in days.items():
            where = f"moved.tables.{table}.{key}"
            before, rows = (entry.get("before"), entry.get("rows")) if isinstance(entry, dict) else (None, None)
            tables[table][_day(path, where, key)] = Change(
                _rows(path, f"{where}.before", before), _rows(path, f"{where}.rows", rows)
            )
    return Moved(parse_until(data["before"], path), tuple(map(str, data["accepted"])), pinned, tables)


def _day(path: Path, where: str, key: object) -> date:
    day = None
    if isinstance(key, str):
        with suppress(ValueError):
            day = parse_day(key)
    if day is None:
        raise _broken(path, where, key, "a quoted date such as '2025-10-27'")
    return day


def _rows(path: Path, where: str, rows: object) -> int:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        raise _broken(path, where, rows, "a number of rows")
    return rows


def _pin(path: Path, where: str, key: object, entry: object) -> tuple[date, Pin]:
    day = _day(path, where, key)
    rows, digest = (entry.get("rows"), entry.get("digest")) if isinstance(entry, dict) else (None, None)
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{16}", digest):
        raise _broken(path, f"{where}.digest", digest, "16 hex digits in quotes")
    return day, Pin(_rows(path, f"{where}.rows", rows), digest)


def render(watermark: Watermark) -> str:
    """The file's text: the same bytes for the same pins."""
    lines = [f"{HEADER}until: '{watermark.until}T00:00:00Z'"]
    lines += [f"source: {watermark.source}"] if watermark.source == "sample" else []
    if watermark.moved is not None:
        lines += _rendered(watermark.moved)
    lines.append("tables:")
    for table, days in sorted(watermark.tables.items()):
        lines.append(f"  '{table}':")
        lines += [f"    '{day}': {{rows: {pin.rows}, digest: '{pin.digest}'}}" for day, pin in sorted(days.items())]
    return "\n".join(lines) + "\n"


def _rendered(moved: Moved) -> list[str]:
    accepted = ", ".join(f"'{what}'" for what in moved.accepted)
    lines = ["moved:", f"  before: '{moved.before}T00:00:00Z'", f"  accepted: [{accepted}]"]
    pinned = ", ".join(f"'{table}': {days}" for table, days in sorted(moved.pinned.items()))
    lines.append(f"  pinned: {{{pinned}}}")
    lines.append("  tables:" if moved.tables else "  tables: {}")
    for table, days in sorted(moved.tables.items()):
        lines.append(f"    '{table}':")
        lines += [f"      '{day}': {{before: {one.before}, rows: {one.rows}}}" for day, one in sorted(days.items())]
    return lines


def save(watermark: Watermark, path: Path) -> None:
    """Replace the file in one step; leave it alone, times included, when its bytes would be the same."""
    text = render(watermark)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # another run may be writing, too
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
