"""Run the example queries of queries/ (or the files or statements given) on data/analytics.duckdb and print results.

`make -C FOLDER queries` works from any directory: a view's relative paths are looked up from the project's folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import duckdb

from pipeline.checks.published import check_files
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.process import run
from pipeline.core.progress import count
from pipeline.files.layout import literal

ROOT = Path(__file__).resolve().parent.parent
ROWS_SHOWN = 12


def connect(root: Path = ROOT) -> duckdb.DuckDBPyConnection:
    """The database, read only. Raises DataError when `load` has not made it yet."""
    database = root / "data" / "analytics.duckdb"
    if not database.exists():
        raise DataError(
            "there is no data/analytics.duckdb",
            where=str(database),
            expected="the database that the load stage makes",
            next_step="make repro, or dvc pull",
        )
    check_files(root)
    connection = duckdb.connect(str(database), read_only=True)
    connection.execute(f"SET file_search_path = {literal(str(root))}")
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.query", description=__doc__)
    parser.add_argument("query", nargs="*", help="a .sql file or an SQL statement; all of queries/ by default")
    wanted = parser.parse_args().query or [str(path) for path in sorted((ROOT / "queries").glob("*.sql"))]
    with connect() as connection:
        for title, sql in map(statement, wanted):
            print(f"\n-- {title}")
            begin = time.perf_counter()
            try:
                result = connection.sql(sql)
                rows = len(result) if result is not None else 0
            except duckdb.IOException:
                raise  # a file, not the query
            except duckdb.Error as error:
                raise ParamsError(
                    f"DuckDB refused the query: {str(error).splitlines()[0]}",
                    where=title,
                    expected="one SELECT over behavioral_events",
                    next_step="python -m commands.query 'DESCRIBE behavioral_events'",
                ) from None
            seconds = time.perf_counter() - begin
            if result is not None:
                result.show(max_rows=ROWS_SHOWN)
            print(f"{count(rows, 'row')} in {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    run("queries", main)
