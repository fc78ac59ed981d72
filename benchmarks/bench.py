"""Measure the pipeline against a bare COPY of the same rows, as whole processes, side by side in one run.

Fills a private PostgreSQL with synthetic events, works in a copy of the checkout and removes both in the end. Progress
goes to stderr; stdout gets Markdown tables. A missed target is a "no" in the last table and no failure: this is a
measurement, not a test.

The server's own memory is nobody's in these tables. Linux counts what the parent held when it forked, so this module
imports nothing heavy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import yaml

from benchmarks.measuring import (
    DAY_BEFORE,
    NOTHING_TO_DO,
    PUBLIC,
    PYTHON_M,
    ROOT,
    UNTIL,
    Filling,
    ask,
    commit,
    database,
    environment,
    forget,
    in_order,
    measure,
    working_copy,
)
from benchmarks.report import (
    COLD,
    COLD_REPORT,
    EMPTY,
    EXECUTIONS,
    FLOOR,
    FOLDERS,
    IMPORTING,
    NIGHT,
    NIGHT_REFRESH,
    NIGHT_REPRO,
    NO_OP,
    NO_OPS,
    PLAIN,
    REFRESH,
    REPORT,
    STAGES,
    TABLE_LOAD,
    VALIDATE_WORDS,
    Results,
    Run,
    machine,
    markdown,
    targets,
)
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.tables import TABLES

LAST_DAY = DAY_BEFORE  # UNTIL is exclusive
PLAIN_RUNS = 2  # it takes long and its ratio is far from 1
PLAIN_ROWS = 2_000_000  # beyond, it may need more memory than there is
TABLE = BEHAVIORAL_EVENTS.name
WORDS = "words"  # a schema of the database, and the folder of the project that reads it


@dataclass(frozen=True)
class Step:
    """What a round measures: a process, how to get ready for it, and what it has to print."""

    name: str
    command: list[str]
    cwd: Path
    prepare: Callable[[], None] = lambda: None
    expect: str = ""
    rounds: int = sys.maxsize


def table_copy(copy: Path, to: Path) -> None:
    """A folder with what load needs, as the last run left it, that wants a table. The files are those of the copy."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(copy / "data", to / "data", copy_function=os.link)
    for name in CODE:
        (to / name).symlink_to(copy / name)
    text = (copy / "params.yaml").read_text(encoding="utf-8")
    as_table = re.sub(r"(?m)^  strategy: \w+$", "  strategy: table", text)
    (to / "params.yaml").write_text(as_table, encoding="utf-8")


CODE = ("pipeline", "schemas", "stages")


def words_project(copy: Path, to: Path, env: Mapping[str, str], days: int) -> None:
    """A folder with what validate needs, of the rows with words in them."""
    to.mkdir()
    for name in (*CODE, "commands"):
        (to / name).symlink_to(copy / name)
    shutil.copy2(copy / "params.yaml", to)
    own = {**env, "DATABASE_URL": f"{env['DATABASE_URL']}&schema={WORDS}"}
    measure([*PYTHON_M, "commands.refresh", "--until", UNTIL, "--days", str(days)], to, own)
    measure([*PYTHON_M, "stages.extract"], to, own)


