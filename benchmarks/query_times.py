"""Run every example query several times in this one process and print the milliseconds of each execution as JSON.

A process of its own, because bench.py has to stay small: a child's peak memory is never below that of its parent.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import duckdb


def main() -> None:
    database, executions = sys.argv[1], int(sys.argv[2])
    queries = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path("queries").glob("*.sql"))}
    times: dict[str, list[float]] = {name: [] for name in queries}
    with duckdb.connect(database, read_only=True) as connection:
        # In turns, so that a disturbance of the machine hits all queries alike.
        for _ in range(executions):
            for name, sql in queries.items():
                begin = time.perf_counter()
                rows = connection.execute(sql).fetchall()
                times[name].append(1000 * (time.perf_counter() - begin))
                if not rows:
                    raise SystemExit(f"{name} returns no rows; its time says nothing")
    print(json.dumps(times))


if __name__ == "__main__":
    main()
