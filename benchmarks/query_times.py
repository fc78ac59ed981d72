"""Run every example query (or with --views, read every view) several times in this one process and print the
milliseconds of each execution as JSON.

A process of its own, because bench.py has to stay small: a child's peak memory is never below that of its parent.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.views.views import VIEWS


def count(done: duckdb.DuckDBPyRelation) -> int:
    """As Arrow, which is how many rows reach a frame; as tuples of Python they would take longer than the view."""
    answer: pa.Table = done.to_arrow_table()
    return int(answer.num_rows)


def main() -> None:
    database, executions = sys.argv[1], int(sys.argv[2])
    of_views = "--views" in sys.argv
    queries = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path("queries").glob("*.sql"))}
    if of_views:
        queries = {view.name: f"SELECT * FROM {view.name}" for view in VIEWS}
    times: dict[str, list[float]] = {name: [] for name in queries}
    with duckdb.connect(database, read_only=True) as connection:
        # In turns, so that a disturbance of the machine hits all queries alike.
        for _ in range(executions):
            for name, sql in queries.items():
                begin = time.perf_counter()
                rows = count(connection.sql(sql)) if of_views else len(connection.execute(sql).fetchall())
                times[name].append(1000 * (time.perf_counter() - begin))
                if not rows:
                    raise SystemExit(f"{name} returns no rows; its time says nothing")
    print(json.dumps(times))


if __name__ == "__main__":
    main()
