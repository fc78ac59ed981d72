"""Break things on purpose, with real processes and signals on a real PostgreSQL, and count what came of it.

Each fault is tried several times. A try ends complete or with a clear error: an exit code of the README's table, what
to do next, no traceback. Then, with the fault gone, a run has to complete, and DuckDB's rows are compared one by one
with those that psycopg2 reads. Ends with 1 when a row was lost or doubled, an error was not clear or a file was left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psycopg2
import psycopg2.extensions

from benchmarks import standby
from benchmarks.report import STAGES, table
from benchmarks.standby import dsn, url
from pipeline.checks.current import differences
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.sample import server as pgserver
from schemas.behavioral_events import BEHAVIORAL_EVENTS

ROOT = Path(__file__).resolve().parent.parent
UNTIL = "2025-10-28"
ROWS = 60_000
TABLE = BEHAVIORAL_EVENTS.name
NAMES = BEHAVIORAL_EVENTS.names
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
        self.env = {**os.environ, "DATABASE_URL": url(where), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
        self.env["PSEUDONYM_KEY"] = "k" * 40
        (folder / "params.yaml").write_text(
            (ROOT / "params.yaml")
            .read_text(encoding="utf-8")
            .replace("days: 90", "days: 6")
            .replace("attempts: 6", "attempts: 8")
            .replace("retry_wait: 1\n", "retry_wait: 0.3\n")
        )
        assert load_params(folder / "params.yaml").extract.days == 6
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

    def counted(self, folder: str, user: str | None = None) -> int:
        """Rows in data/FOLDER, of a user or of all."""
        files = f"{self.folder}/data/{folder}/{TABLE}/*/*.parquet"
        where = f"WHERE \"userId\" = '{user}'" if user else ""
        row = duckdb.execute(
            f"SELECT count(*) FROM read_parquet('{files}', hive_partitioning = false) {where}"
        ).fetchone()
        return int(row[0]) if row else 0

    def is_table(self) -> bool:
        with duckdb.connect(f"{self.folder}/data/analytics.duckdb", read_only=True) as connection:
            return bool(connection.execute("SELECT 1 FROM duckdb_tables()").fetchall())

    def start(self, stage: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"{'stages' if stage in STAGES else 'commands'}.{stage}", *arguments]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.env, **pipes)  # type: ignore[call-overload, no-any-return]

    def attempt(self, stage: str, *arguments: str) -> tuple[int, str]:
        """Run a stage to its end; its exit code and what it said of errors."""
        process = self.start(stage, *arguments)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

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
    if code == 0:
        fault.complete += 1
    elif code in CLEAR and "Traceback" not in said and "next:" in said:
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
    left = [path for path in (lab.folder / "data").rglob(".*") if path.name not in (".times", ".verified")]
    if left:
        fault.unclear.append(f"left behind: {left[0]}")


def killed(lab: Lab, stage: str, times: int, chance: random.Random) -> Fault:
    fault = Fault(f"kill -9 of {stage} at a random moment")
    for _ in lab.tries(times):
        lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            lab.must(before)
        process = lab.start(stage)
        time.sleep(chance.uniform(0.1, 1.0))
        process.kill()
        _, said = process.communicate()
        record(lab, fault, process.returncode, said)
    return fault


def while_copying(lab: Lab, name: str, times: int, break_: Callable[[list[int]], None]) -> Fault:
    fault = Fault(name)
    for _ in lab.tries(times):
        lab.reset()
        process = lab.start("extract")
        while process.poll() is None:
            with suppress(psycopg2.Error):
                if pids := lab.copying():
                    break_(pids)
                    break
        _, said = process.communicate(timeout=120)
        record(lab, fault, process.returncode, said)
    return fault


def terminated(lab: Lab, times: int) -> Fault:
    def break_(pids: list[int]) -> None:
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pids[0]])

    return while_copying(lab, "a backend terminated within COPY", times, break_)


def restarted(lab: Lab, times: int) -> Fault:
    return while_copying(lab, "the server restarted within COPY", times, lambda _: lab.restart())


def refused(lab: Lab, times: int) -> Fault:
    fault = Fault("connections refused for ten seconds")
    for _ in lab.tries(times):
        lab.reset()
        pgserver.stop(lab.bin, lab.home / "data")
        process = lab.start("extract")
        later = threading.Timer(10, pgserver.start, (lab.bin, lab.home / "data", lab.home / "log"), standby.PRIMARY)
        later.start()
        _, said = process.communicate(timeout=180)
        later.join()
        record(lab, fault, process.returncode, said)
    return fault


def full(lab: Lab, times: int) -> Fault:
    """All connections that the role may have are taken, for two seconds."""
    fault = Fault("too many connections")
    with closing(lab.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS guest")
        cursor.execute(f"CREATE ROLE guest LOGIN CONNECTION LIMIT 4; GRANT SELECT ON {TABLE} TO guest")
    lab.env["DATABASE_URL"] = url({**lab.where, "user": "guest"})
    for _ in lab.tries(times):
        lab.reset()
        taken = [psycopg2.connect(dsn(lab.where), user="guest") for _ in range(4)]
        process = lab.start("extract")
        for connection in taken:
            threading.Timer(2, connection.close).start()
        _, said = process.communicate(timeout=120)
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER ROLE guest CONNECTION LIMIT -1")
        record(lab, fault, process.returncode, said)
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER ROLE guest CONNECTION LIMIT 4")
    lab.env["DATABASE_URL"] = url(lab.where)
    return fault


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A tmpfs in the place of `folder`; yields whether there is one, which takes the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def fill_up(file: Path, leave: int) -> None:
    """Take all the space that is left but for `leave` bytes."""
    with open(file, "wb", buffering=0) as filler:
        with suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        filler.truncate(max(filler.tell() - leave, 0))


def disk_full(lab: Lab, stage: str, times: int) -> Fault:
    """The stages before ran; what is left of the disk is less than the stage needs."""
    fault = Fault(f"the disk fills up in {stage}")
    for number in lab.tries(times):
        lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            lab.must(before)
        data, aside = lab.folder / "data", lab.folder / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        data.rename(aside) if data.exists() else aside.mkdir()
        used = sum(-(-p.stat().st_size // 4096) * 4 + 4 for p in aside.rglob("*"))
        with small_disk(data, used + 256) as mounted:
            if not mounted:
                aside.rename(data) if not data.exists() else shutil.copytree(aside, data, dirs_exist_ok=True)
                return fault
            shutil.copytree(aside, data, dirs_exist_ok=True)
            fill_up(data / "filler", leave=number * 4096)
            code, said = lab.attempt(stage)
            kept = {p.relative_to(data): p.read_bytes() for p in data.rglob("*.parquet")} if code else {}
            before_ = {p.relative_to(aside): p.read_bytes() for p in aside.rglob("*.parquet")}
            if code and kept != before_:
                fault.unclear.append("earlier files are not as they were")
        shutil.rmtree(data, ignore_errors=True)
        aside.rename(data)
        record(lab, fault, code, said)
    return fault


def held_open(lab: Lab, times: int) -> Fault:
    fault = Fault("a reader holds analytics.duckdb open")
    for _ in lab.tries(times):
        lab.finish()
        with duckdb.connect(str(lab.folder / "data/analytics.duckdb"), read_only=True):
            code, said = lab.attempt("load")
        record(lab, fault, code, said)
    return fault


def read_only(lab: Lab, times: int) -> Fault:
    fault = Fault("a read-only data folder")
    for _ in lab.tries(times):
        lab.reset()
        data = lab.folder / "data"
        with small_disk(data, 64) as mounted:
            if mounted:
                subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
            else:
                data.chmod(0o500)  # which stops everybody but root
            code, said = lab.attempt("extract")
            data.chmod(0o700) if not mounted else None
        record(lab, fault, code, said)
    return fault


def cancelled_by_replay(lab: Lab, times: int, home: Path) -> Fault:
    """extract reads a hot standby, whose replay of the primary's log takes away what the snapshot sees."""
    name = "a standby cancels the query (recovery conflict)"
    with standby.standby(lab.where, lab.bin, home, "54330") as other:
        standby.catch_up(lab.where, other)
        lab.env["DATABASE_URL"] = url(other)
        source, lab.where = lab.where, other
        try:
            return while_copying(lab, name, times, lambda _: standby.conflict(source))
        finally:
            lab.where = source
            lab.env["DATABASE_URL"] = url(source)


