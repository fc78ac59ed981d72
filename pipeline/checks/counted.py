"""What the page and the quality checks need of the exported rows, counted by DuckDB from the files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.files.sql import parquet, quoted, with_memory
from schemas.table import Table

# With more, a stage takes more memory and is not faster.
THREADS = 2


class Phase(NamedTuple):
    """The rows in one experiment phase, or in none. Scores are whole numbers, so that their sum is exact."""

    name: str | None
    rows: int
    users: int
    scored: int
    score_sum: int
    quartiles: tuple[int, int, int] | None  # values that are there, not means of two


class Counted(NamedTuple):
    table: str
    users: int | None  # None: no column names one
    last: datetime | None
    days: dict[date, int]  # rows of each day that has some; of the days of months only
    types: dict[str, dict[date, int]]
    hours: dict[tuple[int, int], int]  # rows by weekday, 1 is Monday, and hour, both in UTC
    phases: tuple[Phase, ...]
    backwards: int | None  # events in an earlier phase than one of the same user before; None: no phases


def counted(table: Table, files: Sequence[Path], phases: Sequence[str], days: bool = False) -> Counted:
    """Count the rows of a table's files. `phases` are the labels of experiment phases, in the order of the design.

    Rows by day only where `days` says so: whose files are days, has them already.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Counted:
        connection.execute("SET parquet_metadata_cache = true")  # else every query reads all footers again
        rows = parquet(files)
        return Counted(
            table.name,
            _users(connection, table, rows),
            _one(connection, f"SELECT max({table.instant or 'NULL::TIMESTAMP'}) FROM {rows}"),
            _days(connection, table, rows) if days else {},
            _types(connection, table, rows),
            _hours(connection, table, rows),
            tuple(_phases(connection, table, rows, phases)),
            _backwards(connection, table, rows, phases),
        )

    return with_memory("128MB", work, {"threads": THREADS})


def _one(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()) -> Any:
    return (connection.execute(sql, parameters).fetchone() or (None,))[0]


def _users(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> int | None:
    if table.user is None:
        return None
    return int(_one(connection, f"SELECT count(DISTINCT {quoted(table.user)}) FROM {rows}"))


def _days(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> dict[date, int]:
    sql = f"SELECT ({table.instant})::DATE AS day, count(*) FROM {rows} GROUP BY day ORDER BY day"
    return dict(connection.execute(sql).fetchall())


def _types(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> dict[str, dict[date, int]]:
    if table.type is None or table.instant is None:
        return {}
    day, name = f"({table.instant})::DATE", quoted(table.type)
    found: dict[str, dict[date, int]] = {}
    sql = f"SELECT {name}, {day}, count(*) FROM {rows} WHERE {name} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    for value, on, number in connection.execute(sql).fetchall():
        found.setdefault(str(value), {})[on] = number
    return found


def _hours(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> dict[tuple[int, int], int]:
    if table.instant is None:
        return {}
    time = table.instant
    sql = f"SELECT isodow({time}), hour({time}), count(*) FROM {rows} GROUP BY ALL ORDER BY ALL"
    return {(weekday, hour): number for weekday, hour, number in connection.execute(sql).fetchall()}


def _phases(connection: duckdb.DuckDBPyConnection, table: Table, rows: str, phases: Sequence[str]) -> Sequence[Phase]:
    if table.phase is None or table.score is None or table.user is None:
        return ()
    phase, score, user = quoted(table.phase), quoted(table.score), quoted(table.user)
    sql = (
        f"SELECT {phase}, count(*), count(DISTINCT {user}), count({score}), coalesce(sum({score}), 0)::BIGINT, "
        f"quantile_disc({score}, [0.25, 0.5, 0.75]) FROM {rows} GROUP BY ALL"
    )
    found = [
        Phase(name, number, users, scored, total, tuple(quartiles) if quartiles else None)
        for name, number, users, scored, total, quartiles in connection.execute(sql).fetchall()
    ]
    order = {name: place for place, name in enumerate(phases)}
    return sorted(found, key=lambda one: (one.name is None, order.get(one.name or "", len(order)), one.name or ""))


def _backwards(connection: duckdb.DuckDBPyConnection, table: Table, rows: str, phases: Sequence[str]) -> int | None:
    if table.phase is None or table.user is None or table.instant is None:
        return None
    phase, user, time = quoted(table.phase), quoted(table.user), table.instant
    # Of the events of one millisecond none is before another.
    sql = f"""
        SELECT count(*) FROM (
            SELECT place, max(place) OVER (
                PARTITION BY person ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL 1 MILLISECOND PRECEDING
            ) AS highest
            FROM (SELECT {user} AS person, {time} AS time, list_position(?, {phase}) AS place FROM {rows})
            WHERE place IS NOT NULL
        ) WHERE place < highest
    """
    return int(_one(connection, sql, [list(phases)]))
