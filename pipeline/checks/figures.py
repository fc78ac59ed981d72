"""What the export holds, counted by DuckDB from the files: for some files at a time, then for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from pipeline.files.sql import listed, parquet, quoted, with_memory
from schemas.table import Table

# With more, a stage takes more memory and is not faster.
THREADS = 2

# Of fewer users Python finds the different ones in less time than Arrow's functions take to be loaded.
FEW = 100_000


class FigureTask(NamedTuple):
    """Files of a table to count, and how many rows they should have."""

    table: Table
    files: tuple[Path, ...]
    rows: int


class Counts(NamedTuple):
    """What some files of a table hold. Instants are UTC; `users` has each user once."""

    rows: int
    first: datetime | None
    last: datetime | None
    bytes: int
    values: Counter[tuple[str, Any]]  # rows by column and value
    nulls: Counter[str]
    users: pa.Array


def count_files(task: FigureTask) -> Counts:
    return with_memory("128MB", lambda connection: _count(connection, task), {"threads": THREADS})


def figures(tables: Sequence[tuple[Table, Sequence[Counts]]]) -> dict[str, Any]:
    """The figures of quality.json, of the counts of all files: headlines, then lists of tables, values and NULLs."""
    each = [_table(table, some) for table, some in tables]
    return {
        "rows": sum(entry["rows"] for entry in each),
        "users": _different([one.users for _, some in tables for one in some]),
        "bytes": sum(entry["bytes"] for entry in each),
        "tables": each,
        "values": [entry for table, some in tables for entry in _values(table, some)],
        "nulls": [entry for table, some in tables for entry in _nulls(table, some)],
    }


def _different(users: Sequence[pa.Array]) -> int:
    if sum(map(len, users)) < FEW:
        return len({user for some in users for user in some.to_pylist()})
    return len(pa.chunked_array(users, pa.string()).unique())


def _table(table: Table, some: Sequence[Counts]) -> dict[str, Any]:
    return {
        "table": table.name,
        "rows": sum(one.rows for one in some),
        "first": _utc(min((one.first for one in some if one.first is not None), default=None)),
        "last": _utc(max((one.last for one in some if one.last is not None), default=None)),
        "bytes": sum(one.bytes for one in some),
    }


def _values(table: Table, some: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of each value of the columns that are counted; null for no value."""
    counts = sum((one.values for one in some), Counter[tuple[str, Any]]())
    return [
        {"table": table.name, "column": column, "value": value, "rows": rows}
        for (column, value), rows in sorted(counts.items(), key=lambda item: _order(*item[0]))
    ]


def _order(column: str, value: Any) -> tuple[str, str, bool]:
    return column, str(value or ""), value is None


def _nulls(table: Table, some: Sequence[Counts]) -> list[dict[str, Any]]:
    return [{"table": table.name, "column": name, "rows": sum(one.nulls[name] for one in some)} for name in table.names]


def _count(connection: duckdb.DuckDBPyConnection, task: FigureTask) -> Counts:
    connection.execute("SET parquet_metadata_cache = true")  # else every query reads all footers again
    table, files = task.table, task.files
    time = table.instant or "NULL::TIMESTAMP"
    rows, first, last = connection.execute(
        f"SELECT count(*), min({time}), max({time}) FROM {parquet(files)}"
    ).fetchall()[0]
    return Counts(
        rows=rows,
        first=first,
        last=last,
        bytes=sum(file.stat().st_size for file in files),
        values=_counted(connection, task),
        nulls=_null(connection, task),
        users=_users(connection, task),
    )


def _users(connection: duckdb.DuckDBPyConnection, task: FigureTask) -> pa.Array:
    if task.table.user is None:
        return pa.array([], pa.string())
    user = quoted(task.table.user)
    found = connection.sql(f"SELECT DISTINCT {user}::VARCHAR FROM {parquet(task.files)} WHERE {user} IS NOT NULL")
    return found.to_arrow_table().column(0).cast(pa.string()).combine_chunks()


def _counted(connection: duckdb.DuckDBPyConnection, task: FigureTask) -> Counter[tuple[str, Any]]:
    counts: Counter[tuple[str, Any]] = Counter()
    if names := task.table.counted:
        columns = ", ".join(map(quoted, names))
        # In one pass: there are few combinations of values.
        found = connection.execute(f"SELECT {columns}, count(*) FROM {parquet(task.files)} GROUP BY ALL")
        for *values, rows in found.fetchall():
            counts.update(dict.fromkeys(zip(names, values, strict=True), rows))
    return counts


def _null(connection: duckdb.DuckDBPyConnection, task: FigureTask) -> Counter[str]:
    # From the footers: counting the NULLs of JSON would read every body.
    found = connection.execute(
        f"SELECT path_in_schema, sum(stats_null_count)::BIGINT FROM parquet_metadata({listed(task.files)}) GROUP BY 1"
    )
    return Counter({name: rows for name, rows in found.fetchall() if rows is not None})


def _utc(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds") + "Z"
