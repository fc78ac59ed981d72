"""Run example queries of queries/ (or the files or statements given) on data/analytics.duckdb and print the answers.

`make -C FOLDER queries` works from any directory: the relative paths of a view are those of the project's folder.

--at REV asks the snapshot of a commit, branch or tag, without checking it out. Its tables have event_date beside their
columns; files of days that a query needs and that are not in DVC's cache are fetched.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pipeline.checks.current import check_database
from pipeline.checks.published import check_export
from pipeline.core.days import in_months
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.core.reports import read_report
from pipeline.core.verdict import FAILED
from pipeline.files.sql import literal
from pipeline.handover.answer import Destination, explained, one_statement, write
from pipeline.tell import grid
from pipeline.views import views
from schemas.tables import TABLES

if TYPE_CHECKING:
    from pipeline.versions.past import Past

ROOT = Path(__file__).resolve().parent.parent

# Rows that are printed where nothing else is asked for.
SHOWN = 12

# More rows than anybody has.
MAX_LIMIT = 10**12


def connect(paths: Paths | None = None, at: str | None = None) -> duckdb.DuckDBPyConnection:
    """The database, read only; or the snapshot of the commit, branch or tag `at`, in the project's folder.

    Raises DataError when `load` has not made the database yet, or ParamsError where there is no such snapshot.
    """
    paths = paths or Paths(ROOT)
    if at is not None:
        return _kept.enter_context(of_snapshot(at)).connection  # files may be fetched as long as somebody asks
    if not paths.database.exists():
        raise DataError(
            "there is no data/analytics.duckdb",
            where=str(paths.database),
            expected="the database that the load stage makes",
            next_step="make repro, or dvc pull",
        )
    check_export(paths)
    check_database(paths)
    with suppress(DataError):
        checks = read_report(paths.checks_report, "verdict", "sentence")
        if checks["verdict"] == FAILED:
            print(f"notice: {checks['sentence'][0]}; {paths.page}", file=sys.stderr)
    if "," in str(paths.root) and Path.cwd() != paths.root:
        raise ParamsError(
            "DuckDB finds no relative path in a folder with a comma in its path",
            where=str(paths.root),
            expected="the project's folder as the current one",
            next_step=f"cd {shlex.quote(str(paths.root))}, then the same command again",
        )
    connection = duckdb.connect(str(paths.database), read_only=True)
    connection.execute("SET TimeZone = 'UTC'")  # whatever the machine's is
    if Path.cwd() != paths.root:
        connection.execute(f"SET file_search_path = {literal(str(paths.root))}")
    return connection


_kept = ExitStack()


@contextmanager
def of_snapshot(revision: str, first: date | None = None, last: date | None = None) -> Iterator[Past]:
    """The snapshot of a commit, branch or tag, of the days from `first` to `last`, both included, and its views."""
    from pipeline.versions import past, snapshots, store  # with DVC, which takes longer than most queries

    project()
    with store.project() as repo:
        old = past.connect(repo, snapshots.of(repo, Paths(), revision), first, last)
        with old.connection, old.explained():
            if views.OF in old.days:
                with suppress(duckdb.BinderException):  # of columns that the snapshot does not have yet
                    for statement in views.create(days_of(old), old.days):
                        old.connection.execute(statement)
            yield old


def days_of(old: Past) -> str:
    """SQL for the days of a snapshot that were asked for."""
    days = old.days[views.OF]
    if not in_months(days):
        return views.days_between(min(days), max(days))
    return f"SELECT event_date FROM ({views.days_of_months(old.listed(views.OF))}) WHERE {old.condition}"


def statement(argument: str) -> tuple[str, str]:
    """Title and SQL of an argument: a .sql file, or a statement itself."""
    if not argument.endswith(".sql"):
        return argument, argument
    path = Path(argument)
    try:
        sql = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(
            f"there is no file {argument}" if isinstance(error, FileNotFoundError) else f"{argument}: {error}",
            where=str(Path.cwd()),
            expected="a .sql file in UTF-8 or an SQL statement in quotes",
            next_step="ls queries",
        ) from None
    first = sql.partition("\n")[0].lstrip("- ")
    return f"{path.name}: {first}" if first else path.name, sql


def show(connection: duckdb.DuckDBPyConnection, title: str, sql: str, limit: int) -> None:
    """Print the first rows of the answer, all of its columns, and how many rows there are."""
    width = grid.width()
    print("\n" + grid.heading(title, width))
    begin = time.perf_counter()
    first, total = [], 0
    with explained(title):
        answer = one_statement(connection, title, sql).to_arrow_reader()
        for batch in answer:
            first += [batch.slice(0, limit - total)] if total < limit else []
            total += batch.num_rows
    seconds = time.perf_counter() - begin
    print(grid.text(pa.Table.from_batches(first, answer.schema), width))
    some = f", {count(limit, 'row')} shown" if total > limit else ""
    print(f"{count(total, 'row')} in {seconds * 1000:.0f} ms{some}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.query", description=__doc__)
    parser.add_argument("query", nargs="*", help="a .sql file or an SQL statement; all of queries/ by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="the whole answer as CSV")
    form.add_argument("--json", action="store_true", help="the whole answer as JSON, a list of objects")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it to FILE, as CSV unless --json is given")
    parser.add_argument("--limit", type=_limit, metavar="N", help=f"at most N rows; {SHOWN} by default on a terminal")
    parser.add_argument("--at", metavar="REV", help="of the snapshot of this commit, branch or tag")
    parser.add_argument("--from", dest="first", type=_day, metavar="DAY", help="with --at: no day before this one")
    parser.add_argument("--to", dest="last", type=_day, metavar="DAY", help="with --at: no day after this one")
    args = parser.parse_args()
    if args.at is None and (args.first or args.last):
        parser.error("--from and --to belong to --at")
    paths = Paths(ROOT)
    if args.output is not None and paths.data.resolve() in args.output.resolve().parents:
        parser.error(f"{args.output} lies in data/, which the pipeline owns; choose another --output")
    whole = args.csv or args.json or args.output is not None
    if whole and len(args.query) != 1:
        parser.error("--csv, --json and --output take one query")
    wanted = args.query or [str(path) for path in sorted(paths.queries.glob("*.sql"))]

    def answer(connection: duckdb.DuckDBPyConnection) -> None:
        there = {name for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
        for title, sql in map(statement, wanted):
            needed = {table for view in views.VIEWS if view.name in sql for table in view.needs}
            missing = (needed | {table.name for table in TABLES if table.name in sql}) - there
            if not args.query and missing:
                print(f"\n-- {title}\nnot asked: the snapshot has no {', '.join(sorted(missing))}")
                continue
            if not whole:
                show(connection, title, sql, args.limit or SHOWN)
                continue
            rows = write(connection, title, sql, Destination(args.json, args.output, args.limit))
            if args.output is not None:
                print(f"query: {count(rows, 'row')} in {args.output}")

    if args.at is None:
        with connect(paths) as connection:
            interruptible(connection, lambda: answer(connection))
        return
    with of_snapshot(args.at, args.first, args.last) as old:
        interruptible(old.connection, lambda: answer(old.connection))


def interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], None]) -> None:
    """Do `work` in a thread of its own: within a query the main thread would hear of no signal until its end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            future.result()
        except SystemExit:
            while not future.done():
                connection.interrupt()
                wait([future], timeout=0.05)
            raise


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2025-10-01") from None


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_LIMIT:,}")
    return int(text)


if __name__ == "__main__":
    run("query", main)
