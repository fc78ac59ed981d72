"""Shared by all tests: one PostgreSQL a worker, databases with Prisma's tables in it, and a clone that ran once.

Everything is real: the server, DVC, DuckDB. The server is the embedded one, on a socket in a private folder.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import psycopg2.extras
import pyarrow.parquet as pq
import pytest
import yaml

from commands import refresh
from pipeline.files import manifest as extracted
from pipeline.files import seal
from pipeline.sample import server as pgserver
from schemas.contract import COLUMNS, NAMES
from stages import export, extract, load, validate

ROOT = Path(__file__).resolve().parent.parent
UNTIL = date(2025, 10, 28)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

# Where Debian's packages are installed.
OTHER_MAJORS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

USER_A, USER_B, USER_C = ("c" + letter * 24 for letter in "abd")
_ids = itertools.count()


def cuid() -> str:
    """An id that no other row of this process has."""
    return f"c{next(_ids):024d}"


def event(**values: Any) -> dict[str, Any]:
    """A row that obeys the contract, but for what is asked for."""
    row: dict[str, Any] = dict.fromkeys(NAMES)
    row |= {
        "id": cuid(),
        "userId": USER_A,
        "eventType": "FLASHCARD_FLIP",
        "eventData": '{"action": "flip", "duration_ms": 150}',
        "timestamp": "2025-10-27 10:00:00.123",
    }
    return row | values


@dataclass
class Database:
    """One database of the test server, with the app's tables."""

    where: dict[str, str]
    name: str

    def url(self, user: str = "postgres", password: str = "", **query: str) -> str:
        arguments = {"host": self.where["host"], **query}
        login = f"{user}:{password}" if password else user
        return f"postgresql://{login}@localhost:{self.where['port']}/{self.name}?" + "&".join(
            f"{k}={v}" for k, v in arguments.items()
        )

    def connect(self, **more: str) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(**{**self.where, "dbname": self.name, **more})
        connection.autocommit = True
        return connection

    def run(self, sql: str, values: Any = None) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def insert(self, *rows: dict[str, Any]) -> None:
        columns = ", ".join(f'"{name}"' for name in NAMES)
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor,
                f"INSERT INTO behavioral_events ({columns}) VALUES %s",
                [[row[name] for name in NAMES] for row in rows],
            )

    def rows(self, order: str = 'timestamp, id COLLATE "C"') -> list[tuple[Any, ...]]:
        """Every row as psycopg2 reads it one by one, JSON as the database's text: the independent oracle."""
        columns = ", ".join(f'"{n}"::text' if n in ("eventData", "eventType") else f'"{n}"' for n in NAMES)
        return self.run(f"SELECT {columns} FROM behavioral_events ORDER BY {order}")


@dataclass
class Work:
    """A folder with params.yaml, watermark.yaml and data/, and the stages' own functions on it."""

    root: Path
    values: dict[str, Any] = field(default_factory=lambda: deepcopy(PARAMS))

    def __post_init__(self) -> None:
        self.set(source__attempts=1, source__retry_wait=0.05)

    def set(self, **values: Any) -> None:
        """Change params: set(extract__days=3)."""
        for key, value in values.items():
            group, _, name = key.partition("__")
            self.values[group][name] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.values), encoding="utf-8")

    def __getattr__(self, name: str) -> Path:
        try:
            return self.root / PATHS[name]
        except KeyError:
            raise AttributeError(name) from None

    def refresh(self, until: date | None = UNTIL, days: int | None = None) -> None:
        refresh.refresh(self.root / "params.yaml", self.watermark, self.looked, until, days)

    def extract(self) -> None:
        extract.extract(self.root / "params.yaml", self.watermark, self.raw, self.extracted)

    def as_if_extracted(self) -> None:
        """Let extract's report name the files that are in data/raw now, as if a mistake in extract had made them."""
        found, report = seal.checksums(self.raw), extracted.read(self.extracted)
        changed = {day: file._replace(sha256=found.get(day, file.sha256)) for day, file in report.items()}
        extracted.write(self.extracted, changed)

    def validate(self) -> None:
        validate.validate(
            self.root / "params.yaml",
            self.extracted,
            self.raw,
            self.verdict,
            self.failures,
            self.quarantine,
            self.passed,
        )

    def export(self) -> None:
        export.export(
            self.root / "params.yaml",
            self.extracted,
            self.raw,
            self.quarantine,
            self.verdict,
            self.out,
            self.quality,
        )

    def load(self) -> None:
        load.load(
            self.root / "params.yaml",
            self.extracted,
            self.raw,
            self.quarantine,
            self.out,
            self.database,
            self.loaded,
            self.compared,
        )

    def all(self) -> None:
        for stage in (self.refresh, self.extract, self.validate, self.export, self.load):
            stage()


