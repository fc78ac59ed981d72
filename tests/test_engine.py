"""Where the work runs changes no byte, no report and no key of what was verified."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg2
import pytest

from pipeline import source
from pipeline.core.errors import ParamsError, PipelineError
from pipeline.engine.chosen import Chosen, chosen
from pipeline.engine.executor import workers
from pipeline.engine.packs import LEAST, packs
from pipeline.engine.place import Pack, run_pack
from pipeline.postgres.joined import end_joined, joined
from pipeline.postgres.session import shared_snapshot
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.fix_engine import Recording
from tests.helpers import USER_B, Database, Project, all_outputs, damage, environment, files, run_module


@pytest.mark.parametrize("engine", ["threads:1", "processes:2"])
def test_every_engine_gives_the_same_bytes(spread: Project, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    expected = all_outputs(spread)
    assert len(expected) > 48
    shutil.rmtree(spread.paths.data)
    monkeypatch.setenv("PIPELINE_ENGINE", engine)
    monkeypatch.setattr(tempfile, "tempdir", None)  # where multiprocessing works; the test's own goes before it ends
    assert all_outputs(spread) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", Chosen("threads", 2, ""), id="unset"),
        pytest.param("threads:1", Chosen("threads", 1, ""), id="threads"),
        pytest.param("processes:16", Chosen("processes", 16, ""), id="processes"),
        pytest.param("dask:tls://scheduler:8786", Chosen("dask", 0, "tls://scheduler:8786"), id="Dask by TLS"),
        pytest.param("dask:tcp://[::1]:8786", Chosen("dask", 0, "tcp://[::1]:8786"), id="Dask, IPv6"),
    ],
)
def test_an_engine_is_chosen(monkeypatch: pytest.MonkeyPatch, text: str, expected: Chosen) -> None:
    monkeypatch.setenv("PIPELINE_ENGINE", text)
    assert chosen() == expected


@pytest.mark.parametrize("text", ["threads", "threads:0", "processes:two", "dask:", "dask:host", "ray:auto", "spark"])
def test_what_is_no_engine_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PIPELINE_ENGINE", text)
    with pytest.raises(ParamsError, match="PIPELINE_ENGINE names no engine"):
        chosen()


def test_dotenv_chooses_an_engine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    (project.root / ".env").write_text("PIPELINE_ENGINE=processes:3\n", encoding="utf-8")
    assert chosen() == Chosen("processes", 3, "")


def test_threads_import_nothing_of_an_engine(published: Project) -> None:
    code = """
import sys
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from stages import extract, validate, export, load, report
for stage in (extract.extract, validate.validate, export.export, load.load, report.report):
    stage(Paths(), load_params(Paths().params))
print(*sorted(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=published.root, env=environment(), capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "pipeline.engine.executor" in loaded
    assert not loaded & {"distributed", "dask", "multiprocessing", "concurrent.futures.process"}
    assert not loaded & {f"pipeline.engine.{name}" for name in ("processes", "cluster", "seen")}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([0] * 4, [4], id="empty days go together"),
        pytest.param([100_000] * 8, [1] * 8, id="large days go alone"),
        pytest.param([LEAST, 10, 10, LEAST], [1, 3], id="in their order"),
    ],
)
def test_small_pieces_go_together(rows: list[int], expected: list[int]) -> None:
    found = packs(list(enumerate(rows)), lambda one: one[1], slots=2)
    assert [len(pack) for pack in found] == expected
    assert [one for pack in found for one in pack] == list(enumerate(rows))


def every_kind(kind: type[PipelineError]) -> Iterator[type[PipelineError]]:
    yield kind
    for other in kind.__subclasses__():
        yield from every_kind(other)


@pytest.mark.parametrize("kind", list(every_kind(PipelineError)), ids=lambda kind: kind.__name__)
def test_an_error_of_a_worker_arrives_whole(kind: type[PipelineError]) -> None:
    error = kind("what", where="where", expected="expected", next_step="next")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (kind, str(error), kind.exit_code)


