"""Publish the validated rows: one snappy Parquet file a day, or month, and table in data/export, with JSON
typed as JSON.

Reads data/raw, data/quarantine and the report of validate; writes data/export and quality.json. Every raw row is
either exported, in the same order, or in quarantine. The files of days that did not change stay as they are. Beside the
tables stand the files that describe them to others: datapackage.json, croissant.json, README.md and SHA256SUMS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path

from pipeline.checks import made_from
from pipeline.checks.figures import Counts, FigureTask, count_files, figures
from pipeline.checks.made_from import NO_PSEUDONYMS
from pipeline.core.days import in_months, told
from pipeline.core.errors import DataError
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.process import run_stage
from pipeline.core.progress import count
from pipeline.core.reports import read_report, window_of
from pipeline.days.export import ExportTask, export_days
from pipeline.engine.executor import Workers, workers
from pipeline.files import manifest, pseudonyms
from pipeline.files.layout import day_path, quarantined_rows, replacing_days, sha256, write_report
from pipeline.files.manifest import File, Files
from pipeline.handover import metadata
from pipeline.handover.described import Part, described
from schemas.table import Table
from schemas.tables import TABLES, chosen


def export(paths: Paths, params: Params) -> None:
    """Make data/export and quality.json. Raises DataError when validate did not vouch for what is there."""
    reports = [paths.extract_report, paths.validation_report]
    inputs = Inputs(
        paths,
        params,
        lambda p: (p.tables, p.export, p.dataset, p.extract.batch_size),
        reports,
        [paths.raw, paths.quarantine],
    )
    tables = chosen(TABLES, params.tables)
    if params.export.pseudonymize:
        pseudonyms.check(tables)
    key = pseudonyms.fingerprint(pseudonyms.key()) if params.export.pseudonymize else NO_PSEUDONYMS
    raw = manifest.read(paths.extract_report, tables)
    window = window_of(paths.extract_report)
    check_validated(paths, raw)
    shared = {table.name: made_from.exported(table, key) for table in tables}
    bad = {name: quarantined_rows(paths.quarantined(name), in_months(files)) for name, files in raw.items()}
    wanted = {
        name: {day: manifest.made_from(shared[name], file.sha256, bad[name].get(day, ())) for day, file in days.items()}
        for name, days in raw.items()
    }

    def whole(run: Workers) -> dict[str, dict[date, File]]:
        return {n: manifest.kept(paths.quality_report, paths.export / n, days, run) for n, days in wanted.items()}

    with (
        workers("export", look=partial(pseudonyms.told, params.export.pseudonymize)) as run,
        replacing_days(paths.export, kept := whole(run)) as staging,
    ):
        tasks = [
            ExportTask(
                table=table,
                day=day,
                source=day_path(paths.raw / table.name, day),
                file=file,
                quarantined=bad[table.name].get(day, ()),
                pseudonymize=params.export.pseudonymize,
                made_from=wanted[table.name][day],
                batch_size=params.extract.batch_size,
                path=day_path(staging / table.name, day),
                facts=told(day, *window, table.time),
            )
            for table in tables
            for day, file in raw[table.name].items()
            if day not in kept[table.name]
        ]
        new = write(run, tasks)
        files = {name: {day: kept[name].get(day) or new[name, day] for day in days} for name, days in raw.items()}
        places = {name: {day: paths.export if day in kept[name] else staging for day in raw[name]} for name in raw}
        found = figures([(table, counts(run, table, files[table.name], places[table.name])) for table in tables])
        each = [(table, parts(table, files[table.name], places[table.name])) for table in tables]
        beside = describe(paths, params, each)
        for name, content in beside.items():
            (staging / name).write_bytes(content)
        inputs.check()
    made = [{**one, **made_from.export_report(params.dataset)} for one in shared.values()]
    known = [{"file": name, "sha256": hashlib.sha256(content).hexdigest()} for name, content in beside.items()]
    write_report(
        paths.quality_report, {**found, "made_from": made, "metadata": known, "files": manifest.entries(files)}
    )
    total = sum(map(len, files.values()))
    print(f"export: kept {total - len(tasks)}, wrote {len(tasks)}")
    rows, size = count(found["rows"], "row"), found["bytes"] / 1e6
    print(f"export: {rows} in {count(total, 'file')} under {paths.export}, {size:.1f} MB")


def write(run: Workers, tasks: list[ExportTask]) -> dict[tuple[str, date], File]:
    """Write the files of all tasks; returns what the report says of each."""
    return {(task.table.name, task.day): file for task, file in export_days(run, tasks)}


def counts(run: Workers, table: Table, files: Mapping[date, File], roots: Mapping[date, Path]) -> list[Counts]:
    """What the files of a table hold, for some of them at a time."""
    tasks = [
        FigureTask(
            table,
            tuple(day_path(roots[day] / table.name, day) for day in days),
            sum(files[day].rows for day in days),
        )
        for days in run.parts(list(roots), lambda day: files[day].rows)
    ]
    return [found for _, found in run.each(count_files, tasks, lambda task: task.rows)]


def parts(table: Table, files: Mapping[date, File], roots: Mapping[date, Path]) -> list[Part]:
    """The files of a table, as they are told to others."""
    found = []
    for day, file in sorted(files.items()):
        path = day_path(roots[day] / table.name, day)
        found.append(Part(day, str(path.relative_to(roots[day])), file.rows, path.stat().st_size, file.sha256))
    return found


def describe(paths: Paths, params: Params, tables: Sequence[tuple[Table, Sequence[Part]]]) -> dict[str, bytes]:
    """The content of the files that describe the tables, by name."""
    of = described(
        params.dataset,
        tables,
        read_report(paths.extract_report, "made_from", "window"),
        read_report(paths.validation_report, "made_from", "tables"),
        params.export.pseudonymize,
    )
    beside = metadata.metadata(of)
    return {**beside, metadata.SUMS: metadata.sums(of, beside)}


def check_validated(paths: Paths, raw: Files) -> None:
    """Raise DataError unless `validate` checked these very files and let them pass."""
    report = read_report(paths.validation_report, "failed_rows", "made_from", "checked")
    there = {f"{path.stem}.parquet": sha256(path) for path in sorted(paths.quarantine.glob("*.parquet"))}
    known = {"data/raw": manifest.sha256_of(raw), **there}
    checked = {entry["files"]: entry["sha256"] for entry in report["checked"]}
    if checked != known or (report["failed_rows"] and report["made_from"][0]["mode"] != "quarantine"):
        raise DataError(
            f"{paths.validation_report} does not vouch for the raw files and {paths.quarantine}",
            where=str(paths.validation_report),
            expected="a validation of exactly these files that passed",
            next_step="dvc repro, which validates before it exports",
        )


if __name__ == "__main__":
    run_stage("export", export, __doc__)
