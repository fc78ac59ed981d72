"""Run example queries of queries/ (or the files or statements given) on data/analytics.duckdb and print the answers.

`make -C FOLDER queries` works from any directory: the relative paths of a view are those of the project's folder.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from pipeline.checks.published import check_export
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import run
from pipeline.core.progress import count
from pipeline.files.layout import replacing
from pipeline.files.sql import literal

ROOT = Path(__file__).resolve().parent.parent

# Rows that are printed where nothing else is asked for.
SHOWN = 12

# Where the terminal's width is not known.
WIDTH = 100

# Titles are not broken into shorter lines.
NARROW = 40

# Blanks between two columns.
GAP = 2


def connect(paths: Paths) -> duckdb.DuckDBPyConnection:
    """The database, read only. Raises DataError when `load` has not made it yet."""
    if not paths.database.exists():
        raise DataError(
            "there is no data/analytics.duckdb",
            where=str(paths.database),
            expected="the database that the load stage makes",
            next_step="make repro, or dvc pull",
        )
    check_export(paths)
    connection = duckdb.connect(str(paths.database), read_only=True)
    connection.execute(f"SET file_search_path = {literal(str(paths.root))}")
    return connection


def statement(argument: str) -> tuple[str, str]:
    """Title and SQL of an argument: a .sql file, or a statement itself."""
    if not argument.endswith(".sql"):
        return argument, argument
    path = Path(argument)
    if not path.exists():
        raise ParamsError(
            f"there is no file {argument}",
            where=str(Path.cwd()),
            expected="a .sql file or an SQL statement in quotes",
            next_step="ls queries",
        )
    sql = path.read_text(encoding="utf-8")
    return f"{path.name}: {sql.splitlines()[0].lstrip('- ')}", sql


@contextmanager
def explained(title: str) -> Iterator[None]:
    """Turn what DuckDB says of a query into a ParamsError; what it says of files stays as it is."""
    try:
        yield
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise ParamsError(
            f"DuckDB refused the query: {str(error).splitlines()[0]}",
            where=title,
            expected="one SELECT over behavioral_events",
            next_step="python -m commands.query 'DESCRIBE behavioral_events'",
        ) from None


def one_statement(connection: duckdb.DuckDBPyConnection, title: str, sql: str) -> duckdb.DuckDBPyRelation:
    """The answer of the only statement in `sql`. Raises ParamsError for several: DuckDB would give the last one's."""
    number = len(connection.extract_statements(sql))
    if number != 1:
        raise ParamsError(
            f"{count(number, 'statement')} in one query",
            where=title,
            expected="one SELECT over behavioral_events",
            next_step="each statement as an argument of its own",
        )
    return connection.sql(sql)


def show(connection: duckdb.DuckDBPyConnection, title: str, sql: str, limit: int) -> None:
    """Print the first rows of the answer, all of its columns, and how many rows there are."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    print("\n" + textwrap.fill(title, max(width, NARROW), initial_indent="-- ", subsequent_indent="   "))
    begin = time.perf_counter()
    first, total = [], 0
    with explained(title):
        answer = one_statement(connection, title, sql).to_arrow_reader()
        for batch in answer:
            first += [batch.slice(0, limit - total)] if total < limit else []
            total += batch.num_rows
    seconds = time.perf_counter() - begin
    print(table(pa.Table.from_batches(first, answer.schema), width))
    some = f", {count(limit, 'row')} shown" if total > limit else ""
    print(f"{count(total, 'row')} in {seconds * 1000:.0f} ms{some}")


def table(rows: pa.Table, width: int) -> str:
    """The rows with all columns, each value on a line of its own where a table would be wider than `width`."""
    cells = [[cell(value) for value in column.to_pylist()] for column in rows.columns]
    widths = [max(map(len, [name, *column])) for name, column in zip(rows.column_names, cells, strict=True)]
    if not rows.num_rows:
        return textwrap.fill("  ".join(rows.column_names), max(width, NARROW))
    if sum(widths) + GAP * (len(widths) - 1) > width:
        return records(rows.column_names, list(zip(*cells, strict=True)), width)
    numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    lines = [rows.column_names, ["-" * n for n in widths], *zip(*cells, strict=True)]
    set_out = [
        [text.rjust(n) if right else text.ljust(n) for text, n, right in zip(line, widths, numeric, strict=True)]
        for line in lines
    ]
    return "\n".join((" " * GAP).join(line).rstrip() for line in set_out)


def records(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Each value on a line of its own, cut off at `width`."""
    longest = max(map(len, names))
    lines = []
    for number, row in enumerate(rows, 1):
        lines.append(f"-- row {number}")
        for name, text in zip(names, row, strict=True):
            line = f"{name:<{longest}}  {text}"
            lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return "\n".join(lines)


def cell(value: object) -> str:
    """A value on one line. Control characters are named, because a terminal would obey them."""
    text = "NULL" if value is None else " ".join(str(value).split())
    return re.sub("[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


def write(connection: duckdb.DuckDBPyConnection, title: str, sql: str, to: Destination) -> int:
    """Write the answer as CSV (NULL is empty, the empty text is "") or as JSON; returns how many rows it has.

    Raises ParamsError when DuckDB refuses the query.
    """
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder, explained(title):
        file = Path(folder, "answer")
        whole = one_statement(connection, title, sql)
        connection.register("answer", whole if to.limit is None else whole.limit(to.limit))
        form = "FORMAT json, ARRAY true" if to.json else "FORMAT csv, HEADER true"
        rows = int(connection.execute(f"COPY (FROM answer) TO {literal(str(file))} ({form})").fetchall()[0][0])
        content = file.read_bytes()
    if to.file is None:
        sys.stdout.buffer.write(content)
    else:
        with replacing(to.file.absolute()) as new:
            new.write_bytes(content)
    return rows


class Destination(NamedTuple):
    """Where an answer goes, and how: JSON or CSV, to a file or to standard output, all rows or some."""

    json: bool
    file: Path | None
    limit: int | None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.query", description=__doc__)
    parser.add_argument("query", nargs="*", help="a .sql file or an SQL statement; all of queries/ by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="the whole answer as CSV")
    form.add_argument("--json", action="store_true", help="the whole answer as JSON, a list of objects")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it to FILE, as CSV unless --json is given")
    parser.add_argument("--limit", type=_limit, metavar="N", help=f"at most N rows; {SHOWN} by default on a terminal")
    args = parser.parse_args()
    paths = Paths(ROOT)
    whole = args.csv or args.json or args.output is not None
    if whole and len(args.query) != 1:
        parser.error("--csv, --json and --output take one query")
    wanted = args.query or [str(path) for path in sorted(paths.queries.glob("*.sql"))]
    with connect(paths) as connection:
        for title, sql in map(statement, wanted):
            if not whole:
                show(connection, title, sql, args.limit or SHOWN)
                continue
            rows = write(connection, title, sql, Destination(args.json, args.output, args.limit))
            if args.output is not None:
                print(f"query: {count(rows, 'row')} in {args.output}")


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    run("query", main)
