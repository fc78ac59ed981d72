"""The answer of a query: asked of DuckDB, and written as CSV or JSON."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb

from pipeline.core.errors import ParamsError
from pipeline.core.progress import count
from pipeline.files.sql import literal

# What DuckDB writes into JSON that JSON has not; texts are left as they are.
NOT_FINITE = re.compile(rb'("(?:[^"\\]|\\.)*")|-?(?:NaN|Infinity)')


@contextmanager
def explained(title: str) -> Iterator[None]:
    """Turn what DuckDB says of a query into a ParamsError."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise ParamsError(
            f"DuckDB refused the query: {str(error).splitlines()[0]}",
            where=title,
            expected="one SELECT over the tables and views of the snapshot"
            + (
                "; the day of a row is CAST(timestamp AS DATE), and event_date a column with --at only"
                if "event_date" in str(error)
                else ""
            ),
            next_step="python -m commands.query 'SHOW TABLES', and 'DESCRIBE' with one of them",
        ) from None


def one_statement(connection: duckdb.DuckDBPyConnection, title: str, sql: str) -> duckdb.DuckDBPyRelation:
    """The answer of the only statement in `sql`. Raises ParamsError for several: DuckDB would give the last one's."""
    number = len(connection.extract_statements(sql))
    if number != 1:
        raise ParamsError(
            f"{count(number, 'statement')} in one query",
            where=title,
            expected="one SELECT over the tables and views of the snapshot",
            next_step="each statement as an argument of its own",
        )
    return connection.sql(sql)


def write(connection: duckdb.DuckDBPyConnection, title: str, sql: str, to: Destination) -> int:
    """Write the answer as CSV (NULL is empty, the empty text is "") or as JSON; returns how many rows it has.

    Raises ParamsError when DuckDB refuses the query.
    """
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder, explained(title):
        file = Path(folder, "answer")
        answer = one_statement(connection, title, sql)
        answer = answer if to.limit is None else answer.limit(to.limit)  # DuckDB finds it by the variable's name
        form = "FORMAT json, ARRAY true" if to.json else "FORMAT csv, HEADER true"
        rows = int(connection.execute(f"COPY (FROM answer) TO {literal(str(file))} ({form})").fetchall()[0][0])
        content = file.read_bytes()
    content = NOT_FINITE.sub(lambda match: match[1] or b"null", content) if to.json else content
    if to.file is None:
        sys.stdout.buffer.write(content)
        return rows
    try:
        to.file.write_bytes(content)
    except OSError as error:
        raise ParamsError(
            f"the answer can't be written: {error.strerror}",
            where=str(to.file.absolute()),
            expected="--output FILE where there is, or can be, a file",
            next_step="the same command with another --output",
        ) from None
    return rows


class Destination(NamedTuple):
    """Where an answer goes, and how: JSON or CSV, to a file or to standard output, all rows or some."""

    json: bool
    file: Path | None
    limit: int | None
