"""A Dask cluster with a real scheduler and workers, TLS between them: the same bytes, or one clear error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import DASK, Cluster, cluster
from pipeline.core.paths import STAGES
from pipeline.engine.seen import Seen, differences
from tests.helpers import Database, Project, all_outputs, environment, files, made

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
        assert "as postgres, not" in done.stderr
        changed = {name: content for name, content in files(spread.root).items() if before.get(name) != content}
        assert list(changed) == ["data/.notes/extract.json"]


@needs_dask
@pytest.mark.long
@pytest.mark.parametrize("stage", ["extract", "validate", "export", "load"])
def test_the_scheduler_is_lost(spread: Project, stage: str) -> None:
    """Before the stage begins; benchmarks.faults_dask kills it in the middle."""
    with cluster(spread.root, environment(), workers=0) as one:
        one.scheduler.kill()
        one.scheduler.wait()
        for before in STAGES[: STAGES.index(stage)]:
            getattr(spread, before)()
        done = run(spread, one, stage)
        assert done.returncode == 1
        assert "no Dask scheduler answers" in done.stderr
        assert "Traceback" not in done.stderr


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