PATHS = {
    "watermark": "watermark.yaml",
    "raw": "data/raw/behavioral_events",
    "extracted": "data/reports/extract.json",
    "verdict": "data/reports/validation.json",
    "failures": "data/reports/validation_failures.csv",
    "passed": "data/.passed.json",
    "compared": "data/.compared.json",
    "looked": "data/.looked.json",
    "quarantine": "data/quarantine/behavioral_events.parquet",
    "out": "data/export/behavioral_events",
    "quality": "data/reports/quality.json",
    "database": "data/analytics.duckdb",
    "loaded": "data/reports/load.json",
}


_ready: dict[str, Path] = {}


def ready_made(name: str, db: Database, work: Work, rows: Sequence[dict[str, Any]]) -> Work:
    """`work` after a run of all stages on `db` with these rows; run once a worker, and copied from then on."""
    server = Database(db.where, "postgres")
    if name in _ready:
        server.run(f"DROP DATABASE {db.name} WITH (FORCE)")
        server.run(f"CREATE DATABASE {db.name} TEMPLATE {name}")
        shutil.copytree(_ready[name], work.root, dirs_exist_ok=True)
        work.load()  # the view names files by their paths
        return work
    db.insert(*rows)
    work.all()
    server.run(f"CREATE DATABASE {name} TEMPLATE {db.name}")
    _ready[name] = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    shutil.copytree(work.root, _ready[name], dirs_exist_ok=True)
    return work


def extracted_rows(work: Work) -> list[tuple[Any, ...]]:
    """All rows of data/raw by pyarrow, in the order of the files."""
    tables = [pq.read_table(path) for path in sorted(work.raw.glob("*/*.parquet"))]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def rows_of_duckdb(database: Path) -> list[tuple[Any, ...]]:
    columns = ", ".join(f'"{c.name}"::VARCHAR' if c.kind == "json" else f'"{c.name}"' for c in COLUMNS)
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f"SELECT {columns} FROM behavioral_events ORDER BY timestamp, id").fetchall()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start_extract(work: Work, hangup: Any = signal.SIG_DFL) -> subprocess.Popen[str]:
    """extract as a process of its own, with this answer to SIGHUP whatever pytest itself was started with."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.extract"],
        cwd=work.root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup) and None,
    )


def run_stage(work: Work, stage: str, redirect: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A stage as a process of its own, started by a shell."""
    command = f"{shlex.quote(sys.executable)} -m stages.{stage} {redirect}"
    return subprocess.run(
        command, shell=True, cwd=work.root, env=environment() | env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short folder that every user may pass, so that the embedded server of a clone can stand in it."""
    with tempfile.TemporaryDirectory(prefix="be-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def memory_folder(scratch: Path) -> Iterator[Path]:
    """A folder in memory where there is enough of it: a new database takes a third of the time."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2**31:
        yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="be-test-", dir=memory) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def server(scratch: Path) -> Iterator[dict[str, str]]:
    """A running PostgreSQL. Its role `locked` needs a password; the others need none."""
    with memory_folder(scratch) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        home = pgserver.private_folder("server")
        patch.setattr(tempfile, "tempdir", str(scratch))
        yield from run_server(home)


