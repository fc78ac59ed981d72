"""Prove that data/raw holds the rows that were pinned and that each obeys the contract, before anything is published.

Reads data/raw in batches, and in extract's report what was pinned; writes validation.json, the findings (local
only) and, in quarantine mode, the failing rows to data/quarantine. Checks everything before it fails; every count is
exact. A day whose file was verified on this machine before, by the same checks, is not checked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

from pipeline.checks import duplicates, findings, made_from, pins
from pipeline.checks.chunks import portions, rows_of
from pipeline.checks.duplicates import Window
from pipeline.checks.findings import Findings
from pipeline.checks.pins import PinnedTask
from pipeline.core import watermark
from pipeline.core.days import word
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.process import run_stage
from pipeline.core.progress import Progress, count
from pipeline.core.reports import window_of
from pipeline.days.check import CheckTask, check_portions, join
from pipeline.engine.executor import Workers, workers
from pipeline.engine.place import CallingThread
from pipeline.files import manifest, verified
from pipeline.files.layout import replacing_files, sha256, write_report
from pipeline.files.manifest import File
from pipeline.files.verified import Verified
from schemas.rules import Settings
from schemas.table import Table
from schemas.tables import TABLES, chosen


class Checked(NamedTuple):
    """What came of the checks of one table."""

    findings: Findings
    moved: list[date]  # days whose file holds other rows than were pinned
    verified: int  # days that were verified before
    indexes: Verified  # of the search for duplicates, for the next run


def validate(paths: Paths, params: Params) -> None:
    """Make data/quarantine and validation.json.

    Raises DataError when data/raw is not what extract wrote, PinError when it does not hold the pinned rows, and in
    strict mode RowsInvalidError when a row breaks the contract.
    """
    inputs = Inputs(
        paths, params, lambda p: (p.tables, p.validate, p.extract.batch_size), [paths.extract_report], [paths.raw]
    )
    tables = chosen(TABLES, params.tables)
    files = manifest.read(paths.extract_report, tables)
    _, until = window_of(paths.extract_report)
    settings = Settings(watermark.midnight(until), params.validate.labels)
    asked = made_from.checked(params.validate)
    by = {key: value for key, value in asked.items() if key != "mode"}  # which decides where failing rows go
    keys = {table.name: verified.cache_key(by, until if table.other_time_rules else None) for table in tables}
    with replacing_files(paths.quarantine) as new, workers("validate", threads=0) as run:
        manifest.check(paths.extract_report, paths.raw, files, run)
        checked = {
            table.name: check_table(paths, params, Job(table, files[table.name], settings, keys[table.name], new, run))
            for table in tables
        }
        found = {name: result.findings for name, result in checked.items()}
        for name, result in checked.items():
            pins.check(paths.raw / name, result.moved)
        quarantined = {f"{path.stem}.parquet": sha256(path) for path in sorted(new.glob("*.parquet"))}
        known = {"data/raw": manifest.sha256_of(files), **quarantined}
        inputs.check()
        write_report(paths.validation_report, findings.report(found, asked, known))
        findings.write(found, paths.failures)
        clean = {
            name: {day: known_by(file) for day, file in files[name].items() if day not in found[name].failed_days}
            for name in found
        }
        duplicates.save(paths.verified("duplicates"), {name: result.indexes for name, result in checked.items()})
        verified.save(paths.verified("validate"), {name: Verified(keys[name], days) for name, days in clean.items()})
        findings.show(found, paths.failures)
        failed = sum(result.failed_rows for result in found.values())
        if failed and params.validate.mode == "strict":
            raise findings.invalid(found, paths.validation_report)
    rows, checks = (sum(f.rows for f in found.values()), sum(len(f.counts) for f in found.values()))
    verdict = f"{count(failed, 'row')} to {paths.quarantine}" if failed else "all passed"
    before = sum(result.verified for result in checked.values())
    kind = word(day for days in files.values() for day in days)
    more = f"; {count(before, kind)} had passed before and not changed" if before else ""
    print(f"validate: {count(rows, 'row')}, {checks} checks, {verdict}{more}")


def known_by(file: File) -> list[object]:
    """What a verified file is known by: its bytes and the pin that they were compared with."""
    return [file.sha256, *file.pin]


class Job(NamedTuple):
    """One table to check. Failing rows go to a file in the folder `quarantine`."""

    table: Table
    files: Mapping[date, File]
    settings: Settings
    key: str  # of the cache of what was verified
    quarantine: Path
    run: Workers


def check_table(paths: Paths, params: Params, job: Job) -> Checked:
    """Put the rules to the rows of a table, search the window for duplicates, and compare the files with the pins."""
    table, files, folder = job.table, job.files, paths.raw / job.table.name
    saved = verified.recall(paths.verified("validate"), table.name, job.key)
    known = [day for day, file in files.items() if known_by(file) == saved.get(day)]
    unknown = {day: file for day, file in files.items() if day not in set(known)}
    result = Findings(table.name, table.key, params.validate.failure_cases, params.validate.report_values)
    window = Window(table, folder, files, set(unknown), paths.verified("duplicates"), job.quarantine / "spill")
    with ThreadPoolExecutor(2) as threads:
        # Workers that are apart do one after the other, as each takes all of them.
        aside = CallingThread() if job.run.apart else threads
        searched = aside.submit(duplicates.duplicates, window, job.run)
        moved = aside.submit(days_that_moved, job, folder, unknown)
        # Half a second of pandas and Pandera, to be had while DuckDB looks for duplicates.
        from pipeline.checks.batches import within_time_rules

        twice, indexes = searched.result()
        # A row that passed before may be the twin of a new one.
        known = [] if any(twice.values()) else within_time_rules(table, known, job.settings)
        to_check = portions({day: file for day, file in files.items() if day not in known}, job.run.apart)
        path = job.quarantine / paths.quarantined(table.name).name
        parts = job.run.parts(to_check, rows_of)
        tasks = [
            CheckTask(
                table=table,
                folder=folder,
                portions=part,
                settings=job.settings,
                duplicates=twice,
                findings=replace(result, failed_days=set(), counts={}, listed=[]),
                batch_size=params.extract.batch_size,
                quarantine=path if len(parts) == 1 else job.quarantine / "parts" / f"{n:06}" / path.name,
            )
            for n, part in enumerate(parts)
        ]
        with Progress("validate", "rows", sum(map(rows_of, to_check))):
            each = job.run.each(check_portions, tasks, lambda task: sum(map(rows_of, task.portions)))
            found = {task.portions: findings for task, findings in each}
        result.take([found[part] for part in parts])
        if len(parts) > 1:
            join(table, [task.quarantine for task in tasks], path)
        result.rows += sum(files[day].rows for day in known)
        return Checked(result, moved.result(), len(known), indexes)


def days_that_moved(job: Job, folder: Path, files: Mapping[date, File]) -> list[date]:
    """The days of `files` that hold other rows than were pinned."""
    parts = job.run.parts(portions(files, job.run.apart), rows_of)
    tasks = [PinnedTask(job.table, folder, part) for part in parts]
    each = job.run.each(pins.pin_portions, tasks, lambda task: sum(map(rows_of, task.portions)))
    found = pins.by_day(one for _, some in each for one in some)
    return sorted(day for day, file in files.items() if found.get(day) != file.pin)


if __name__ == "__main__":
    run_stage("validate", validate, __doc__)
