"""What the tests share: databases, projects, clones, rows, and how to read them back by other means than the code."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import psycopg2.extras
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from commands import refresh
from pipeline.checks.pins import pins_of
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params, load_params
from pipeline.core.paths import STAGES, Paths
from pipeline.core.reports import read_report
from pipeline.files import manifest
from pipeline.files.layout import day_path, write_report
from pipeline.files.writer import DayWriter
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.table import Table
from stages import export, extract, load, report, validate

ROOT = Path(__file__).resolve().parent.parent
UNTIL = date(2025, 10, 28)
YESTERDAY = UNTIL - timedelta(days=1)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS["tables"] = ["behavioral_events"]
PARAMS["quality"]["shrunk_days"]["level"] = "off"  # of a window of two days, one that loses a row is half

# Where Debian's packages are installed.
OTHER_MAJORS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

TABLE = BEHAVIORAL_EVENTS.name
COLUMNS = BEHAVIORAL_EVENTS.columns
NAMES = BEHAVIORAL_EVENTS.names

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

    def generate(self, rows: int) -> None:
        """Many rows of one user, a second apart, so that a COPY can be caught in the act."""
        self.run(
            'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
            f"SELECT 'c' || lpad(i::text, 24, '0'), '{USER_A}', 'FLASHCARD_FLIP', to_jsonb(repeat('x', 200)), "
            f"timestamp '2025-10-26' + i * interval '1 s' FROM generate_series(1, {rows}) i"
        )

    def rows(self, order: str = 'timestamp, id COLLATE "C"') -> list[tuple[Any, ...]]:
        """Every row as psycopg2 reads it one by one, JSON as the database's text: the independent oracle."""
        columns = ", ".join(f'"{n}"::text' if n in ("eventData", "eventType") else f'"{n}"' for n in NAMES)
        return self.run(f"SELECT {columns} FROM behavioral_events ORDER BY {order}")

    def wait_for_lock(self, waiters: int = 1) -> None:
        """Return when so many connections to the database wait for a lock."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        while self.run(waiting, [self.name]) < [(waiters,)]:
            pass

    def copying(self) -> list[int]:
        """The backends that are in the middle of a COPY."""
        rows = self.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%' AND state = 'active'",
            [self.name],
        )
        return [row[0] for row in rows]


@dataclass
class Project:
    """A folder with params.yaml, watermark.yaml and data/, and the stages' own functions on it."""

    root: Path
    values: dict[str, Any] = field(default_factory=lambda: deepcopy(PARAMS))

    def __post_init__(self) -> None:
        self.set(source__attempts=1, source__retry_wait=0.05)

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def raw(self) -> Path:
        return self.paths.raw / TABLE

    @property
    def exported(self) -> Path:
        return self.paths.export / TABLE

    @property
    def quarantine(self) -> Path:
        return self.paths.quarantined(TABLE)

    def set(self, **values: Any) -> None:
        """Change params: set(extract__days=3)."""
        for key, value in values.items():
            group, _, name = key.partition("__")
            self.values[group][name] = value
        self.paths.params.write_text(yaml.safe_dump(self.values), encoding="utf-8")

    @property
    def params(self) -> Params:
        return load_params(self.paths.params)

    def refresh(
        self, until: date | None = UNTIL, days: int | None = None, full: bool = False, accept: bool = False
    ) -> None:
        refresh.refresh(self.paths, self.params, refresh.Options(until, days, full, accept))

    def extract(self) -> None:
        extract.extract(self.paths, self.params)

    def validate(self) -> None:
        validate.validate(self.paths, self.params)

    def export(self) -> None:
        export.export(self.paths, self.params)

    def load(self) -> None:
        load.load(self.paths, self.params)

    def report(self) -> None:
        report.report(self.paths, self.params)

    def run(self) -> None:
        """The stages that make the data."""
        for stage in (self.extract, self.validate, self.export, self.load):
            stage()

    def all(self) -> None:
        """Refresh, then all stages."""
        self.refresh()
        self.run()

    def as_if_made(self, *reports: Path, pinned: bool = False) -> None:
        """Let reports list the files that are there now, as if a mistake in a stage had made them.

        `pinned`: as if PostgreSQL had held these rows, too.
        """
        for listing in reports or (self.paths.extract_report,):
            content, listed = read_report(listing), manifest.read(listing, [BEHAVIORAL_EVENTS])
            folder = self.raw if listing == self.paths.extract_report else self.exported
            found = manifest.checksums(folder, listed[TABLE])
            for day, file in listed[TABLE].items():
                changed = file._replace(sha256=found.get(day, file.sha256))
                if pinned:
                    path = day_path(folder, day)
                    changed = changed._replace(**pins_of(BEHAVIORAL_EVENTS, [path])[path]._asdict())
                listed[TABLE][day] = changed
            write_report(listing, {**content, "files": manifest.entries(listed)})


