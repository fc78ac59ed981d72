"""Publish the validated rows: one snappy Parquet file a day in data/export, eventData typed as JSON.

Reads data/raw, data/quarantine and the verdict of validate; writes data/export and quality.json. Every raw row is
either exported, in the same order, or in quarantine. The files of days that did not change stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core import params
from pipeline.core.errors import DataError
from pipeline.core.process import run
from pipeline.core.progress import Progress, count
from pipeline.files import manifest as extracted
from pipeline.files import pseudonyms as pseudonym
from pipeline.files import seal
from pipeline.files.layout import day_path, listed, read_report, replacing, sha256, write_report
from pipeline.files.writer import DayWriter, batches, fingerprint, open_day
from schemas.contract import NAMES, arrow_schema

# Files written side by side; each holds a row group in memory. It changes no byte.
THREADS = 2


def publishable(batch: pa.RecordBatch, schema: pa.Schema, key: bytes | None) -> pa.RecordBatch:
    """The same rows with the export's types: text that is JSON says so. With a key, ids become pseudonyms."""
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if isinstance(field.type, pa.BaseExtensionType):
            column = pa.ExtensionArray.from_storage(field.type, column)
        elif key is not None and field.name in pseudonym.COLUMNS:
            column = pseudonym.replace(key, field.name, column)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def quarantined_rows(quarantine: Path) -> dict[date, pa.Array]:
    """For each day with quarantined rows their places in the raw file."""
    # Not pq.read_table, which imports pandas: a quarter of a second.
    table = pq.ParquetFile(quarantine).read(columns=["event_date", "row_number"])
    if not table.num_rows:
        return {}
    import pyarrow.compute as pc  # a twentieth of a second

    days = table.column("event_date").unique().to_pylist()
    return {day: table.filter(pc.field("event_date") == day).column("row_number").combine_chunks() for day in days}


def origin(raw_sha256: str, bad: pa.Array | None, key: bytes | None) -> dict[str, str]:
    """What decides a day's file, as its footer says it: the raw file, the rows left out, the key, contract and code."""
    numbers = "none" if bad is None else hashlib.sha256(repr(bad.to_pylist()).encode()).hexdigest()[:16]
    return {
        "pipeline.raw": raw_sha256,
        "pipeline.quarantined": numbers,
        "pipeline.pseudonyms": "none" if key is None else pseudonym.fingerprint(key),
        "pipeline.contract": fingerprint("export", __file__, pseudonym.__file__),
    }


def export_day(
    raw: Path,
    staging: Path,
    day: date,
    sha256: str,
    origin: Mapping[str, str],
    bad: pa.Array | None,
    key: bytes | None,
    batch_size: int,
    progress: Progress,
) -> str:
    """Write one day's file without the rows at `bad`; returns its checksum.

    Raises DataError unless the raw file has the checksum `sha256`, and raw rows = exported + quarantined.
    """
    if seal.checksum(day_path(raw, day)) != sha256:
        raise DataError(
            f"the file {day_path(raw, day)} is damaged, or not the one that was validated",
            where=str(day_path(raw, day)),
            expected="the file whose checksum extract and validate reported",
            next_step=f"rm {day_path(raw, day)} && dvc repro",
        )
    schema = arrow_schema("export")
    source = open_day(raw, day, arrow_schema("raw"))
    offset = 0
    with DayWriter(day_path(staging, day), schema, origin) as writer:
        for batch in batches(source, batch_size):
            rows = batch.num_rows
            if bad is not None:
                import pyarrow.compute as pc

                numbers = pa.array(range(offset, offset + rows), pa.int64())
                batch = batch.filter(pc.invert(pc.is_in(numbers, value_set=bad)))
            writer.write(publishable(batch, schema, key))
            offset += rows
            progress.add(rows)
    quarantined = len(bad) if bad is not None else 0
    if writer.rows + quarantined != source.metadata.num_rows:
        raise DataError(
            f"{day}: {source.metadata.num_rows:,} raw rows, {writer.rows:,} exported, {quarantined:,} in quarantine",
            where=str(day_path(raw, day)),
            expected="raw = exported + quarantined",
            next_step="dvc repro --force validate, then dvc repro",
        )
    return writer.sha256


