"""Servers and databases: one PostgreSQL a worker, in it an empty database with the app's tables for each test."""

from __future__ import annotations

import itertools
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from pipeline.core.paths import Paths
from pipeline.sample import server as embedded
from tests.helpers import OTHER_MAJORS, ROOT, Database

MIGRATION = Paths(ROOT).migration.read_text(encoding="utf-8")

_databases = itertools.count()


@pytest.fixture(scope="session")
def server(scratch: Path) -> Iterator[dict[str, str]]:
    """A running PostgreSQL. Its role `locked` needs a password; the others need none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        home = embedded.private_folder("server")
        yield from _run(home)


def _run(home: Path) -> Iterator[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with embedded.running(home, "tests", lambda where: None, port=port, listen_addresses="127.0.0.1") as where:
        hba = home / "data" / "pg_hba.conf"
        hba.write_text("local all locked scram-sha-256\n" + hba.read_text())
        connection = psycopg2.connect(**where)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_reload_conf()")
            cursor.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
            cursor.execute("CREATE DATABASE prisma")
        connection.close()
        Database(where, "prisma").run(MIGRATION)
        yield where
        # At once: what "fast" would write out for the next start, for hundreds of databases, nobody will read.
        embedded.run([embedded.binaries(home) / "pg_ctl", "-D", home / "data", "-m", "immediate", "-w", "-s", "stop"])


def new_database(server: dict[str, str], name: str, template: str = "prisma") -> Database:
    """A copy of another one. By its files, which takes half as long as by its pages."""
    Database(server, "postgres").run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return Database(server, name)


# The fixtures whose database was made before, under their name, and is copied from then on.
TEMPLATES: set[str] = set()


@pytest.fixture
def db(request: pytest.FixtureRequest, server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A new database with the app's empty tables, or with the rows of such a fixture; DATABASE_URL names it."""
    name, template = f"d{next(_databases)}", TEMPLATES.intersection(request.fixturenames)
    database = new_database(server, name, *template)
    monkeypatch.setenv("DATABASE_URL", database.url())
    yield database
    Database(server, "postgres").run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def session_db(server: dict[str, str]) -> Database:
    """An empty database for tests that only need a server to talk to."""
    return new_database(server, "talk", "template1")


@pytest.fixture(params=OTHER_MAJORS, ids=lambda binaries: f"PostgreSQL {binaries.parent.name}")
def other_major(request: pytest.FixtureRequest, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database on a server of another major version; skipped where there is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    home = embedded.private_folder(f"v{request.param.parent.name}")
    embedded.initialise(request.param, home / "data")
    embedded.start(request.param, home / "data", home / "log")
    yield Database({"host": str(home / "data"), "port": embedded.PORT, "user": "postgres"}, "postgres")
    embedded.stop(request.param, home / "data")
    shutil.rmtree(home)


@pytest.fixture
def lax(db: Database) -> Database:
    """The app's table without its constraints, and with an enum value that the contract does not know."""
    db.run("""ALTER TYPE "EventType" ADD VALUE 'NOTE_TAKEN'""")
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    for name in ("id", "userId", "eventType", "eventData"):
        db.run(f'ALTER TABLE behavioral_events ALTER "{name}" DROP NOT NULL')
    return db