def twice(lab: Lab, times: int) -> Fault:
    """Two dvc repro in one checkout: one waits, or says that the other is at it."""
    fault = Fault("two dvc repro at once")
    for file in ("dvc.yaml", "schemas", "stages", "pipeline", "commands"):
        if not (lab.folder / file).exists():
            (lab.folder / file).symlink_to(ROOT / file)
    dvc = [sys.executable, "-m", "dvc"]
    quiet = {"cwd": lab.folder, "env": lab.env, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    if not (lab.folder / ".dvc").exists():
        subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=lab.folder, env=lab.env, check=True)
    for _ in lab.tries(times):
        lab.reset()
        (lab.folder / "dvc.lock").unlink(missing_ok=True)
        both: list[subprocess.Popen[str]] = [subprocess.Popen([*dvc, "repro"], **quiet) for _ in range(2)]  # type: ignore[call-overload]
        said = [process.communicate(timeout=180)[1] for process in both]
        good = 0 in [process.returncode for process in both]
        words = all(process.returncode == 0 or "lock" in text for process, text in zip(both, said, strict=True))
        record(lab, fault, 0 if good and words else 255, " ".join(said))
    return fault


# What is saved in params.yaml while a stage runs, and how its output tells which of both it was made with.
USER = "c" + "1".rjust(24, "u")
MOVES: dict[str, tuple[str, str, Callable[[Lab], bool] | None]] = {
    "extract": ("user_id: null", f"user_id: {USER}", lambda lab: lab.counted("raw") == ROWS // 50),
    "validate": ("mode: strict", "mode: quarantine", None),  # the same, without invalid rows
    "export": ("pseudonymize: false", "pseudonymize: true", lambda lab: lab.counted("export", USER) == 0),
    "load": ("strategy: view", "strategy: table", Lab.is_table),
}


def moved(lab: Lab, stage: str, times: int, chance: random.Random) -> Fault:
    """The stage ends with an error, or what it left is what the params say that it is, old or new."""
    fault = Fault(f"params.yaml saved while {stage} runs")
    old, new, is_new = MOVES[stage]
    file = lab.folder / "params.yaml"
    text = file.read_text(encoding="utf-8")
    for _ in lab.tries(times):
        lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            lab.must(before)
        process = lab.start(stage)
        time.sleep(chance.uniform(0.1, 0.8))
        file.write_text(text.replace(old, new), encoding="utf-8")
        _, said = process.communicate(timeout=120)
        if process.returncode == 0:
            paths = Paths(lab.folder)
            told = stage in [name for name, _ in differences(paths, load_params(paths.params), STAGES.index(stage) + 1)]
            if is_new is not None and told == is_new(lab):
                fault.unclear.append(f"a report says that its output is {'old' if told else 'new'}, and it is not")
        file.write_text(text, encoding="utf-8")
        record(lab, fault, process.returncode, said)
    return fault


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="kill -9 in all, over the four stages; 100 by default")
    parser.add_argument("--times", type=int, default=3, help="tries of each other fault; 3 by default")
    parser.add_argument("--minutes", type=float, default=20, help="no try begins after these; 20 by default")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    home = pgserver.private_folder(f"behavioral-events-faults-{os.urandom(4).hex()}")
    second = pgserver.private_folder(f"{home.name}-standby")
    found: list[Fault] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="behavioral-events-") as name,
            pgserver.running(home, "faults", fill, **standby.PRIMARY) as where,
        ):
            lab = Lab(where, home, Path(name), args.minutes)
            faults: list[Callable[[], Fault]] = [
                *(lambda stage=stage: killed(lab, stage, args.kills // 4, chance) for stage in STAGES),
                lambda: terminated(lab, args.times),
                lambda: restarted(lab, args.times),
                lambda: refused(lab, 1),
                lambda: full(lab, args.times),
                *(lambda stage=stage: disk_full(lab, stage, args.times) for stage in STAGES),
                *(lambda stage=stage: moved(lab, stage, args.times, chance) for stage in STAGES),
                lambda: held_open(lab, args.times),
                lambda: read_only(lab, args.times),
                lambda: twice(lab, args.times),
                lambda: cancelled_by_replay(lab, args.times, second),
            ]
            for fault in faults if args.times else faults[: len(STAGES)]:
                found.append(fault())
                print(f"faults: {found[-1].name}: {found[-1].tries} tries", file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(second, ignore_errors=True)
    rows = [[f.name, *(str(n) for n in (f.tries, f.complete, f.clear, f.lost, f.doubled))] for f in found]
    columns = ["fault", "tried", "complete", "clear error", "rows lost", "rows doubled"]
    print(table(f"{ROWS:,} rows, compared one by one after every try", columns, rows))
    for f in found:
        for problem in f.unclear:
            print(f"faults: {f.name}: {problem}", file=sys.stderr)
    if any(f.lost or f.doubled or f.unclear for f in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
