"""A network that goes silent, staying open."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack

import pytest

from benchmarks.relay import Relay, relay
from pipeline.core.errors import TransientSourceError
from tests.helpers import Database, Project, rows_of_parquet, start_extract


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