def run_server(home: Path) -> Iterator[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with pgserver.running(home, "tests", lambda where: None, port=port, listen_addresses="127.0.0.1") as where:
        hba = home / "data" / "pg_hba.conf"
        hba.write_text("local all locked scram-sha-256\n" + hba.read_text())
        connection = psycopg2.connect(**where)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_reload_conf()")
            cursor.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
            cursor.execute("CREATE DATABASE prisma")
        connection.close()
        Database(where, "prisma").run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
        yield where
        # At once: what "fast" would write out for the next start, for hundreds of databases, nobody will read.
        pgserver.run([pgserver.binaries(home) / "pg_ctl", "-D", home / "data", "-m", "immediate", "-w", "-s", "stop"])


_databases = itertools.count()


@pytest.fixture(params=OTHER_MAJORS, ids=lambda binaries: f"PostgreSQL {binaries.parent.name}")
def other_major(request: pytest.FixtureRequest, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database on a server of another major version; skipped where there is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    home = pgserver.private_folder(f"v{request.param.parent.name}")
    pgserver.initialise(request.param, home / "data")
    pgserver.start(request.param, home / "data", home / "log")
    yield Database({"host": str(home / "data"), "port": pgserver.PORT, "user": "postgres"}, "postgres")
    pgserver.stop(request.param, home / "data")
    shutil.rmtree(home)


@pytest.fixture
def db(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A new database with the app's empty tables; DATABASE_URL names it."""
    name = f"d{next(_databases)}"
    Database(server, "postgres").run(f"CREATE DATABASE {name} TEMPLATE prisma")
    database = Database(server, name)
    monkeypatch.setenv("DATABASE_URL", database.url())
    yield database
    Database(server, "postgres").run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def session_db(server: dict[str, str]) -> Database:
    """An empty database for tests that only need a server to talk to."""
    Database(server, "postgres").run("CREATE DATABASE talk")
    return Database(server, "talk")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """An empty project folder; two days, to keep tests short."""
    made = Work(tmp_path)
    made.set(extract__days=2)
    return made


@dataclass
class Clone:
    """A checkout of the project as a user has it, and commands typed in it."""

    path: Path
    env: dict[str, str]

    def run(self, *command: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.path,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if ok:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def text(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def change(self, *changes: tuple[str, str]) -> None:
        """Edit params.yaml: change(("days: 90", "days: 2"))."""
        text = self.text("params.yaml")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.path / "params.yaml").write_text(text)

    def hashes(self) -> dict[str, str]:
        """The hash of every output in dvc.lock."""
        lock = yaml.safe_load(self.text("dvc.lock"))
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def clean_env(scratch: Path) -> dict[str, str]:
    """The environment of a user without a DATABASE_URL, whose `python` and `dvc` are the ones of this venv."""
    drop = {"DATABASE_URL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "DVC_ROOT"}
    env = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith(("PYTEST", "GIT_", "COV"))}
    return env | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "TMPDIR": str(scratch),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }


def new_clone(scratch: Path, name: str) -> Clone:
    """The project's files as they are in the checkout, committed to a repository of their own."""
    path = scratch / name
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for file in filter(None, listed.stdout.split("\0")):
        if (ROOT / file).is_file():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, path / file)
    clone = Clone(path, clean_env(scratch))
    clone.run("git", "init", "-q", "-b", "main")
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "as it is")
    return clone


@pytest.fixture(scope="session")
def reproduced(scratch: Path) -> Clone:
    """A clone, its path with a space, in which `dvc repro` ran once on the embedded default. Read only."""
    clone = new_clone(scratch, "a fresh clone")
    clone.run("dvc", "repro")
    return clone


@pytest.fixture
def clone(reproduced: Clone, scratch: Path) -> Iterator[Clone]:
    """A copy of the reproduced clone, to do what one likes with."""
    path = Path(tempfile.mkdtemp(prefix="clone ", dir=scratch))
    shutil.copytree(reproduced.path, path, dirs_exist_ok=True, symlinks=True)
    yield Clone(path, dict(reproduced.env))
    shutil.rmtree(path, ignore_errors=True)
