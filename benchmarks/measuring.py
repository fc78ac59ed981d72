"""What every bench stands on: processes that are measured, a private PostgreSQL with synthetic events, working copies.

Peak memory is ru_maxrss of the process and the children it waited for, in MB of 1,000,000 bytes. Linux counts what the
parent held when it forked, so this module imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks import standby
from benchmarks.report import Run
from pipeline.core.errors import PipelineError
from pipeline.sample import server as pgserver

ROOT = Path(__file__).resolve().parent.parent
UNTIL, DAY_BEFORE = "2025-10-28", "2025-10-27"
PYTHON_M = [sys.executable, "-m"]
NOTHING_TO_DO = "Data and pipelines are up to date"
EXTENSION = "CREATE EXTENSION pg_stat_statements;\n"
SETTINGS = "SET client_min_messages = warning;\nSET maintenance_work_mem = '256MB';\n"
PUBLIC = "public"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SET_CHILD_SUBREAPER = 36  # prctl(2)

Result = TypeVar("Result")


class Filling(NamedTuple):
    """Events of a schema of the database: how many, over how many days, how many of them in the last day."""

    rows: int
    days: int
    last_day_rows: int = 0  # 0: spread evenly
    title: str = "Übung "  # each title begins with it


def environment(url: str) -> dict[str, str]:
    """The caller's, without what would lead psql, Git, DVC or a remote elsewhere or make Python another.

    `python` is this one.
    """
    others = ("PG", "GIT_", "DVC_", "PYTHON", "AWS_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept | {"DATABASE_URL": url, "PATH": path}


def measure(command: list[str], cwd: Path, env: Mapping[str, str], *, expect: str = "") -> tuple[Run, str]:
    """Run a process to its end. A failure, or another text than `expect`, ends the bench with its last words."""
    # DVC's settings and its memory of file hashes, which it else keeps outside the project: cold has to mean cold.
    own = {f"DVC_{kind}_DIR": str(cwd / ".dvc" / "site") for kind in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")}
    # The floor's CSV goes nowhere; what others print is short.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, adopting():
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**env, **own},
            stdin=subprocess.DEVNULL,
            stdout=output if Path(command[0]).name != "psql" else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # so that Ctrl-C reaches it once, from here
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            workers = list(orphans(process.pid))
        except BaseException:
            stop(process)
            raise
        output.seek(0)
        errors.seek(0)
        said, complaint = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if process.returncode or expect not in said:
        last = "\n".join((complaint.strip() or said.strip()).splitlines()[-15:])
        raise SystemExit(f"bench: {' '.join(command)[:200]} ended with {process.returncode}:\n{last}")
    of_workers = (sum(cores for cores, _ in workers), max((peak for _, peak in workers), default=0.0))
    return Run(seconds, used(usage)[1], used(usage)[0], *of_workers), said


def used(usage: resource.struct_rusage) -> tuple[float, float]:
    """Core seconds and peak MB of a process and of the children it waited for."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss, getrusage(2)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6


@contextmanager
def adopting() -> Iterator[None]:
    """On Linux, make this process the parent of what its children leave behind, for the length of the block.

    A stage does not wait for the workers of `processes:N`, so what they took is told to nobody else.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: 0
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def orphans(group: int) -> Iterator[tuple[float, float]]:
    """Wait for what is left of a process group; core seconds and peak MB of each."""
    with suppress(ChildProcessError):
        while True:
            yield used(os.wait4(-group, 0)[2])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


@contextmanager
def database(fillings: Mapping[str, Filling]) -> Iterator[tuple[str, list[str]]]:
    """A server with the synthetic events of each schema; yields its URL and the psql command that reaches it."""
    home = pgserver.private_folder(f"behavioral-events-bench-{os.urandom(4).hex()}")
    psql: list[str] = []

    def fill(where: dict[str, str]) -> None:
        psql.extend([str(pgserver.binaries(home) / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", where["host"]])
        psql.extend(["-p", where["port"], "-U", where["user"], "-d", where["dbname"]])
        subprocess.run([*psql, "-c", EXTENSION], check=True)
        for schema, filling in fillings.items():
            days = f"{filling.days:,} days"
            print(f"bench: filling PostgreSQL with {filling.rows:,} events over {days}, {schema}", file=sys.stderr)
            script = f"{SETTINGS}CREATE SCHEMA IF NOT EXISTS {schema};\nSET search_path = {schema};\n{fill_sql()}"
            options = [part for name, value in filling._asdict().items() for part in ("-v", f"{name}={value}")]
            subprocess.run([*psql, *options, "-f", "-"], input=script, text=True, encoding="utf-8", check=True)

    try:
        # It counts the rows that COPY sent, by statement.
        with pgserver.running(home, "bench", fill, shared_preload_libraries="pg_stat_statements") as where:
            yield standby.url(where), psql
    finally:
        shutil.rmtree(home, ignore_errors=True)


def fill_sql() -> str:
    """What makes the tables of a schema and fills them; psql's variables are the fields of Filling."""
    migration = (ROOT / "schemas" / "app" / "migration.sql").read_text(encoding="utf-8")
    # Indexes and foreign keys after the rows, because that is faster.
    tables, mark, indexes = migration.partition("-- CreateIndex")
    events = (ROOT / "benchmarks" / "fill.sql").read_text(encoding="utf-8")
    # CHECKPOINT, so that the server does not write these rows to disk while others are measured.
    return f"{tables}{events}{mark}{indexes}VACUUM ANALYZE;\nCHECKPOINT;\n"


def ask(psql: list[str], env: Mapping[str, str], sql: str) -> str:
    return subprocess.run([*psql, "-c", sql], env=env, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-c", "core.hooksPath=/dev/null", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(""), check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def working_copy(to: Path, days: int) -> None:
    """The checkout as it stands, uncommitted files included, as a repository of its own that wants `days` days."""
    for name in git(ROOT, "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    set_param(to, "days", str(days))
    (to / "watermark.yaml").unlink(missing_ok=True)  # which pins another source
    commit(to)


def set_param(copy: Path, name: str, value: str) -> None:
    """Write another value of a key into params.yaml, and leave all else as it is."""
    params = copy / "params.yaml"
    text, found = re.subn(rf"(?m)^  {name}: \w+$", f"  {name}: {value}", params.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"bench: params.yaml has {found} lines such as '  {name}: ...', expected 1")
    params.write_text(text, encoding="utf-8")


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-qm", "What the bench measures")


def forget(copy: Path) -> None:
    """Take from a working copy what a run left: outputs, lock, cache, run cache and what DVC remembers."""
    for name in ("data", ".dvc/cache", ".dvc/tmp", ".dvc/site"):
        shutil.rmtree(copy / name, ignore_errors=True)
    (copy / "dvc.lock").unlink(missing_ok=True)


def put_away(number: int, _: object) -> None:
    """The first signal ends the bench in order; further ones do not disturb the cleaning up."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    print(f"bench: stopped by {signal.Signals(number).name}; removing what was made", file=sys.stderr)
    raise SystemExit(128 + number)


def in_order(work: Callable[[], Result]) -> Result:
    """Do the work of a bench so that a signal, or an error, removes what was made and ends it with one line."""
    for number in SIGNALS:
        signal.signal(number, put_away)
    try:
        return work()
    except PipelineError as error:
        raise SystemExit(f"bench: error: {error}") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"bench: {Path(error.cmd[0]).name} failed with {error.returncode}; see above") from None
