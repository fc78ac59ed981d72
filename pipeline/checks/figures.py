"""What the export holds, counted by DuckDB from the files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from pipeline.files.sql import listed, parquet, quoted, with_memory
from schemas.table import Table

# With more, a stage takes more memory and is not faster.
THREADS = 2


def figures(tables: Sequence[tuple[Table, Sequence[Path]]]) -> dict[str, Any]:
    """The figures of quality.json: headlines over all tables, then a list of tables, of values and of NULLs."""
    return with_memory("128MB", lambda connection: _figures(connection, tables), {"threads": THREADS})


def _figures(connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[Table, Sequence[Path]]]) -> dict[str, Any]:
    connection.execute("SET parquet_metadata_cache = true")  # else every query reads all footers again
    each = [_table(connection, table, files) for table, files in tables]
    values = [entry for table, files in tables for entry in _values(connection, table, files)]
    nulls = [entry for table, files in tables for entry in _nulls(connection, table, files)]
    users = _users(connection, tables)
    return {
        "rows": sum(entry["rows"] for entry in each),
        "users": users,
        "bytes": sum(entry["bytes"] for entry in each),
        "tables": each,
        "values": values,
        "nulls": nulls,
    }


def _table(connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path]) -> dict[str, Any]:
    time = table.instant or "NULL::TIMESTAMP"
    row = connection.execute(f"SELECT count(*), min({time}), max({time}) FROM {parquet(files)}").fetchone()
    assert row is not None
    return {
        "table": table.name,
        "rows": row[0],
        "first": _utc(row[1]),
        "last": _utc(row[2]),
        "bytes": sum(file.stat().st_size for file in files),
    }


def _users(connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[Table, Sequence[Path]]]) -> int:
    """Different users over all tables that name one."""
    parts = [
        f"SELECT DISTINCT {quoted(table.user)} AS user FROM {parquet(files)}"
        for table, files in tables
        if table.user is not None
    ]
    if not parts:
        return 0
    row = connection.execute(f"SELECT count(DISTINCT user) FROM ({' UNION ALL '.join(parts)})").fetchone()
    return int(row[0]) if row else 0


def _values(connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of each value of the columns that are counted; null for no value."""
    if not table.counted:
        return []
    columns = ", ".join(map(quoted, table.counted))
    # In one pass: there are few combinations of values.
    found = connection.execute(f"SELECT {columns}, count(*) FROM {parquet(files)} GROUP BY ALL ORDER BY ALL").fetchall()
    counts: dict[tuple[str, Any], int] = {}
    for *values, rows in found:
        for column, value in zip(table.counted, values, strict=True):
            counts[column, value] = counts.get((column, value), 0) + rows
    return [
        {"table": table.name, "column": column, "value": value, "rows": rows}
        for (column, value), rows in sorted(counts.items(), key=lambda item: (item[0][0], str(item[0][1] or "")))
    ]


def _nulls(connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[Path]) -> list[dict[str, Any]]:
    # From the footers: counting the NULLs of JSON would read every body.
    found = connection.execute(
        f"SELECT path_in_schema, sum(stats_null_count)::BIGINT FROM parquet_metadata({listed(files)}) GROUP BY 1"
    ).fetchall()
    return [{"table": table.name, "column": name, "rows": dict(found).get(name, 0)} for name in table.names]


def _utc(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds") + "Z"
