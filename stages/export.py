"""Publish the validated rows: one snappy Parquet file a day and table in data/export, with JSON typed as JSON.

Reads data/raw, data/quarantine and the report of validate; writes data/export and quality.json. Every raw row is
either exported, in the same order, or in quarantine. The files of days that did not change stay as they are.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.checks.figures import figures
from pipeline.core.errors import DataError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.process import run_stage
from pipeline.core.progress import Progress, count
from pipeline.days import export as writing
from pipeline.days.export import ExportTask, export_day
from pipeline.engine.executor import executor
from pipeline.files import manifest, pseudonyms, writer
from pipeline.files.layout import day_path, read_report, replacing_days, sha256, write_report
from pipeline.files.manifest import File, Files
from schemas import table as table_code
from schemas import types
from schemas.table import Table
from schemas.tables import TABLES

# A change in one of these may change the bytes of a file.
CODE = tuple(str(m.__file__) for m in (pseudonyms, table_code, types, writer, writing))

# Files written side by side; each holds a row group in memory. It changes no byte.
THREADS = 2


def export(paths: Paths, params: Params) -> None:
    """Make data/export and quality.json. Raises DataError when validate did not vouch for what is there."""
    key = pseudonyms.key() if params.export.pseudonymize else None
    raw = manifest.read(paths.extract_report, TABLES)
    check_validated(paths, raw)
    shared = {table.name: shared_by_all_days(table, key) for table in TABLES}
    bad = {table.name: quarantined_rows(paths.quarantined(table.name)) for table in TABLES}
    made_from = {
        name: {day: manifest.made_from(shared[name], file.sha256, bad[name].get(day, ())) for day, file in days.items()}
        for name, days in raw.items()
    }
    kept = {name: manifest.kept(paths.quality_report, paths.export / name, days) for name, days in made_from.items()}
    with replacing_days(paths.export, kept) as staging:
        tasks = [
            ExportTask(
                table=table,
                day=day,
                source=day_path(paths.raw / table.name, day),
                file=file,
                quarantined=bad[table.name].get(day, ()),
                pseudonymize=params.export.pseudonymize,
                made_from=made_from[table.name][day],
                batch_size=params.extract.batch_size,
                path=day_path(staging / table.name, day),
            )
            for table in TABLES
            for day, file in raw[table.name].items()
            if day not in kept[table.name]
        ]
        new = write(tasks)
        files = {name: {day: kept[name].get(day) or new[name, day] for day in days} for name, days in raw.items()}
        places = {name: {day: paths.export if day in kept[name] else staging for day in raw[name]} for name in raw}
        found = figures(
            [
                (table, [day_path(root / table.name, day) for day, root in places[table.name].items()])
                for table in TABLES
            ]
        )
    write_report(paths.quality_report, {**found, "made_from": list(shared.values()), "files": manifest.entries(files)})
    total = sum(map(len, files.values()))
    print(f"export: kept {total - len(tasks)}, wrote {len(tasks)}")
    rows, size = count(found["rows"], "row"), found["bytes"] / 1e6
    print(f"export: {rows} in {count(total, 'file')} under {paths.export}, {size:.1f} MB")


def write(tasks: list[ExportTask]) -> dict[tuple[str, date], File]:
    """Write the files of all tasks; returns what the report says of each."""
    with Progress("export", "rows", sum(task.file.rows for task in tasks)), executor(THREADS) as pool:
        written = pool.map(export_day, tasks)
        return {(task.table.name, task.day): file for task, file in zip(tasks, written, strict=True)}


def check_validated(paths: Paths, raw: Files) -> None:
    """Raise DataError unless `validate` checked these very files and let them pass."""
    report = read_report(paths.validation_report, "failed_rows", "params", "checked")
    there = {f"{path.stem}.parquet": sha256(path) for path in sorted(paths.quarantine.glob("*.parquet"))}
    known = {"data/raw": manifest.sha256_of(raw), **there}
    checked = {entry["files"]: entry["sha256"] for entry in report["checked"]}
    if checked != known or (report["failed_rows"] and report["params"][0]["mode"] != "quarantine"):
        raise DataError(
            f"{paths.validation_report} does not vouch for the raw files and {paths.quarantine}",
            where=str(paths.validation_report),
            expected="a validation of exactly these files that passed",
            next_step="dvc repro, which validates before it exports",
        )


def quarantined_rows(file: Path) -> dict[date, tuple[int, ...]]:
    """For each day with quarantined rows their places in the raw file."""
    # Not pq.read_table, which imports pandas: a quarter of a second.
    rows = pq.ParquetFile(file).read(columns=["event_date", "row_number"])
    found: dict[date, list[int]] = {}
    for day, number in zip(*(rows.column(name).to_pylist() for name in rows.column_names), strict=True):
        found.setdefault(day, []).append(number)
    return {day: tuple(numbers) for day, numbers in found.items()}


def shared_by_all_days(table: Table, key: bytes | None) -> dict[str, str]:
    """What decides the bytes of all files of a table; a day's own part is the raw file and the rows left out."""
    pseudonymized = key is not None and any(column.pseudonym for column in table.columns)
    return {
        "table": table.name,
        "pseudonyms": pseudonyms.fingerprint(key) if key is not None and pseudonymized else "none",
        "columns": table.fingerprint("export"),
        "code": manifest.code(*CODE),
        "pyarrow": pa.__version__,
    }


if __name__ == "__main__":
    run_stage("export", export, __doc__)
