"""Measure what research takes: each view, the stages of analyses/ and `make analyses`, on the sample many times over.

Fills a private PostgreSQL with the rows of many seeds of the sample, of some of them only those of the users in the
experiment, runs the pipeline on it in a copy of the checkout, and removes both in the end. As bench, it is a
measurement and no test.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median

import psycopg2

from benchmarks import standby
from benchmarks.bench import table_copy
from benchmarks.measuring import DAY_BEFORE, PYTHON_M, ROOT, UNTIL, environment, git, measure, working_copy
from benchmarks.report import EXECUTIONS, held, machine, p95, table, target_table
from pipeline.sample import rows as sample
from pipeline.sample import server as pgserver
from schemas.behavioral_events import BEHAVIORAL_EVENTS

# At a million rows: so many seeds with all users, and with those in the experiment alone, to have 500 of the latter.
ROWS, ALL_USERS, IN_EXPERIMENT_ALONE = 1_000_000, 10, 32
DAYS = 90
ANALYSES = ("its", "abab", "granger")
WHOLE = "make analyses"
LIMITS = {"view": 500.0, "table": 100.0, WHOLE: 30.0, "abab": 60.0}


def rows_of(seed: int, whole: bool) -> tuple[list[sample.Row], list[sample.Row]]:
    """The context and the events of a seed."""
    events = list(sample.event_rows(seed))
    people = {row[1] for row in events if whole or row[COLUMN] is not None}
    return (
        [row for row in sample.context_metadata_rows(seed) if row[1] in people],
        [row for row in events if row[1] in people],
    )


COLUMN = BEHAVIORAL_EVENTS.names.index("experimentPhase")


def fill(where: dict[str, str], whole: int, part: int) -> None:
    with closing(psycopg2.connect(standby.dsn(where))) as connection, connection, connection.cursor() as cursor:
        cursor.execute((ROOT / "schemas" / "app" / "migration.sql").read_text(encoding="utf-8"))
        for seed in range(1, whole + part + 1):
            print(f"research: filling PostgreSQL, seed {seed}/{whole + part}", file=sys.stderr)
            for name, rows in zip(("context_metadata", "behavioral_events"), rows_of(seed, seed <= whole), strict=True):
                cursor.copy_expert(f"COPY {name} FROM STDIN", io.BytesIO("".join(sample.copy_text(rows)).encode()))


def measured(seeds: tuple[int, int], rounds: int) -> str:
    home = pgserver.private_folder(f"behavioral-events-research-{os.urandom(4).hex()}")
    times: dict[str, list[float]] = {}
    views: dict[str, dict[str, list[float]]] = {}
    try:
        with (
            pgserver.running(home, "research", lambda where: fill(where, *seeds)) as where,
            tempfile.TemporaryDirectory(prefix="behavioral-events-") as name,
        ):
            copy, env = Path(name) / "copy", environment(standby.url(where))
            working_copy(copy, DAYS)
            print("research: running the pipeline", file=sys.stderr)
            measure([*PYTHON_M, "commands.refresh", "--until", UNTIL], copy, env)
            measure([*PYTHON_M, "dvc", "repro"], copy, env)
            git(copy, "add", "-A")
            git(copy, "commit", "-qm", f"Snapshot to {DAY_BEFORE}")
            rows = json.loads((copy / "data/reports/quality.json").read_text(encoding="utf-8"))["rows"]
            version = standby.ask(where, "SHOW server_version")
            for number in range(1, rounds + 1):
                steps = [(WHOLE, [*PYTHON_M, "dvc", "repro", "analyses/dvc.yaml"])]
                steps += [(stage, [*PYTHON_M, f"analyses.{stage}"]) for stage in ANALYSES]
                (copy / "analyses/dvc.lock").unlink(missing_ok=True)
                for step, command in steps:
                    run, _ = measure(command, copy, env)
                    times.setdefault(step, []).append(run.seconds)
                    print(f"research: round {number}/{rounds}: {step}: {run.seconds:.2f} s", file=sys.stderr)
            cases = len(json.loads((copy / "analyses/results/abab/abab.json").read_text(encoding="utf-8"))["cases"])
            table_copy(copy, Path(name) / "table")
            measure([*PYTHON_M, "stages.load"], Path(name) / "table", env)
            for strategy, file in (("view", "data/analytics.duckdb"), ("table", "../table/data/analytics.duckdb")):
                command = [*PYTHON_M, "benchmarks.query_times", file, str(EXECUTIONS), "--views"]
                views[strategy] = json.loads(measure(command, copy, env)[1])
    finally:
        shutil.rmtree(home, ignore_errors=True)
    of = machine({"rows": rows, "days": DAYS, "skew": 0, "runs": rounds}, version)
    return "\n\n".join([f"**{of}; {cases} cases**", *tables(times, views)])


def tables(times: dict[str, list[float]], views: dict[str, dict[str, list[float]]]) -> list[str]:
    took = [[n, f"{median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}"] for n, each in times.items()]
    milliseconds = [
        [name, *(f"{f(views[strategy][name]):.0f}" for strategy in ("view", "table") for f in (median, p95))]
        for name in views["view"]
    ]
    slowest = {strategy: max((p95(each), name) for name, each in found.items()) for strategy, found in views.items()}
    found = [(f"p95 ms of every view, {key} (highest: {name})", value, key) for key, (value, name) in slowest.items()]
    found += [(f"{key}, seconds", median(times[key]), key) for key in (WHOLE, "abab")]
    rows = held((what, value, LIMITS[key], ".1f") for what, value, key in found)
    return [
        table("Research, as whole processes", ["process", "median s", "min to max s"], took),
        table(
            f"All rows of each view as Arrow, {EXECUTIONS} executions each in one process a strategy, in milliseconds",
            ["view", "view p50", "view p95", "table p50", "table p95"],
            milliseconds,
        ),
        target_table("Targets of research", rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.research", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="about so many events; 1,000,000 by default")
    parser.add_argument("--runs", type=int, default=3, help="rounds; 3 by default")
    args = parser.parse_args()
    seeds = (max(1, round(ALL_USERS * args.rows / ROWS)), round(IN_EXPERIMENT_ALONE * args.rows / ROWS))
    print(measured(seeds, args.runs))


if __name__ == "__main__":
    main()