def same_folders(copy: Path, to: Path) -> None:
    """A pipeline that does nothing and has the deps and outs of the real one, but for code and params."""
    (to / ".dvc").mkdir(parents=True)
    shutil.copy2(ROOT / ".dvc" / "config", to / ".dvc" / "config")
    shutil.copy2(copy / "watermark.yaml", to / "watermark.yaml")
    shutil.copytree(copy / "data", to / "data", ignore=shutil.ignore_patterns(".*"))
    stages = yaml.safe_load((copy / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        stage["cmd"] = "true"
        stage["deps"] = [dep for dep in stage["deps"] if dep.split("/")[0] not in CODE]
        del stage["params"]
    (to / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    (to / ".gitignore").write_text((ROOT / ".gitignore").read_text(encoding="utf-8"), encoding="utf-8")
    commit(to)


def small_project(to: Path, commands: Iterable[str]) -> None:
    """A chain of stages that run one of `commands` each and copy a few bytes: what these and DVC itself take."""
    (to / ".dvc").mkdir(parents=True)
    shutil.copy2(ROOT / ".dvc" / "config", to / ".dvc" / "config")
    change(to)
    stages = {
        f"s{n}": {"cmd": f"{command} && cp {n}.txt {n + 1}.txt", "deps": [f"{n}.txt"], "outs": [f"{n + 1}.txt"]}
        for n, command in enumerate(commands)
    }
    (to / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    commit(to)


def change(small: Path) -> None:
    """Give the stages of a small project something to do."""
    (small / "0.txt").write_text(f"{time.time_ns()}\n")


# The libraries that each stage can't do without, and the quick end of a process that the stages have, too.
LIBRARIES = {
    "extract": "psycopg2, pyarrow.parquet",
    "validate": "pandera.pandas, duckdb",
    "export": "pyarrow.parquet, duckdb",
    "load": "duckdb",
}
IMPORTS = [f'python -c "import {names}, os; os._exit(0)"' for names in LIBRARIES.values()]


# What a stage would keep or skip thanks to an earlier run.
UNMAKE = {
    "refresh": "data/.verified/refresh.json",
    "extract": "data/raw",
    "validate": "data/.verified/validate.json",
    "export": "data/export",
    "load": "data/.verified/load.json",
    "report": "data/report",
}


def unmake(copy: Path, stage: str) -> None:
    """Take away what a stage could keep, so that it does all of its work."""
    kept = UNMAKE.get(stage)
    if kept and (copy / kept).is_dir():
        shutil.rmtree(copy / kept)
    elif kept:
        (copy / kept).unlink(missing_ok=True)


def floor_sql(days: int) -> str:
    columns = ", ".join(column.quoted for column in BEHAVIORAL_EVENTS.columns)
    window = f"timestamp >= date '{UNTIL}' - {days} AND timestamp < date '{UNTIL}'"
    return f"COPY (SELECT {columns} FROM {TABLE} WHERE {window}) TO STDOUT (FORMAT csv)"


def round_of(folder: Path, psql: list[str], days: int, plain: bool) -> list[Step]:
    """Everything that one round measures, each stage with all of its work to do."""
    copy, empty, folders, table, words = (folder / name for name in ("copy", "empty", "folders", "table", WORDS))
    repro = [*PYTHON_M, "dvc", "repro"]
    refresh = [*PYTHON_M, "commands.refresh", "--until", UNTIL, "--days", str(days)]
    nothing_to_do = [
        Step(NO_OP, repro, copy, expect=NOTHING_TO_DO),
        Step(FOLDERS, repro, folders, expect=NOTHING_TO_DO),
        Step(EMPTY, repro, empty, expect=NOTHING_TO_DO),
    ]
    steps = [
        Step(COLD, [*repro, "load"], copy, partial(forget, copy), "Running stage 'load'"),
        Step(COLD_REPORT, repro, copy, expect="Running stage 'report'"),
        *nothing_to_do * NO_OPS,
        Step(IMPORTING, repro, folder / "importing", partial(change, folder / "importing"), "Running stage 's3'"),
        Step(FLOOR, [*psql, "-c", floor_sql(days)], copy),
        Step(REFRESH, refresh, copy, partial(unmake, copy, "refresh"), "nothing moved"),
        *(Step(name, [*PYTHON_M, f"stages.{name}"], copy, partial(unmake, copy, name)) for name in (*STAGES, REPORT)),
        Step(VALIDATE_WORDS, [*PYTHON_M, "stages.validate"], words, partial(unmake, words, "validate")),
        Step(TABLE_LOAD, [*PYTHON_M, "stages.load"], table, partial(table_copy, copy, table)),
    ]
    if plain:
        steps.append(Step(PLAIN, [*PYTHON_M, "benchmarks.plain_way", str(folder)], copy, rounds=PLAIN_RUNS))
    return steps


def night(copy: Path, psql: list[str], env: Mapping[str, str], days: int) -> tuple[Run, Run, dict[str, int]]:
    """A night after a run: refresh, dvc repro, and what they cost PostgreSQL and the remote.

    The figures are rows_sent (by COPY, as the server counted), rows_changed, bytes_pushed and bytes_changed (the new
    day's two files). The remote is a folder; the bytes are those of any other.
    """
    remote = copy.parent / "remote"
    shutil.rmtree(remote, ignore_errors=True)
    dvc = [*PYTHON_M, "dvc"]
    refresh = [*PYTHON_M, "commands.refresh", "--days", str(days), "--until"]
    for command in ([*refresh, DAY_BEFORE], [*dvc, "repro"], [*dvc, "push", "-r", "bench"]):
        measure(command, copy, env)
    before = {file for file in remote.rglob("*") if file.is_file()}
    ask(psql, env, "SELECT pg_stat_statements_reset()")
    refreshed, _ = measure([*refresh, UNTIL], copy, env)
    made, _ = measure([*dvc, "repro", "load"], copy, env, expect=f"read {len(TABLES)}, dropped {len(TABLES)}")
    sent = ask(psql, env, "SELECT sum(rows) FROM pg_stat_statements WHERE query LIKE 'COPY%'")
    measure([*dvc, "repro"], copy, env)
    measure([*dvc, "push", "-r", "bench"], copy, env)
    day = [copy / "data" / name / TABLE / f"event_date={LAST_DAY}" / "part-0.parquet" for name in ("raw", "export")]
    changed = ask(psql, env, f"SELECT count(*) FROM {TABLE} WHERE timestamp >= '{LAST_DAY}' AND timestamp < '{UNTIL}'")
    figures = {
        "rows_sent": int(sent),
        "rows_changed": int(changed),
        "bytes_pushed": sum(file.stat().st_size for file in remote.rglob("*") if file.is_file() and file not in before),
        "bytes_changed": sum(file.stat().st_size for file in day),
    }
    return refreshed, made, figures


def bench(rows: int, days: int, skew: float, runs: int, plain: bool, memory_only: bool) -> Results:
    settings = {"rows": rows, "days": days, "skew": skew, "runs": runs, "memory_only": memory_only}
    results = Results(dict(settings))
    filling = Filling(rows, days, round(rows * skew))
    # The same rows again, with words in each that begin as numbers do that JSON has not.
    fillings = {PUBLIC: filling, WORDS: filling._replace(title="info, nan ")}
    with database(fillings) as (url, psql), tempfile.TemporaryDirectory(prefix="behavioral-events-") as name:
        folder, env = Path(name), environment(url)
        working_copy(folder / "copy", days)
        results.machine = machine(results.settings, ask(psql, env, "SHOW server_version"))
        print("bench: pinning the source", file=sys.stderr)
        measure([*PYTHON_M, "commands.refresh", "--until", UNTIL, "--days", str(days)], folder / "copy", env)
        steps = round_of(folder, psql, days, plain)
        if memory_only:
            forget(folder / "copy")
            steps = [step for step in steps if step.name in STAGES]
        else:
            for name, commands in (("empty", ["true"] * len(STAGES)), ("importing", IMPORTS)):
                small_project(folder / name, commands)
                measure([*PYTHON_M, "dvc", "repro"], folder / name, env)
            measure([*PYTHON_M, "dvc", "repro"], folder / "copy", env)
            words_project(folder / "copy", folder / WORDS, env, days)
            same_folders(folder / "copy", folder / "folders")
            measure([*PYTHON_M, "dvc", "repro"], folder / "folders", env)
            measure([*PYTHON_M, "dvc", "remote", "add", "bench", str(folder / "remote")], folder / "copy", env)
        for number in range(1, runs + 1):
            for step in (step for step in steps if number <= step.rounds):
                step.prepare()
                run, _ = measure(step.command, step.cwd, env, expect=step.expect)
                results.runs.setdefault(step.name, []).append(run)
                took = f"{run.seconds:.2f} s, {run.peak_mb:.0f} MB"
                print(f"bench: round {number}/{runs}: {step.name}: {took}", file=sys.stderr)
                if step.name == COLD_REPORT:
                    refreshed, made, results.night = night(folder / "copy", psql, env, days)
                    for name, run in (
                        (NIGHT_REFRESH, refreshed),
                        (NIGHT_REPRO, made),
                        (NIGHT, refreshed.then(made)),
                    ):
                        results.runs.setdefault(name, []).append(run)
                    took = f"{refreshed.seconds:.2f} + {made.seconds:.2f} s"
                    print(f"bench: round {number}/{runs}: the night after: {took}", file=sys.stderr)
        if not memory_only:
            for strategy, file in (("view", "data/analytics.duckdb"), ("table", "../table/data/analytics.duckdb")):
                print(f"bench: example queries, {strategy}", file=sys.stderr)
                command = [*PYTHON_M, "benchmarks.query_times", file, str(EXECUTIONS)]
                results.queries[strategy] = json.loads(measure(command, folder / "copy", env)[1])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="events to make; 1,000,000 by default")
    parser.add_argument("--days", type=int, default=90, help=f"UTC days before {UNTIL} they lie in; 90 by default")
    parser.add_argument("--skew", type=float, default=0, help="share of the rows that lie in the last day, 0 to 1")
    parser.add_argument("--runs", type=int, default=5, help="rounds; 5 by default")
    parser.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        help=f"measure the plain way too; by default up to {PLAIN_ROWS:,} rows",
    )
    parser.add_argument("--memory-only", action="store_true", help="only the four stages, once each")
    parser.add_argument(
        "--fewer", type=Path, metavar="FILE", help="what --json wrote of a run with fewer rows, to compare with"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures")
    args = parser.parse_args()
    if args.rows < 1 or args.days < 1 or args.runs < 1 or not 0 <= args.skew <= 1:
        parser.error("--rows, --days and --runs are at least 1, --skew lies between 0 and 1")
    if args.plain is None and args.rows > PLAIN_ROWS:
        print(f"bench: more than {PLAIN_ROWS:,} rows: without the plain way (--plain measures it)", file=sys.stderr)
    plain = args.rows <= PLAIN_ROWS if args.plain is None else args.plain
    runs = 1 if args.memory_only else args.runs
    results = in_order(lambda: bench(args.rows, args.days, args.skew, runs, plain, args.memory_only))
    if args.fewer:
        other = json.loads(args.fewer.read_text(encoding="utf-8"))
        seconds = median(run["seconds"] for run in other["runs"][COLD])
        results.fewer = {"rows": other["settings"]["rows"], "seconds": seconds}
    print(markdown(results))
    if args.json:
        runs_as_json = {name: [vars(run) for run in runs] for name, runs in results.runs.items()}
        found = {**vars(results), "runs": runs_as_json, "targets": targets(results)}
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
