"""A network that goes silent, staying open."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from benchmarks.relay import Relay, relay
from pipeline.core.errors import TransientSourceError
from tests.helpers import ROOT, Database, Project, rows_of_parquet, start_extract


def url(db: Database, way: Relay) -> str:
    return f"postgresql://postgres@127.0.0.1:{way.port}/{db.name}?sslmode=disable"


@pytest.mark.parametrize("limit", [200, 300_000], ids=["in the login", "in COPY"])
def test_a_silent_network_ends_within_the_bound(
    db: Database, large: Project, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    large.set(source__stall_timeout=1, source__lock_timeout=1, source__attempts=1)
    with relay(db.where, limit) as way:
        monkeypatch.setenv("DATABASE_URL", f"{url(db, way)}&connect_timeout=2")
        begin = time.monotonic()
        with pytest.raises(TransientSourceError):
            large.extract()
        assert time.monotonic() - begin < 15
        assert way.silent.is_set()
    monkeypatch.setenv("DATABASE_URL", db.url())
    large.extract()
    assert rows_of_parquet(large.raw) == db.rows()


CANCELS = """
import os, sys, threading, time
import psycopg2
from benchmarks.relay import relay
from pipeline.postgres.cancel import cancel, is_cancelling

folder, port, database, limit = *sys.argv[1:4], int(sys.argv[4])
with relay({"host": folder, "port": port}, 10**9) as way:
    way_ = f"host=127.0.0.1 port={way.port} user=postgres dbname={database} sslmode=disable"
    connection = psycopg2.connect(way_)
    asked = threading.Event()

    def ask():
        asked.set()
        try:
            connection.cursor().execute("SELECT pg_sleep(60)")
        except psycopg2.errors.QueryCanceled:
            print("cancelled", flush=True)

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    way.limit = limit
    while True:
        cancel(connection)  # again: it may come before the statement
        thread.join(0.2)
        if way.silent.is_set() or not thread.is_alive():
            break
    for _ in range(5):
        time.sleep(0.1)
    print("this process goes on", is_cancelling(), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        pytest.param(10**9, "cancelled\nthis process goes on False\n", id="a cancel that arrives"),
        pytest.param(0, "this process goes on True\n", id="a cancel in a silent network"),
    ],
)
def test_a_cancel_stops_no_other_thread(db: Database, limit: int, said: str) -> None:
    """psycopg2's own cancel() keeps Python's lock, so that this process, relay and all, would stand still for ever."""
    command = [sys.executable, "-c", CANCELS, db.where["host"], db.where["port"], db.name, str(limit)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == said


def test_a_signal_ends_a_run_whatever_the_network_does(
    db: Database, large: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Silent before the first byte, in the main thread, and in COPY: three runs at once, for each takes seconds."""
    numbers = {0: signal.SIGTERM, 1_500: signal.SIGTERM, 300_000: signal.SIGINT}
    with ExitStack() as stack:
        running = []
        for limit, number in numbers.items():
            way = stack.enter_context(relay(db.where, limit))
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
