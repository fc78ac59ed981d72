"""The comparison that `load` ends with: the rows and their content in PostgreSQL's count, the files and DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from pipeline.core.progress import count
from pipeline.files.layout import day_path, listed, literal
from schemas.contract import TABLE

Counts = Mapping[str, int]

# Stands for the files of no day.
NO_ROWS = f"(FROM analytics.{TABLE} LIMIT 0)"


def by_day(connection: duckdb.DuckDBPyConnection, source: str, where: str = "true") -> dict[str, int]:
    rows = connection.execute(
        f"SELECT timestamp::DATE::VARCHAR, count(*) FROM {source} WHERE {where} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return dict(rows)


def by_file(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, int]:
    """Rows by day; a row that stands in the folder of another day shows as a day of its own."""
    if not files:
        return {}
    rows = f"read_parquet({listed(files)}, hive_partitioning = true, hive_types_autocast = false)"
    day = "CASE WHEN timestamp::DATE::VARCHAR = event_date THEN event_date "
    day += "ELSE timestamp::DATE || ' in the file of ' || event_date END"
    return dict(connection.execute(f"SELECT {day}, count(*) FROM {rows} GROUP BY 1 ORDER BY 1").fetchall())


def by_footer(connection: duckdb.DuckDBPyConnection, root: Path, days: Sequence[date]) -> dict[str, int]:
    """Rows of each of `days`, as its file's footer says."""
    if not days:
        return {}
    files = {str(day_path(root, day)): str(day) for day in days}
    found = connection.execute(
        f"SELECT file_name, num_rows FROM parquet_file_metadata({listed(day_path(root, day) for day in days)})"
    )
    return {files[file]: rows for file, rows in found.fetchall()}


def window(days: Sequence[date]) -> str:
    """From the first to the last of `days`, as a condition by which DuckDB skips the row groups of other days."""
    if not days:
        return "false"
    return f"timestamp >= DATE '{min(days)}' AND timestamp < DATE '{max(days) + timedelta(days=1)}'"


def row_hash(columns: Sequence[str]) -> str:
    """The sum of the rows' 64-bit hashes: the same in any order, another when a row or a value is another."""
    # JSON as its text, so that a spelling counts.
    values = ", ".join(f'"{name}"::VARCHAR' if name == "eventData" else f'"{name}"' for name in columns)
    # A hash of the hash, so that rows which exchange values can't make up for each other in the sum.
    return f"sum(hash(hash({values}))::HUGEINT)"


def content(
    connection: duckdb.DuckDBPyConnection, source: str, columns: Sequence[str], days: Sequence[date]
) -> dict[str, int]:
    """The checksum of the rows of each of `days`."""
    if not days:
        return {}
    # Not by WHERE timestamp::DATE IN: behind a filter that the scan can't take over, DuckDB gathers rows until they are
    # 2,048, whatever their size.
    select = f"SELECT timestamp::DATE::VARCHAR, {row_hash(columns)} FROM {source} WHERE {window(days)} GROUP BY 1"
    found = dict(connection.execute(select).fetchall())
    return {str(day): found[str(day)] for day in days if str(day) in found}


def compare(postgres: Counts, raw: Counts, quarantined: Counts, export: Counts, in_duckdb: Counts) -> list[str]:
    """The days on which the counts do not agree, in words; empty when every row is accounted for."""
    differences = []
    for day in sorted({*postgres, *raw, *quarantined, *export, *in_duckdb}):
        p, r, q = postgres.get(day, 0), raw.get(day, 0), quarantined.get(day, 0)
        e, d = export.get(day, 0), in_duckdb.get(day, 0)
        if not p == r == e + q or d != e:
            differences.append(f"{day}: PostgreSQL {p:,}, raw {r:,}, quarantine {q:,}, export {e:,}, DuckDB {d:,}")
    return differences


def compare_content(raw: Counts, quarantined: Counts, in_duckdb: Counts) -> list[str]:
    """The days on which the rows are as many, but not the same."""
    days = sorted({*raw, *quarantined, *in_duckdb})
    return [
        f"{day}: the rows that DuckDB reads are not those of data/raw"
        for day in days
        if raw.get(day, 0) != quarantined.get(day, 0) + in_duckdb.get(day, 0)
    ]


def reconcile(
    connection: duckdb.DuckDBPyConnection,
    database: Path,
    postgres: Counts,
    raw: Path,
    quarantine: Path,
    export: Path,
    columns: Sequence[str],
    to_compare: Sequence[date],
    compared: Sequence[date],
) -> tuple[dict[str, Any], list[str]]:
    """What load.json says, and what does not agree.

    `postgres` is what PostgreSQL counted, by day. Of the days in `to_compare` counts the rows in all five places and
    compares their content. Of those in `compared`, whose files were compared before, the rows in data/raw and
    data/export are those that their footers say; DuckDB has to hold as many in all.
    """
    set_aside = f"read_parquet({literal(str(quarantine))}, hive_partitioning = false)"
    table = f"analytics.{TABLE}"
    in_raw, in_export = (by_footer(connection, root, compared) for root in (raw, export))
    connection.execute(f"ATTACH {literal(str(database))} AS analytics (READ_ONLY)")
    # As DuckDB finds them, so that a file of no day is seen; all but those that were compared before.
    known = {day_path(root, day) for root in (raw, export) for day in compared}
    raw_files, export_files = (
        [file for file in sorted(root.glob("*/*.parquet")) if file not in known] for root in (raw, export)
    )
    places = {
        "postgres": postgres,
        "raw": in_raw | by_file(connection, raw_files),
        "quarantine": by_day(connection, set_aside),
        "export": in_export | by_file(connection, export_files),
        "duckdb": in_export | by_day(connection, table, window(to_compare) if compared else "true"),
    }
    raw_rows = f"read_parquet({listed(raw_files)}, hive_partitioning = false)" if raw_files else NO_ROWS
    differences = compare(*places.values()) or compare_content(
        *(content(connection, rows, columns, to_compare) for rows in (raw_rows, set_aside, table))
    )
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    totals = {place: sum(counts.values()) for place, counts in places.items()}
    if found != totals["duckdb"]:
        differences.append(f"DuckDB holds {found:,} rows, {totals['duckdb']:,} of them on the days of the window")
    files = len(list(export.glob("*/*.parquet")))
    if files != len(postgres):
        differences.append(f"{count(files, 'file')} for {count(len(postgres), 'day')}")
    return {
        "equal": not differences,
        "days": len(postgres),
        **totals,
        "columns_compared": len(columns),
        "differences": differences,
    }, differences
