"""A PostgreSQL that may be broken, a project folder whose stages read it, and how a try with a fault is judged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psycopg2
import psycopg2.extensions

from benchmarks import standby
from benchmarks.report import STAGES, table
from benchmarks.standby import dsn, url
from pipeline.core.params import load_params
from pipeline.sample import server as pgserver
from schemas.behavioral_events import BEHAVIORAL_EVENTS

ROOT = Path(__file__).resolve().parent.parent
PYTHON_M = [sys.executable, "-m"]
DVC = [*PYTHON_M, "dvc"]
UNTIL = "2025-10-28"
ROWS = 60_000
TABLE = BEHAVIORAL_EVENTS.name
NAMES = BEHAVIORAL_EVENTS.names
CODE = ("commands", "pipeline", "schemas", "stages")  # the lab has its own, to edit
CLEAR = range(1, 8)  # the exit codes of pipeline.core.errors


@dataclass
class Fault:
    """What came of one kind of fault."""

    name: str
    tries: int = 0
    complete: int = 0
    clear: int = 0
    lost: int = 0
    doubled: int = 0
    unclear: list[str] = field(default_factory=list)


class Lab:
    """A server that may be broken, and a project folder whose stages read it."""

    def __init__(self, where: dict[str, str], home: Path, folder: Path, minutes: float) -> None:
        self.where, self.home, self.folder = where, home, folder
        self.deadline = time.monotonic() + 60 * minutes
        self.bin = pgserver.binaries(home)
        self.env = {**os.environ, "DATABASE_URL": url(where), "TMPDIR": str(folder)}
        self.env["PSEUDONYM_KEY"] = "k" * 40
        (folder / "params.yaml").write_text(
            (ROOT / "params.yaml")
            .read_text(encoding="utf-8")
            .replace("days: 90", "days: 6")
            .replace("attempts: 6", "attempts: 8")
            .replace("retry_wait: 1\n", "retry_wait: 0.3\n")
        )
        assert load_params(folder / "params.yaml").extract.days == 6
        for name in CODE:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "dvc.yaml", folder)
        self.run([*DVC, "init", "--quiet", "--no-scm"])
        self.must("refresh", "--until", UNTIL)
        self.rows = self.expected()

    def tries(self, times: int) -> Iterator[int]:
        """Numbers from 0, until there were `times` or the time is over."""
        for number in range(times):
            if time.monotonic() > self.deadline:
                return
            yield number

    def connect(self) -> psycopg2.extensions.connection:
        connection: psycopg2.extensions.connection = psycopg2.connect(dsn(self.where))
        connection.autocommit = True
        return connection

    def expected(self) -> Counter[tuple[object, ...]]:
        """Every row as psycopg2 reads it, with how often it is there."""
        columns = ", ".join(f'"{name}"::text' if name == "eventData" else f'"{name}"' for name in NAMES)
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM {TABLE}")
            return Counter(cursor.fetchall())

    def found(self) -> Counter[tuple[object, ...]]:
        """Every row as DuckDB answers."""
        columns = ", ".join(f'"{name}"::VARCHAR' if name == "eventData" else f'"{name}"' for name in NAMES)
        with duckdb.connect(config={"file_search_path": str(self.folder)}) as connection:
            connection.execute(f"ATTACH '{self.folder}/data/analytics.duckdb' AS a (READ_ONLY)")
            return Counter(connection.execute(f"SELECT {columns} FROM a.{TABLE}").fetchall())

    def start(self, stage: str, *arguments: str) -> subprocess.Popen[str]:
        return self.process([*PYTHON_M, f"{'stages' if stage in STAGES else 'commands'}.{stage}", *arguments])

    def process(self, command: list[str]) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.env, **pipes)  # type: ignore[call-overload, no-any-return]

    def attempt(self, stage: str, *arguments: str) -> tuple[int, str]:
        """Run a stage to its end; its exit code and what it said of errors."""
        process = self.start(stage, *arguments)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run any command to its end; its exit code and all that it printed."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=self.folder, env=self.env, check=False, timeout=120, **pipes)  # type: ignore[call-overload]
        return done.returncode, str(done.stdout)

    def sql(self, statements: str) -> None:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statements)

    def must(self, stage: str, *arguments: str) -> None:
        code, said = self.attempt(stage, *arguments)
        if code:
            raise SystemExit(f"faults: {stage} failed without a fault:\n{said}")

    def reset(self) -> None:
        """Nothing extracted yet."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def finish(self) -> None:
        for stage in STAGES:
            self.must(stage)

    def copying(self) -> list[int]:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'")
            return [row[0] for row in cursor.fetchall()]

    def restart(self) -> None:
        pgserver.stop(self.bin, self.home / "data")
        pgserver.start(self.bin, self.home / "data", self.home / "log", **standby.PRIMARY)


def record(lab: Lab, fault: Fault, code: int, said: str) -> None:
    """Judge a try; then let the run complete, and compare every row."""
    fault.tries += 1
    told = "next:" in said if code in CLEAR else "stopped by SIGTERM; nothing was published" in said
    if code == 0:
        fault.complete += 1
    elif code in (*CLEAR, 128 + signal.SIGTERM) and told and "Traceback" not in said:
        fault.clear += 1
    elif code == -signal.SIGKILL:
        pass  # it had no chance to say anything; what counts is what the next run makes of it
    else:
        fault.unclear.append(f"{code}: {said[-300:]}")
    lab.finish()
    if code == -signal.SIGKILL:
        fault.complete += 1
    found = lab.found()
    fault.lost += (lab.rows - found).total()
    fault.doubled += (found - lab.rows).total()
    left = [path for path in (lab.folder / "data").rglob(".*") if path.name not in (".notes", ".verified")]
    if left:
        fault.unclear.append(f"left behind: {left[0]}")


def fill(where: dict[str, str]) -> None:
    with closing(psycopg2.connect(dsn(where))) as connection, connection, connection.cursor() as cursor:
        cursor.execute((ROOT / "schemas" / "app" / "migration.sql").read_text(encoding="utf-8"))
        cursor.execute(
            f'INSERT INTO {TABLE} (id, "userId", "eventType", "eventData", timestamp, "timeOfDay") '
            "SELECT 'c' || lpad(i::text, 24, '0'), 'c' || lpad((i %% 50)::text, 24, 'u'), 'FLASHCARD_FLIP', "
            "jsonb_build_object('n', i, 'text', repeat(md5(i::text), 4)), "
            f"timestamp '{UNTIL}' - interval '6 days' + i * interval '8 s', i %% 24 FROM generate_series(0, %s) i",
            [ROWS - 1],
        )


def conclude(name: str, found: Sequence[Fault]) -> None:
    """Print what came of each fault. Raises SystemExit where a row was lost or doubled, or an error was not clear."""
    rows = [[f.name, *(str(n) for n in (f.tries, f.complete, f.clear, f.lost, f.doubled))] for f in found]
    columns = ["fault", "tried", "complete", "clear error", "rows lost", "rows doubled"]
    print(table(f"{ROWS:,} rows, compared one by one after every try", columns, rows))
    for f in found:
        for problem in f.unclear:
            print(f"{name}: {f.name}: {problem}", file=sys.stderr)
    if any(f.lost or f.doubled or f.unclear for f in found):
        raise SystemExit(1)
