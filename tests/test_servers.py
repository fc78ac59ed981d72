"""Other kinds of servers: a hot standby, one that speaks TLS, one behind pgbouncer. All are real."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
import trustme

from benchmarks import standby
from pipeline.core.errors import SourceError
from pipeline.sample import server as pgserver
from tests.helpers import ROOT, Database, Project, rows_of_parquet, start_extract

pytestmark = pytest.mark.xdist_group("servers")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def owned_by_server(*files: Path) -> None:
    if os.geteuid() == 0:
        for file in files:
            os.chown(file, pwd.getpwnam("nobody").pw_uid, -1)


COPYING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%%'"


@dataclass
class Pair:
    primary: Database
    standby: Database
    home: Path

    def stop(self) -> None:
        pgserver.stop(pgserver.binaries(self.home), self.home / "data")

    def start(self) -> None:
        settings = {"port": self.primary.where["port"], **standby.PRIMARY}
        pgserver.start(pgserver.binaries(self.home), self.home / "data", self.home / "log", **settings)


@pytest.fixture(scope="module")
def pair(server: dict[str, str]) -> Iterator[Pair]:
    """A server and its hot standby."""
    first, second = pgserver.private_folder("primary"), pgserver.private_folder("standby")
    with pgserver.running(first, "tests", lambda where: None, port=str(free_port()), **standby.PRIMARY) as where:
        primary = Database(where, "postgres")
        primary.run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
        primary.generate(150_000)
        with standby.standby(where, pgserver.binaries(first), second, str(free_port())) as other:
            yield Pair(primary, Database(other, "postgres"), first)


def test_a_standby_that_cancels_the_query_for_its_replay(
    pair: Pair, project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", pair.standby.url())
    standby.catch_up(pair.primary.where, pair.standby.where)
    project.set(source__attempts=5)
    project.refresh()
    conflicts = "SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts"
    before = pair.standby.run(conflicts)[0][0]
    process = start_extract(project)
    for _ in range(2):
        while not pair.standby.run(COPYING)[0][0]:
            assert process.poll() is None
        standby.conflict(pair.primary.where)
        assert process.stderr is not None
        said = process.stderr.readline()
        # The connection that holds the snapshot may be the one that is ended, while others work.
        assert "conflict with recovery" in said or "connection already closed" in said
        assert "of 5 in" in said
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert pair.standby.run(conflicts)[0][0] > before
    assert rows_of_parquet(project.raw) == pair.primary.rows()
    assert not list(project.raw.parent.glob(".*"))


def test_the_digest_of_a_standby_is_that_of_its_primary(
    pair: Pair, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", pair.primary.url())
    project.refresh()
    pinned = project.paths.watermark.read_bytes()
    standby.catch_up(pair.primary.where, pair.standby.where)
    monkeypatch.setenv("DATABASE_URL", pair.standby.url())
    project.refresh()
    assert project.paths.watermark.read_bytes() == pinned


@pytest.fixture
def pinned(pair: Pair, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DATABASE_URL", pair.primary.url())
    project.refresh()
    project.set(source__attempts=8, source__retry_wait=0.3)
    return project


def completes(process: subprocess.Popen[str], pair: Pair, project: Project) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert rows_of_parquet(project.raw) == pair.primary.rows()
    assert not list(project.raw.parent.glob(".*"))


def test_a_server_that_restarts_in_the_middle(pair: Pair, pinned: Project) -> None:
    process = start_extract(pinned)
    while not pair.primary.run(COPYING)[0][0]:
        assert process.poll() is None
    pair.stop()
    pair.start()
    assert process.stderr is not None
    assert "attempt 2 of 8" in process.stderr.readline()
    completes(process, pair, pinned)


def test_a_server_that_comes_up_while_we_try(pair: Pair, pinned: Project) -> None:
    pair.stop()
    process = start_extract(pinned)
    assert process.stderr is not None
    for attempt in (2, 3, 4):
        assert f"attempt {attempt} of 8" in process.stderr.readline()
    pair.start()
    completes(process, pair, pinned)


def test_connections_that_are_all_taken(pair: Pair, pinned: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.primary.run("CREATE ROLE guest LOGIN CONNECTION LIMIT 3; GRANT SELECT ON behavioral_events TO guest")
    monkeypatch.setenv("DATABASE_URL", pair.primary.url(user="guest"))
    taken = [pair.primary.connect(user="guest") for _ in range(2)]
    process = start_extract(pinned)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "too many connections" in said
    assert "attempt 2 of 8" in said
    for connection in taken:
        connection.close()
    completes(process, pair, pinned)


@dataclass
class Tls:
    """Where a server with TLS listens, who vouches for its certificate and who does not."""

    port: int
    root: Path
    other_root: Path

    def url(self, db: Database, mode: str, root: Path) -> str:
        return (
            f"postgresql://postgres@localhost:{self.port}/{db.name}?sslmode={mode}&sslrootcert={quote(str(root))}"
            "&schema=public&connect_timeout=5"
        )


@pytest.fixture(scope="module")
def tls(server: dict[str, str], scratch: Path) -> Iterator[Tls]:
    """TLS in front of the test server, which is built without: libpq asks for it, gets it and checks who answers."""
    authority, root, other = trustme.CA(), scratch / "root.crt", scratch / "other.crt"
    authority.cert_pem.write_to_path(root)
    trustme.CA().cert_pem.write_to_path(other)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    behind = f"{server['host']}/.s.PGSQL.{server['port']}"

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
            to, back = await asyncio.open_unix_connection(behind)
            await asyncio.gather(copy(reader, back), copy(to, writer))
        writer.close()

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve, "localhost", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Tls(listening.sockets[0].getsockname()[1], root, other)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    listening.close()
    loop.close()


# Length and code of the first message, by which libpq asks for TLS.
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


def test_the_arguments_of_tls_reach_libpq(
    db: Database, tls: Tls, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.generate(5)
    monkeypatch.setenv("DATABASE_URL", tls.url(db, "verify-full", tls.root))
    project.all()
    assert rows_of_parquet(project.raw) == db.rows()


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_server_that_nobody_vouches_for(
    db: Database, tls: Tls, project: Project, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", tls.url(db, mode, tls.other_root))
    with pytest.raises(SourceError, match="certificate verify failed"):
        project.refresh()
    assert not project.paths.watermark.exists()


@dataclass
class Bouncer:
    """A pgbouncer in front of the test server; `pool` server connections for each database."""

    port: int
    pool: int

    def url(self, db: Database) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{db.name}?pgbouncer=true"


@pytest.fixture(params=[1, 10], ids=["a pool of one", "a pool of ten"])
def bouncer(request: pytest.FixtureRequest, server: dict[str, str], scratch: Path) -> Iterator[Bouncer]:
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is no Python package; install it from the system's")
    home = pgserver.private_folder(f"pgbouncer-{request.param}")
    port, config = free_port(), home / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={server['host']} port={server['port']} user=postgres\n"
        f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=any\n"
        f"pool_mode=transaction\ndefault_pool_size={request.param}\nquery_wait_timeout=1\nlogfile={home}/log\n"
    )
    owned_by_server(config)
    user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(
        [program, "-q", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
    )
    try:
        while True:
            assert process.poll() is None, (home / "log").read_text()
            with suppress(psycopg2.OperationalError):
                psycopg2.connect(host="127.0.0.1", port=port, dbname="postgres", user="postgres").close()
                break
            time.sleep(0.02)
        yield Bouncer(port, request.param)
    finally:
        process.terminate()
        process.wait()


def test_behind_a_pooler_of_transactions(
    bouncer: Bouncer, db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the work is in transactions, which keep their server; so it only has to have a place for each of them."""
    db.generate(5)
    monkeypatch.setenv("DATABASE_URL", bouncer.url(db))
    if bouncer.pool == 1:
        with pytest.raises(SourceError) as error:
            project.refresh()
        for words in (
            "do not share a transaction snapshot",
            "whose pool is smaller",
            "next:     the direct URL of the database",
        ):
            assert words in str(error.value)
        assert not project.paths.watermark.exists()
    else:
        project.refresh()
        project.extract()
        assert rows_of_parquet(project.raw) == db.rows()


def test_a_pooler_that_refuses_a_startup_parameter(bouncer: Bouncer, db: Database, project: Project) -> None:
    project.set(source__attempts=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", bouncer.url(db) + "&options=-c%20geqo%3Doff")
        with pytest.raises(SourceError, match="unsupported startup parameter") as error:
            project.refresh()
    assert "the direct URL of the database" in str(error.value)
