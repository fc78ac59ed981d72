"""The rows of some days of a table, in the files and in DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb

from pipeline.core.days import WHOLE, ends
from pipeline.files.layout import day_path
from pipeline.files.sql import literal, parquet, quoted, with_memory
from schemas.table import Table

# Leaves room for the process itself within the 350 MB that a stage may use.
MEMORY = 192  # MB
MEMORY_LIMIT = f"{MEMORY}MB"

# Rows of a day that one task compares: a twelfth of a second, several times what comes with a task.
STRETCH_ROWS = 100_000


class Stretch(NamedTuple):
    """Time of a day: `begin` <= time < `end`, as DuckDB writes instants; "": that of the day. About so many rows."""

    day: date
    begin: str
    end: str
    rows: int


def stretches(table: Table, day: date, rows: int, file: Path | None) -> list[Stretch]:
    """All of a day: one stretch, or many where the rows of `file`, if one is given, are many and stand by time."""
    begins = _begins(table, file) if file and rows > STRETCH_ROWS and table.order[0] == table.time else []
    each = rows // (len(begins) + 1)
    return [Stretch(day, *ends, each) for ends in pairwise(["", *begins, ""])]


def _begins(table: Table, file: Path) -> list[str]:
    """The first instant of a row group every STRETCH_ROWS rows or so, but the first, by the footer of the file."""
    statement = (
        "SELECT row_group_num_rows, stats_min_value FROM parquet_metadata(?) WHERE path_in_schema = ? "
        "ORDER BY row_group_id"
    )
    values = [str(file), table.time]
    groups = with_memory(MEMORY_LIMIT, lambda connection: connection.execute(statement, values).fetchall())
    found: dict[int, str] = {}
    place = 0
    for rows, first in groups:
        found.setdefault(place // STRETCH_ROWS, first)
        place += rows
    return list(dict.fromkeys(first for first in [*found.values()][1:] if first))


class CompareTask(NamedTuple):
    """Days, or months, to compare: the files below the folders of `table`, what is in quarantine, and what `database`
    answers.

    Their content from the instant `begin` on and before `end`, as DuckDB writes them, or all; the rows of those days
    that are `counted`. Of several tasks `first` counts what is of all days.
    """

    table: Table
    days: tuple[date, ...]
    counted: tuple[date, ...]
    begin: str
    end: str
    raw: Path
    quarantine: Path
    export: Path
    database: Path
    columns: tuple[str, ...]  # whose content can be compared: not those with pseudonyms
    first: bool = True
    months: bool = False  # whether `days` are months


class Compared(NamedTuple):
    """Rows by day in each place, the days on which the rows are as many, but not the same, and all rows of DuckDB.

    Those in quarantine are of all days.
    """

    raw: dict[str, int]
    quarantine: dict[str, int]
    export: dict[str, int]
    duckdb: dict[str, int]
    other_content: list[str]
    total: int


def together(some: Sequence[Compared]) -> Compared:
    """Of the days of all, each of which is counted in one."""
    raw, quarantine, export, in_duckdb = (
        {day: n for one in some for day, n in getattr(one, name).items()}
        for name in ("raw", "quarantine", "export", "duckdb")
    )
    other_content = sorted({day for one in some for day in one.other_content})
    return Compared(raw, quarantine, export, in_duckdb, other_content, sum(one.total for one in some))


def compare_days(task: CompareTask) -> Compared:
    """Count the rows in all places; where they are as many, compare a checksum of their content."""

    def compare(connection: duckdb.DuckDBPyConnection) -> Compared:
        connection.execute("SET parquet_metadata_cache = true")  # footers are read more than once
        connection.execute(f"ATTACH {literal(str(task.database))} AS analytics (READ_ONLY)")
        table = f"analytics.{quoted(task.table.name)}"
        quarantine = parquet([task.quarantine])
        raw = [day_path(task.raw, day) for day in task.days]
        return Compared(
            raw=_by_file(connection, task, task.raw),
            quarantine=_by_day(connection, task, quarantine, "true") if task.first else {},
            export=_by_file(connection, task, task.export),
            duckdb=_by_day(connection, task, table, _window(task.table, task.counted)) if task.counted else {},
            other_content=_other_content(connection, task, parquet(raw), quarantine, table) if task.days else [],
            total=connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] if task.first else 0,
        )

    return with_memory(MEMORY_LIMIT, compare, {"temp_directory": str(task.database.parent)})


def _window(table: Table, days: Sequence[date]) -> str:
    """From the first to the last day, as a condition by which DuckDB skips the row groups of other days."""
    if table.time is None:
        return "true"
    begin, end = ends(min(days))[0], ends(max(days))[1]
    column = table.column(table.time)
    # Of its own type: a cast of the column would hide it from the scan.
    first, last = (
        f"TIMESTAMPTZ '{day} 00:00:00+00'" if column.kind == "timestamptz" else f"DATE '{day}'" for day in (begin, end)
    )
    return f"{column.quoted} >= {first} AND {column.quoted} < {last}"


def _within(task: CompareTask) -> str:
    """The same for the content that the task compares."""
    found = [_window(task.table, task.days)]
    for sign, instant in ((">=", task.begin), ("<", task.end)):
        if instant and task.table.time is not None:
            column = task.table.column(task.table.time)
            found.append(f"{column.quoted} {sign} {column.type.duckdb} {literal(instant)}")
    return " AND ".join(found)


def _day(task: CompareTask) -> str:
    """The name of the part that a row belongs to."""
    instant = task.table.instant
    if instant is None:
        return f"'{WHOLE}'"
    return f"strftime({instant}, '%Y-%m')" if task.months else f"({instant})::DATE::VARCHAR"


def _by_day(connection: duckdb.DuckDBPyConnection, task: CompareTask, rows: str, where: str) -> dict[str, int]:
    found = connection.execute(f"SELECT {_day(task)}, count(*) FROM {rows} WHERE {where} GROUP BY 1 ORDER BY 1")
    wanted = {str(day) for day in task.counted}
    return {day: n for day, n in found.fetchall() if day in wanted or where == "true"}


def _by_file(connection: duckdb.DuckDBPyConnection, task: CompareTask, folder: Path) -> dict[str, int]:
    """Rows by day; a row that stands in the file of another day shows as a day of its own."""
    if not task.counted:
        return {}
    days = {str(day_path(folder, day)): str(day) for day in task.counted}
    rows = parquet(map(Path, days), ", filename = true")
    found = connection.execute(
        f"SELECT filename, {_day(task)}, count(*) FROM {rows} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts: dict[str, int] = {}
    for file, day, n in found:
        label = day if day == days[file] else f"{day} in the file of {days[file]}"
        counts[label] = counts.get(label, 0) + n
    return counts


def _other_content(
    connection: duckdb.DuckDBPyConnection, task: CompareTask, raw: str, quarantine: str, in_duckdb: str
) -> list[str]:
    """The days on which the rows of `raw` are not those of the two others together."""
    whole, aside, rest = (_content(connection, task, rows) for rows in (raw, quarantine, in_duckdb))
    return [day for day in sorted({*whole, *aside, *rest}) if whole.get(day, 0) != aside.get(day, 0) + rest.get(day, 0)]


def _content(connection: duckdb.DuckDBPyConnection, task: CompareTask, rows: str) -> dict[str, int]:
    """The sum of the rows' 64-bit hashes, by day: the same in any order, another when a row or a value is another."""
    columns = [column for column in task.table.columns if column.name in task.columns]
    values = ", ".join(column.type.in_duckdb.format(column.quoted) for column in columns)
    # A hash of the hash, so that rows which exchange values can't make up for each other in the sum. Not by
    # WHERE day IN: behind a filter that the scan can't take over, DuckDB gathers rows until they are 2,048, whatever
    # their size.
    found = connection.execute(
        f"SELECT {_day(task)}, sum(hash(hash({values}))::HUGEINT) FROM {rows} WHERE {_within(task)} GROUP BY 1"
    ).fetchall()
    wanted = {str(day) for day in task.days}
    return {day: total for day, total in found if day in wanted}
