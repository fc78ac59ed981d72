"""Columns that hold keys of another table: how many of these are of no row in the export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from pipeline.core.paths import Paths
from pipeline.files.layout import pattern
from pipeline.files.sql import literal, quoted, with_memory
from schemas.table import Table

# Leaves room for the process itself within the 350 MB that a stage may use.
MEMORY_LIMIT = "192MB"


def references(paths: Paths, tables: Sequence[Table]) -> list[dict[str, Any]]:
    """For each column that holds keys of another table: rows with one, and of them those whose row is not there."""
    keys = {table.name: table.column(table.key).quoted for table in tables}
    asked = [(table, column, to) for table in tables for column, to in table.references if to in keys]

    def count_missing(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
        found = []
        for table, column, to in asked:
            own, other = (
                f"read_parquet({literal(pattern(paths.export / name))}, hive_partitioning = false)"
                for name in (table.name, to)
            )
            rows, missing = connection.execute(
                f"SELECT count(*), count(*) FILTER (held.{keys[to]} IS NULL) "
                f"FROM (SELECT {quoted(column)} AS value FROM {own} WHERE {quoted(column)} IS NOT NULL) "
                f"LEFT JOIN (SELECT DISTINCT {keys[to]} FROM {other}) AS held ON held.{keys[to]} = value"
            ).fetchall()[0]
            found.append({"table": table.name, "column": column, "to": to, "rows": rows, "missing": missing})
        return found

    return with_memory(MEMORY_LIMIT, count_missing, {"temp_directory": str(paths.data)}) if asked else []
