"""Put DuckDB on top: data/analytics.duckdb with a view over data/export for each table, or a table made of it, and the
views for research of pipeline/views.

Reads data/export and, to compare, what PostgreSQL counted, data/raw and data/quarantine. Publishes a database whose
rows are, day by day, as many as PostgreSQL counted and the same as those of data/raw, by a checksum over all columns;
any difference is an error and leaves the old one in place. Files that were compared on this machine before are not
compared again, as long as a view reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.checks import made_from, reconcile
from pipeline.checks.reconcile import Places
from pipeline.checks.references import references
from pipeline.core.days import ONE_DAY, in_months, word
from pipeline.core.errors import ContractError, DataError, PipelineError
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.process import run_stage
from pipeline.core.progress import count
from pipeline.core.reports import read_report, window_of
from pipeline.days.compare import MEMORY, MEMORY_LIMIT, Compared, CompareTask, compare_days, stretches, together
from pipeline.engine.executor import Workers, workers
from pipeline.files import manifest, verified
from pipeline.files.layout import day_path, pattern, replacing, sha256, write_report
from pipeline.files.manifest import File
from pipeline.files.sql import literal, parquet, quoted, with_memory
from pipeline.files.verified import Verified
from pipeline.views import views
from schemas.table import Table
from schemas.tables import TABLES, chosen

# The oldest storage format that holds the file's content: it opens in DuckDB 1.2 and later, and a file that holds only
# a view then has the same bytes every time.
STORAGE_VERSION = "v1.2.0"

# Compressed bytes that go into a table in one transaction.
GROUP_BYTES = 8 * 1024 * 1024

# Memory for an index, a row: 5,000,000 rows needed 400 MB.
INDEX_BYTES = 50

# In the path of a database DuckDB takes ? for the start of a query string, and \\ for a slash.
UNFIT = {"?", "\\"}

# Differences that a message names before the rest is only counted.
NAMED = 3


def load(paths: Paths, params: Params) -> None:
    """Make data/analytics.duckdb and load.json. Raises DataError when rows are missing, too many or other ones."""
    strategy, tables = params.load.strategy, chosen(TABLES, params.tables)
    reports, folders = [paths.extract_report, paths.quality_report], [paths.raw, paths.quarantine, paths.export]
    inputs = Inputs(paths, params, lambda p: (p.tables, p.load, p.export), reports, folders)
    asked = made_from.loaded(params)
    made = read_report(paths.quality_report, "made_from")["made_from"]
    keys = {entry["table"]: entry["pseudonyms"] for entry in made}
    if clash := {table.name.lower() for table in tables} & views.made_of([table.name for table in tables]):
        raise ContractError(
            f"{', '.join(sorted(clash))} is the name of a table and of a view that is made of the others",
            where="`tables` in params.yaml",
            expected=f"no table of that name beside {views.OF}",
            next_step="leave one of them out of `tables`, then dvc repro",
        )
    raw, exported = (manifest.read(report, tables) for report in (paths.extract_report, paths.quality_report))
    with replacing(paths.database) as new, workers("load", threads=0) as run:
        manifest.check(paths.extract_report, paths.raw, raw, run)
        manifest.check(paths.quality_report, paths.export, exported, run)
        build(new, paths, strategy, keys, raw)
        results = {}
        for table in tables:
            # Pseudonyms are not to be compared with the ids they stand for.
            columns = tuple(c.name for c in table.columns if not (params.export.pseudonymize and c.pseudonym))
            job = Job(table, raw[table.name], exported[table.name], columns, asked)
            results[table.name] = compare_table(paths, new, job, run)
        pointing = references(paths, tables)
        differences = [difference for result in results.values() for difference in result.differences]
        inputs.check()
        compared = {"data/raw": manifest.sha256_of(raw), "data/export": manifest.sha256_of(exported)}
        write_report(paths.load_report, report(asked, results, compared, pointing))
        if differences:
            more = f" and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
            raise DataError(
                "rows are missing, too many or not the same: " + "; ".join(differences[:NAMED]) + more,
                where=str(paths.load_report),
                expected="the same rows a day in PostgreSQL, data/raw, data/export and DuckDB",
                next_step=f"rm -r {paths.raw} {paths.export} && dvc repro, which makes every file anew",
            )
    verified.save(paths.verified("load"), {name: result.verified for name, result in results.items()})
    for one in pointing:
        if one["missing"]:
            said = f"{one['missing']:,} of {count(one['rows'], 'row')} of {one['table']} with a {one['column']}"
            print(
                f"load: notice: {said} point to no row of {one['to']} in the snapshot, whose day may be outside of it"
            )
    # A reader keeps the file that it has open. A write-ahead log that somebody left belongs to the old file.
    paths.database.with_name(paths.database.name + ".wal").unlink(missing_ok=True)
    totals = [result.totals for result in results.values()]
    rows, aside = (sum(total[place] for total in totals) for place in ("duckdb", "quarantine"))
    known = sum(result.known for result in results.values())
    kind = word(day for days in raw.values() for day in days)
    with_aside = f" with the {aside:,} in quarantine" if aside else ""
    said = f"{count(rows, 'row')},{with_aside} equal to PostgreSQL, raw and export on every day"
    more = f"; the content of {count(known, kind)} had been compared before and not changed" if known else ""
    print(f"load: {paths.database} ({strategy}), {said}{more}")


def build(
    database: Path, paths: Paths, strategy: str, keys: Mapping[str, str], raw: Mapping[str, Mapping[date, File]]
) -> None:
    """Make the database file, for the days of `raw`.

    A view names the files by the path given, relative to where it will be queried.

    Raises PipelineError when DuckDB can't hold a file there, whatever its name.
    """
    unfit = sorted(set(str(database.absolute())) & UNFIT)
    if unfit:
        raise PipelineError(
            f"DuckDB opens no file in a folder with {' or '.join(unfit)} in its name",
            where=str(paths.data.absolute().parent),
            expected="a path without these characters",
            next_step="rename the folder, then dvc repro",
        )

    def make(connection: duckdb.DuckDBPyConnection) -> None:
        database.unlink(missing_ok=True)  # of an attempt with less memory
        # A fixed name, because the file's bytes hold it.
        connection.execute(f"ATTACH {literal(str(database))} AS analytics (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.execute("USE analytics")
        for table in (table for table in TABLES if table.name in raw):
            folder, name = paths.export / table.name, quoted(table.name)
            columns = ", ".join(column.quoted for column in table.columns)
            select = f"SELECT {columns} FROM read_parquet({literal(pattern(folder))}, hive_partitioning = false)"
            if strategy == "view":
                connection.execute(f"CREATE VIEW {name} AS {select}")
                run_all(connection, views.commented(table))
                continue
            connection.execute(f"CREATE TABLE {name} AS {select} LIMIT 0")
            # A few files at a time, each group in a transaction of its own: what is not yet committed stays small.
            for files in groups(sorted(folder.glob("*/*.parquet"))):
                connection.execute(f"INSERT INTO {name} SELECT {columns} FROM {parquet(files)}")
            connection.execute(f"COMMENT ON TABLE {name} IS {literal(f'{manifest.PSEUDONYMS}: {keys[table.name]}')}")
            run_all(connection, views.column_comments(table))
        if days := raw.get(views.OF):
            if strategy == "view":
                of = literal(pattern(paths.export / views.OF))
                in_window = views.days_of_months(of) if in_months(days) else views.days_of_files(of)
                run_all(connection, views.create(in_window, raw))
            else:
                begin, until = window_of(paths.extract_report)
                run_all(connection, views.create(views.days_between(begin, until - ONE_DAY), raw, views.KEPT))
            check_days(connection, *window_of(paths.extract_report))
        connection.execute("USE memory")
        connection.execute("DETACH analytics")

    with_memory(MEMORY_LIMIT, make, {"temp_directory": str(database.parent)})
    if strategy == "table":
        index(database, {table: sum(file.rows for file in files.values()) for table, files in raw.items()})


def index(database: Path, rows: Mapping[str, int]) -> None:
    """Make the indexes of each table, apart from all else: DuckDB holds an index in memory until it is made."""

    def make(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"ATTACH {literal(str(database))} AS analytics")
        for table in (table for table in TABLES if table.name in rows):
            for name, on in table.indexes:
                columns = ", ".join(map(quoted, on))
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {quoted(name)} ON analytics.{quoted(table.name)} ({columns})"
                )
        connection.execute("DETACH analytics")

    needed = MEMORY + max(rows.values()) * INDEX_BYTES // 1_000_000
    with_memory(f"{needed}MB", make, {"temp_directory": str(database.parent), "threads": 1})


def check_days(connection: duckdb.DuckDBPyConnection, begin: date, until: date) -> None:
    """Raise DataError where the days that views are made for are not those of the window."""
    ends = "min(event_date), max(event_date), count(event_date), count(DISTINCT event_date)"
    found = connection.execute(f"SELECT {ends} FROM {quoted(views.DAYS.name)}").fetchall()[0]
    days = (until - begin).days
    if found != (begin, until - ONE_DAY, days, days):
        first, last, number, _ = found
        raise DataError(
            f"{views.DAYS.name} has {count(number, 'day')} from {first} to {last}",
            where=views.DAYS.name,
            expected=f"each day from {begin} to {until - ONE_DAY} once",
            next_step="dvc repro --force, which makes every file anew",
        )


def run_all(connection: duckdb.DuckDBPyConnection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def groups(files: list[Path]) -> Iterator[list[Path]]:
    """The files in order, in groups of about GROUP_BYTES."""
    group: list[Path] = []
    for path in files:
        group.append(path)
        if sum(path.stat().st_size for path in group) > GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


class Job(NamedTuple):
    """One table to compare."""

    table: Table
    raw: Mapping[date, File]
    exported: Mapping[date, File]
    columns: tuple[str, ...]
    asked: Mapping[str, Any]  # what load.json is made from


class Result(NamedTuple):
    """What came of the comparison of one table."""

    columns: int  # of the table
    compared: int  # columns whose content was compared
    totals: dict[str, int]  # rows in each place
    differences: list[str]
    known: int  # days whose content was compared before
    verified: Verified


def compare_table(paths: Paths, database: Path, job: Job, run: Workers) -> Result:
    """Compare the rows of a table in PostgreSQL's count, the files and DuckDB.

    For days already compared, trust the manifest's row counts and check only DuckDB's total.
    """
    table, quarantine = job.table, paths.quarantined(job.table.name)
    key = verified.cache_key(job.asked, job.columns, sha256(quarantine))
    pairs = {day: [job.raw[day].sha256, job.exported[day].sha256] for day in job.raw.keys() & job.exported.keys()}
    # A view reads the very files that were compared; a table is made anew, with rows of its own.
    saved = verified.recall(paths.verified("load"), table.name, key) if job.asked["strategy"] == "view" else {}
    known = {day for day, pair in pairs.items() if pair == saved.get(day)}

    def rows(day: date) -> int:
        return job.raw[day].rows if day in job.raw else 0

    wanted = [
        one
        for day in sorted((job.raw.keys() | job.exported.keys()) - known)
        for one in stretches(table, day, rows(day), day_path(paths.raw / table.name, day) if run.apart else None)
    ]
    tasks = [
        CompareTask(
            table=table,
            days=tuple(dict.fromkeys(one.day for one in part)),
            counted=tuple(one.day for one in part if not one.begin),
            begin=part[0].begin if part else "",
            end=part[-1].end if part else "",
            raw=paths.raw / table.name,
            quarantine=quarantine,
            export=paths.export / table.name,
            database=database,
            columns=job.columns,
            first=not number,
            months=in_months(job.raw),
        )
        for number, part in enumerate(run.parts(wanted, lambda one: one.rows))
    ]
    each = run.each(compare_days, tasks, lambda task: sum(map(rows, task.days)))
    found = together([compared for _, compared in each])
    return Result(len(table.columns), len(job.columns), *judge(job, known, found), len(known), Verified(key, pairs))


def judge(job: Job, known: Collection[date], found: Compared) -> tuple[dict[str, int], list[str]]:
    """The rows in each place, and what does not agree, in words."""
    places = Places(
        postgres=reconcile.by_day({day: file.rows for day, file in job.raw.items()}),
        raw=reconcile.by_day({day: job.raw[day].rows for day in known}) | found.raw,
        quarantine=found.quarantine,
        export=reconcile.by_day({day: job.exported[day].rows for day in known}) | found.export,
        duckdb=reconcile.by_day({day: job.exported[day].rows for day in known}) | found.duckdb,
    )
    totals = places.totals()
    differences = reconcile.differences(places) or reconcile.content_differences(found.other_content)
    if found.total != totals["duckdb"]:
        differences.append(f"DuckDB holds {found.total:,} rows, {totals['duckdb']:,} of them on the days of the window")
    return totals, differences


def report(
    asked: Mapping[str, Any],
    results: Mapping[str, Result],
    compared: Mapping[str, str],
    pointing: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """load.json: headline figures, and lists of the rows in each place and of what does not agree."""
    return {
        "equal": not any(result.differences for result in results.values()),
        "made_from": [dict(asked)],
        "compared": [{"files": files, "sha256": sha256} for files, sha256 in compared.items()],
        "tables": [
            {"table": table, **result.totals, "columns": result.columns, "columns_compared": result.compared}
            for table, result in results.items()
        ],
        "references": list(pointing),
        "differences": [difference for result in results.values() for difference in result.differences],
    }


if __name__ == "__main__":
    run_stage("load", load, __doc__)
