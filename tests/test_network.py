"""A network that goes silent: a relay that passes so many bytes of each connection and then none, staying open."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pipeline.core.errors import TransientSourceError
from tests.helpers import Database, Project, rows_of_parquet, start_extract


class Relay:
    """Passes bytes between clients and a server until `silent` is set, or `limit` bytes came back on a connection."""

    def __init__(self, folder: str, port: str, limit: int) -> None:
        self.server, self.limit = f"{folder}/.s.PGSQL.{port}", limit
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.silent = threading.Event()  # that a connection has become silent
        self.ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.ended:
            with suppress(OSError):
                client, _ = self.listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        passed = 0
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self.server)
            while not self.ended:
                ready, _, _ = select.select([client, server], [], [], 0.2)
                for one in ready:
                    content = one.recv(65536)
                    if not content:
                        return
                    if passed + len(content) > self.limit:
                        self.silent.set()
                        # Neither closes nor reads, as a host that went away behind a proxy that did not.
                        while not self.ended:
                            time.sleep(0.05)
                        return
                    passed += len(content) if one is server else 0
                    (server if one is client else client).sendall(content)


@contextmanager
def relay(db: Database, limit: int) -> Iterator[Relay]:
    made = Relay(db.where["host"], db.where["port"], limit)
    try:
        yield made
    finally:
        made.ended = True
        made.listening.close()


def url(db: Database, way: Relay) -> str:
    return f"postgresql://postgres@127.0.0.1:{way.port}/{db.name}?sslmode=disable"


@pytest.mark.parametrize("limit", [200, 300_000], ids=["in the login", "in COPY"])
def test_a_silent_network_ends_within_the_bound(
    db: Database, large: Project, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    large.set(source__stall_timeout=1, source__lock_timeout=1, source__attempts=1)
    with relay(db, limit) as way:
        monkeypatch.setenv("DATABASE_URL", f"{url(db, way)}&connect_timeout=2")
        begin = time.monotonic()
        with pytest.raises(TransientSourceError):
            large.extract()
        assert time.monotonic() - begin < 15
        assert way.silent.is_set()
    monkeypatch.setenv("DATABASE_URL", db.url())
    large.extract()
    assert rows_of_parquet(large.raw) == db.rows()


def test_a_signal_ends_a_run_whatever_the_network_does(
    db: Database, large: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Silent before the first byte, in the main thread, and in COPY: three runs at once, for each takes seconds."""
    numbers = {0: signal.SIGTERM, 1_500: signal.SIGTERM, 300_000: signal.SIGINT}
    with ExitStack() as stack:
        running = []
        for limit, number in numbers.items():
            way = stack.enter_context(relay(db, limit))
            monkeypatch.setenv("DATABASE_URL", url(db, way))
            root = tmp_path_factory.mktemp("run")
            shutil.copytree(large.root, root, dirs_exist_ok=True)
            process = start_extract(Project(root, large.values))
            assert way.silent.wait(20)
            process.send_signal(number)
            running.append((process, number, time.monotonic()))
        for process, number, begin in running:
            _, err = process.communicate(timeout=30)
            assert time.monotonic() - begin < 10
            assert process.returncode == 128 + number
            assert f"stopped by {number.name}; nothing was published" in err
            assert "Traceback" not in err
