"""Put DuckDB on top: data/analytics.duckdb with a view over data/export, or a table made of it.

Reads data/export and, to compare, what PostgreSQL counted, data/raw and data/quarantine. Publishes a database whose
rows are, day by day, as many as PostgreSQL counted and the same as those of data/raw, by a checksum over all columns;
any difference is an error and leaves the old one in place. Files whose content was compared on this machine before are
not compared again, as long as a view reads the same bytes; which ones were is noted in a local file that may be lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from pipeline.checks import reconcile
from pipeline.core import params
from pipeline.core.errors import DataError, PipelineError
from pipeline.core.process import run
from pipeline.core.progress import count
from pipeline.files import manifest as extracted
from pipeline.files import seal
from pipeline.files import verified as memory
from pipeline.files.layout import day_path, days_in, glob, listed, literal, replacing_file, sha256, write_report
from pipeline.files.pseudonyms import COLUMNS as PSEUDONYMS
from schemas.contract import NAMES, TABLE

# The oldest storage format that holds the file's content: it opens in DuckDB 1.2 and later, and a file that holds only
# a view then has the same bytes every time.
STORAGE_VERSION = "v1.2.0"

INDEXES = {"idx_user_timestamp": '"userId", timestamp', "idx_experiment_phase": '"experimentPhase"'}

# Compressed bytes that go into the table in one transaction.
GROUP_BYTES = 8 * 1024 * 1024

# Leaves room for the process itself within the 350 MB that a stage may use.
MEMORY_LIMIT = "192MB"

# What DuckDB takes, in the path of a database, for the begin of a query and for a slash.
UNFIT = {"?", "\\"}


def build(connection: duckdb.DuckDBPyConnection, database: Path, export: Path, strategy: str) -> None:
    """Make the database file. The view names the export by the path given, relative to where it will be queried.

    Raises PipelineError when DuckDB can't hold a file there, whatever its name.
    """
    unfit = sorted(set(str(database.absolute())) & UNFIT)
    if unfit:
        raise PipelineError(
            f"DuckDB opens no file in a folder with {' or '.join(unfit)} in its name",
            where=str(database.absolute().parent.parent),
            expected="a path without these characters",
            next_step="rename the folder, then dvc repro",
        )
    columns = ", ".join(f'"{name}"' for name in NAMES)
    select = f"SELECT {columns} FROM read_parquet({literal(glob(export))}, hive_partitioning = false)"
    # A fixed name, because the file's bytes hold it.
    connection.execute(f"ATTACH {literal(str(database))} AS analytics (STORAGE_VERSION '{STORAGE_VERSION}')")
    connection.execute("USE analytics")
    if strategy == "view":
        connection.execute(f"CREATE VIEW {TABLE} AS {select}")
    else:
        connection.execute(f"CREATE TABLE {TABLE} AS {select} LIMIT 0")
        # A few files at a time, each group in a transaction of its own: what is not yet committed stays small.
        for files in groups(export):
            connection.execute(f"INSERT INTO {TABLE} SELECT {columns} FROM read_parquet({listed(files)})")
        for name, on in INDEXES.items():
            connection.execute(f"CREATE INDEX {name} ON {TABLE} ({on})")
    connection.execute("USE memory")
    connection.execute("DETACH analytics")


def groups(export: Path) -> Iterator[list[Path]]:
    """The files in order, in groups of about GROUP_BYTES."""
    group: list[Path] = []
    for day in days_in(export):
        group.append(day_path(export, day))
        if sum(path.stat().st_size for path in group) > GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def rules(columns: Sequence[str], quarantine: Path) -> str:
    """A digest of all that decides whether two files hold the same rows, besides the files."""
    code = [Path(file).read_bytes() for file in (__file__, reconcile.__file__)]
    return memory.rules(code, duckdb.__version__, list(columns), sha256(quarantine))


def load(
    params_file: Path,
    extracted_file: Path,
    raw: Path,
    quarantine: Path,
    export: Path,
    database: Path,
    report_file: Path,
    compared_file: Path,
) -> None:
    wish = params.load(params_file)
    strategy = wish.load.strategy
    # Pseudonyms are not to be compared with the ids they stand for.
    columns = [name for name in NAMES if not (wish.export.pseudonymize and name in PSEUDONYMS)]
    wrote, before, after = extracted.read(extracted_file), seal.checksums(raw), seal.checksums(export)
    extracted.check(extracted_file, wrote, raw, before)
    pairs = {day: f"{before[day]} {after[day]}" for day in before.keys() & after.keys()}
    these_rules = rules(columns, quarantine)
    # A view reads the very files that were compared; a table is made anew, with rows of its own.
    known = memory.recall(compared_file, these_rules) if strategy == "view" else {}
    compared = [day for day, pair in pairs.items() if pair == known.get(day)]
    to_compare = sorted((before.keys() | after.keys()) - set(compared))
    with (
        replacing_file(database) as new,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(new.parent)}) as duck,
    ):
        duck.execute("SET parquet_metadata_cache = true")  # footers are read more than once
        build(duck, new, export, strategy)
        counted = {str(day): file.rows for day, file in wrote.items()}
        report, differences = reconcile.reconcile(
            duck, new, counted, raw, quarantine, export, columns, to_compare, compared
        )
        write_report(report_file, {"strategy": strategy, **report})
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise DataError(
                "rows are missing, too many or not the same: " + "; ".join(differences[:3]) + more,
                where=str(report_file),
                expected="the same rows a day in PostgreSQL's snapshot, data/raw, data/export and DuckDB",
                next_step=f"rm -r {raw} {export} && dvc repro, which makes every file anew",
            )
    memory.note(compared_file, these_rules, pairs)
    # A reader keeps the file that it has open. A write-ahead log that somebody left belongs to the old file.
    database.with_name(database.name + ".wal").unlink(missing_ok=True)
    rows = count(report["duckdb"], "row")
    aside = f" with the {report['quarantine']:,} in quarantine" if report["quarantine"] else ""
    print(f"load: {database} ({strategy}), {rows},{aside} equal to PostgreSQL, raw and export on every day", end="")
    kept = count(len(compared), "day")
    print(f"; the content of {kept} had been compared before and not changed" if compared else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="stages.load", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--extracted", type=Path, default=Path("data/reports/extract.json"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw/behavioral_events"))
    parser.add_argument("--quarantine", type=Path, default=Path("data/quarantine/behavioral_events.parquet"))
    parser.add_argument("--export", type=Path, default=Path("data/export/behavioral_events"))
    parser.add_argument("--database", type=Path, default=Path("data/analytics.duckdb"))
    parser.add_argument("--report", type=Path, default=Path("data/reports/load.json"))
    parser.add_argument("--compared", type=Path, default=Path("data/.compared.json"))
    args = parser.parse_args()
    load(
        args.params,
        args.extracted,
        args.raw,
        args.quarantine,
        args.export,
        args.database,
        args.report,
        args.compared,
    )


if __name__ == "__main__":
    run("load", main)