def files(root: Path) -> dict[str, bytes]:
    """The content of every file below `root`, by its path from there."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows_in(report: Path) -> int:
    """The rows of all tables, as a report says."""
    return sum(entry["rows"] for entry in read_report(report, "tables")["tables"])


def rows_of_parquet(folder: Path) -> list[tuple[Any, ...]]:
    """All rows of a table's folder by pyarrow, in the order of the files."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*/*.parquet"))]
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def rows_of_duckdb(database: Path) -> list[tuple[Any, ...]]:
    columns = ", ".join(f'"{c.name}"::VARCHAR' if c.kind == "json" else f'"{c.name}"' for c in COLUMNS)
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f"SELECT {columns} FROM behavioral_events ORDER BY timestamp, id").fetchall()


def rewrite(path: Path, rows: pa.Table) -> None:
    """Other rows in a file that is whole, as a mistake in a stage may make it; its footer still has its days."""
    there = pq.read_metadata(path).metadata or {} if path.exists() else {}
    facts = {name.decode(): there[name].decode() for name in there if name.startswith(b"pipeline.")}
    with DayWriter(path, rows.schema, BEHAVIORAL_EVENTS.distinct, facts) as writer:
        for batch in rows.combine_chunks().to_batches():
            writer.write(batch)


def outputs(project: Project) -> dict[str, bytes]:
    """Every file that the pipeline made and that has to be the same bytes however it was made."""
    folders = [project.paths.raw, project.paths.quarantine, project.paths.export, project.paths.reports]
    found = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(project.root)): file.read_bytes() for file in found}


def all_outputs(project: Project) -> dict[str, bytes]:
    """All stages run, and every file they made, as `outputs`; the page and the database, a view, as well."""
    project.run()
    project.report()
    return made(project)


def made(project: Project) -> dict[str, bytes]:
    """What `all_outputs` returns, as it is there."""
    return outputs(project) | files(project.paths.report) | {"duckdb": project.paths.database.read_bytes()}


def from_nothing(project: Project) -> Project:
    """The same params and pins in an empty folder, run."""
    folder = project.root / "fresh"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fresh = Project(folder, project.values)
    shutil.copy(project.paths.watermark, fresh.paths.watermark)
    fresh.run()
    return fresh


def fails(project: Project, kind: type[PipelineError], *said: str) -> None:
    """extract fails with a message that says all of this, and everything in data/ is as it was."""
    damage(project)
    before = files(project.root)
    with pytest.raises(kind) as caught:
        project.extract()
    message = str(caught.value)
    assert [word for word in (*said, "where:", "expected:", "next:") if word not in message] == []
    assert files(project.root) == before


def damage(project: Project) -> dict[str, bytes]:
    """Damage every raw file, so that all days have to be read again; returns what they held."""
    good = files(project.raw)
    for file in project.raw.glob("*/*.parquet"):
        file.write_bytes(file.read_bytes() + b"damage")
    return good


def use(monkeypatch: pytest.MonkeyPatch, *tables: Table) -> None:
    """The stages and refresh read these tables."""
    for module in (refresh, extract, validate, export, load, report):
        monkeypatch.setattr(module, "TABLES", tables)
        monkeypatch.setattr(module, "chosen", lambda tables, _: tables)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start_extract(project: Project, hangup: Any = signal.SIG_DFL) -> subprocess.Popen[str]:
    """extract as a process of its own, with this answer to SIGHUP whatever pytest itself was started with."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.extract"],
        cwd=project.root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup) and None,
    )


def run_module(project: Project, module: str, redirect: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A stage or command as a process of its own, started by a shell: run_module(project, "stages.extract")."""
    command = f"{shlex.quote(sys.executable)} -m {module} {redirect}"
    return subprocess.run(
        command, shell=True, cwd=project.root, env=environment() | env, capture_output=True, text=True, check=False
    )


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

    def change(self, *changes: tuple[str, str], file: str = "params.yaml") -> None:
        """Edit a file: change(("days: 90", "days: 2"))."""
        text = self.text(file)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.path / file).write_text(text, encoding="utf-8")

    def hashes(self) -> dict[str, str]:
        """The hash of every output in dvc.lock."""
        lock = yaml.safe_load(self.text("dvc.lock"))
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}

    def fails(self, *command: str, **env: str) -> str:
        """What a failing command says: no traceback, no secret."""
        done = self.run(*command, ok=False, **env)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "Traceback" not in said
        assert "secret-key" not in said
        return said

    def commit(self, message: str) -> str:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def make(self, *arguments: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """make, as if its .venv were there: the tests' own is found on the PATH."""
        ready = self.path / ".venv" / "bin" / ".ready"
        ready.parent.mkdir(parents=True, exist_ok=True)
        ready.touch()
        return self.run("make", *arguments, ok=ok, **env)


def ran(output: str) -> list[str]:
    """The stages that a `dvc repro` ran."""
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]