def test_neither_password_nor_key_travels_in_a_task(
    db: Database, spread: Project, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    password, key = "zq8vK2mnPxw4", "v7Rk" * 10
    db.run(f"CREATE ROLE traveller_{db.name} LOGIN PASSWORD '{password}'")
    db.run(f"GRANT SELECT ON behavioral_events TO traveller_{db.name}")
    monkeypatch.setenv("DATABASE_URL", db.url(user=f"traveller_{db.name}", password=password))
    monkeypatch.setenv("PSEUDONYM_KEY", key)
    spread.set(export__pseudonymize=True)
    all_outputs(spread)
    assert len(recording.sent) > 10
    for sent in recording.sent:
        assert password.encode() not in sent
        assert key.encode() not in sent
        assert USER_B not in repr(pickle.loads(sent)[1])  # what a worker logs of a piece that fails


def test_as_many_connections_as_extract_workers(spread: Project, recording: Recording) -> None:
    spread.set(extract__workers=1)
    spread.extract()
    assert len(recording.sent) > 1
    assert recording.most == 1


def test_a_worker_with_other_code_is_refused() -> None:
    with pytest.raises(PipelineError, match="runs other code"):
        run_pack(Pack(len, ["a"], "0123456789abcdef"))


def test_a_night_without_work_opens_nothing(recording: Recording) -> None:
    with workers("validate") as run:
        assert list(run.each(len, [], len)) == []
        assert list(run.each(len, [""], len)) == [("", 0)]
    assert recording.sent == []


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        pytest.param("processes:4", "validate: engine: processes:4\n", id="another engine, once"),
        pytest.param("threads:4", "", id="threads"),
    ],
)
def test_a_line_says_which_engine_works(
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    expected: str,
) -> None:
    monkeypatch.setenv("PIPELINE_ENGINE", engine)
    with workers("validate") as run:
        for _ in range(2):
            assert list(run.each(len, ["a"], len)) == [("a", 1)]
    assert capsys.readouterr() == ("", expected)


def test_who_does_work_again_ends_the_connection_of_the_lost_one(db: Database, project: Project) -> None:
    named = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name ~ '^[0-9A-F]+-[0-9A-F]+-1 7'"
    with (
        source.connect(project.params.source, [BEHAVIORAL_EVENTS]) as target,
        ThreadPoolExecutor(1) as pool,
        shared_snapshot(target, pool) as snapshot,
        joined(target, snapshot.name, 7) as lost,
        joined(target, snapshot.name, 70) as other,
        joined(target, snapshot.name, 7),
    ):
        assert lost.closed or gone(lost)
        assert not gone(other)
        end_joined(target, snapshot.name)
        while db.run(named, [db.name]) != [(0,)]:
            pass
        assert gone(other)


def gone(connection: psycopg2.extensions.connection) -> bool:
    try:
        connection.cursor().execute("SELECT 1")
    except psycopg2.Error:
        return True
    return False


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """A process that copies: it has a connection."""
    while True:
        for child in psutil.Process(process.pid).children(recursive=True):
            # Its parent is the one that forks; its connections are a pipe's and PostgreSQL's.
            if child.ppid() != process.pid and child.net_connections("all"):
                return child


@pytest.mark.parametrize(
    ("who", "number"),
    [
        pytest.param("worker", signal.SIGKILL, id="a worker is killed"),
        pytest.param("driver", signal.SIGINT, id="Ctrl-C"),
        pytest.param("driver", signal.SIGKILL, id="the driver is killed", marks=pytest.mark.long),
    ],
)
def test_a_fault_in_processes_leaves_nothing(db: Database, large: Project, who: str, number: signal.Signals) -> None:
    large.extract()
    good = damage(large)
    before = files(large.raw)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.extract"],
        cwd=large.root,
        env={**environment(), "PIPELINE_ENGINE": "processes:2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    while not db.copying():
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    begin = time.monotonic()
    os.kill(process.pid if who == "driver" else worker_of(process).pid, number)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begin < 10
    assert "Traceback" not in said
    if who == "worker":
        assert process.returncode == 1
        assert "gave the work up" in said
        assert "journalctl -k" in said
        assert "scheduler" not in said
    elif number == signal.SIGINT:
        assert process.returncode == 130
        assert said == "extract: engine: processes:2\nstopped by SIGINT; nothing was published\n"
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    while db.run(others, [db.name]) != [(0,)]:
        pass
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert files(large.raw) == before
    if number != signal.SIGKILL or who == "worker":
        assert not list(large.raw.parent.glob(".raw.*"))
    run_module(large, "stages.extract", PIPELINE_ENGINE="processes:2")
    assert files(large.raw) == good
