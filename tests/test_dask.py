"""A Dask cluster with a real scheduler and workers, TLS between them: the same bytes, or one clear error."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import DASK, Cluster, cluster
from pipeline.core.paths import STAGES
from pipeline.engine.seen import Seen, differences
from tests.helpers import ROOT, Database, Project, all_outputs, environment, files, made

needs_dask = pytest.mark.skipif(not DASK.is_dir(), reason="no Dask; make .venv/bin/.ready-dask installs it")

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture
def workers(spread: Project) -> Iterator[Cluster]:
    """A scheduler and two workers, in the folder of the project."""
    with cluster(spread.root, environment()) as made:
        yield made


def run(project: Project, cluster: Cluster, stage: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cluster.python(f"stages.{stage}"),
        cwd=project.root,
        env={**cluster.env, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@needs_dask
def test_a_cluster_gives_the_same_bytes(spread: Project, workers: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spread.root)
    here = Project(Path(), spread.values)  # a view names its files as they are named here
    expected = all_outputs(here)
    shutil.rmtree(here.paths.data)
    for stage in STAGES:
        done = run(spread, workers, stage)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr + workers.log()
    assert made(here) == expected
    assert not list(spread.paths.data.glob(".workers.*"))
    for worker in workers.workers:
        assert worker.poll() is None


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        pytest.param(Seen(True, {"code": "a", "pyarrow": "1"}), [], id="all the same"),
        pytest.param(Seen(False, {"code": "a", "pyarrow": "1"}), [f"w does not see {Path.cwd()}"], id="folder"),
        pytest.param(Seen(True, {"code": "b", "pyarrow": "1"}), ["w has code b, not a"], id="code"),
        pytest.param(Seen(True, {"code": "a", "pyarrow": "2"}), ["w has pyarrow 2, not 1"], id="library"),
        pytest.param(Seen(True, {"code": "a"}), ["w has pyarrow nothing, not 1"], id="missing"),
        pytest.param(
            Seen(True, {"code": "a", "pyarrow": "1", "environment": "PSEUDONYM_KEY is not set"}),
            ["w has environment PSEUDONYM_KEY is not set, not nothing"],
            id="environment",
        ),
    ],
)
def test_what_workers_do_not_share_is_named(theirs: Seen, expected: list[str]) -> None:
    assert differences(Seen(True, {"code": "a", "pyarrow": "1"}), {"w": theirs}) == expected


@needs_dask
@pytest.mark.long
def test_a_worker_that_is_another_is_refused(spread: Project, db: Database, tmp_path: Path) -> None:
    """In another folder, with another database, or with code that was changed since."""
    other = tmp_path / "elsewhere"
    (other / "data").mkdir(parents=True)
    with cluster(spread.root, environment(), workers=1) as one:
        one.worker(folder=other)
        while one.log().count("Starting established connection") < 2:
            pass
        before = files(spread.root)
        done = run(spread, one, "extract")
        assert done.returncode == 1
        assert f"does not see {spread.root}" in done.stderr
        assert "next:" in done.stderr
        done = run(spread, one, "extract", DATABASE_URL=db.url().replace("postgres@", "locked@"))
        assert done.returncode == 1
        assert "as postgres, schema public, not" in done.stderr
        changed = {name: content for name, content in files(spread.root).items() if before.get(name) != content}
        assert list(changed) == ["data/.notes/extract.json"]


@needs_dask
@pytest.mark.long
def test_a_scheduler_that_is_not_there(spread: Project) -> None:
    with cluster(spread.root, environment(), workers=0) as one:
        one.scheduler.kill()
        one.scheduler.wait()
        done = run(spread, one, "extract")
        assert done.returncode == 1
        assert "no Dask scheduler answers" in done.stderr
        assert "Traceback" not in done.stderr


SOON = """
import sys
from pipeline.engine import cluster
cluster.FIRST_WORKER = 1
sys.argv = ["extract"]
from pipeline.core.process import run
from stages import extract
run("extract", extract.main)
"""


@needs_dask
@pytest.mark.long
def test_a_scheduler_without_workers(spread: Project) -> None:
    with cluster(spread.root, environment(), workers=0) as one:
        done = subprocess.run(
            [sys.executable, "-c", SOON], cwd=spread.root, env=one.env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "there was no worker for 1 s" in done.stderr
    assert "Traceback" not in done.stderr


@needs_dask
@pytest.mark.long
def test_ctrl_c_ends_what_workers_do(db: Database, large: Project) -> None:
    with cluster(large.root, environment()) as two:
        process = subprocess.Popen(
            two.python("stages.extract"),
            cwd=large.root,
            env=two.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        while not db.copying():
            assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - begin < 10
        assert process.returncode == 130
        assert said == "stopped by SIGINT; nothing was published\n"
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        while db.run(others, [db.name]) != [(0,)]:
            pass
        assert not large.raw.exists()
        done = run(large, two, "extract")
        assert done.returncode == 0, done.stderr


@needs_dask
@pytest.mark.long
def test_faults_leave_nothing() -> None:
    """The short form of make faults-dask."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults_dask", "--times", "1", "--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_dask
def test_without_dask_it_is_said_what_to_install(spread: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.extract"],
        cwd=spread.root,
        env={**environment(), "PIPELINE_ENGINE": "dask:tcp://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install -r requirements-dask.txt" in done.stderr