def quality(files: Sequence[Path]) -> dict[str, Any]:
    """What the export holds, counted by DuckDB from the files: the content of quality.json."""
    with duckdb.connect(config={"memory_limit": "128MB", "threads": THREADS}) as connection:
        connection.execute("SET parquet_metadata_cache = true")  # footers are read once a query else
        connection.execute(f"CREATE VIEW events AS FROM read_parquet({listed(files)}, hive_partitioning = false)")
        row = connection.execute(
            'SELECT count(*), count(DISTINCT "userId"), min(timestamp), max(timestamp) FROM events'
        ).fetchone()
        assert row is not None
        # From the footers: counting NULLs in eventData would read every body.
        nulls = connection.execute(
            f"SELECT path_in_schema, sum(stats_null_count)::BIGINT FROM parquet_metadata({listed(files)}) GROUP BY 1"
        ).fetchall()
        kinds = connection.execute(
            'SELECT "eventType", coalesce("experimentPhase", \'none\'), count(*) FROM events GROUP BY ALL ORDER BY ALL'
        ).fetchall()
    types, phases = Counter[str](), Counter[str]()
    for event_type, phase, rows in kinds:
        types[event_type] += rows
        phases[phase] += rows
    return {
        "rows": row[0],
        "users": row[1],
        "first_timestamp": _utc(row[2]),
        "last_timestamp": _utc(row[3]),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "event_types": dict(sorted(types.items())),
        "phases": dict(sorted(phases.items())),
        "nulls": {name: dict(nulls).get(name, 0) for name in NAMES},
    }


def _utc(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds") + "Z"


def check_verdict(report_file: Path, raw: Mapping[date, str], quarantine: Path) -> None:
    """Raise DataError unless `validate` looked at files of these very checksums and let them pass."""
    verdict = read_report(report_file, "passed", "mode", "raw_sha256", "quarantine_sha256")
    seen = (verdict["raw_sha256"], verdict["quarantine_sha256"]) == (seal.digest_of(raw), sha256(quarantine))
    if not seen or not (verdict["passed"] or verdict["mode"] == "quarantine"):
        raise DataError(
            f"{report_file} does not vouch for the raw files and {quarantine}",
            where=str(report_file),
            expected="a validation of exactly these files that passed",
            next_step="dvc repro, which validates before it exports",
        )


def export(
    params_file: Path,
    extracted_file: Path,
    raw: Path,
    quarantine: Path,
    verdict_file: Path,
    out: Path,
    report_file: Path,
) -> None:
    wish = params.load(params_file)
    key = pseudonym.key() if wish.export.pseudonymize else None
    sources = extracted.read(extracted_file)
    check_verdict(verdict_file, {day: source.sha256 for day, source in sources.items()}, quarantine)
    bad = quarantined_rows(quarantine)
    origins = {day: origin(source.sha256, bad.get(day), key) for day, source in sources.items()}
    kept = seal.unchanged(out, origins)
    to_write = [day for day in sources if day not in kept]
    with (
        replacing(out, kept) as staging,
        Progress("export", "rows", sum(sources[day].rows for day in to_write)) as progress,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def write(day: date) -> str:
            sha256, rows_out = sources[day].sha256, bad.get(day)
            return export_day(raw, staging, day, sha256, origins[day], rows_out, key, wish.extract.batch_size, progress)

        written = dict(zip(to_write, pool.map(write, to_write), strict=True))
        files = [day_path(out if day in kept else staging, day) for day in sources]
        facts = quality(files)
    checksums = {day: kept[day].sha256 if day in kept else written[day] for day in sources}
    # In dvc.yaml it stands for data/export.
    write_report(report_file, {**facts, "export_sha256": seal.digest_of(checksums)})
    print(f"export: kept {len(kept)}, wrote {len(to_write)}")
    rows, size = count(facts["rows"], "row"), facts["bytes"] / 1e6
    print(f"export: {rows} in {count(len(files), 'file')} under {out}, {size:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="stages.export", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--extracted", type=Path, default=Path("data/reports/extract.json"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw/behavioral_events"))
    parser.add_argument("--quarantine", type=Path, default=Path("data/quarantine/behavioral_events.parquet"))
    parser.add_argument("--verdict", type=Path, default=Path("data/reports/validation.json"))
    parser.add_argument("--out", type=Path, default=Path("data/export/behavioral_events"))
    parser.add_argument("--report", type=Path, default=Path("data/reports/quality.json"))
    args = parser.parse_args()
    export(args.params, args.extracted, args.raw, args.quarantine, args.verdict, args.out, args.report)


if __name__ == "__main__":
    run("export", main)
