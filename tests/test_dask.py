"""A Dask cluster with a real scheduler and workers, TLS between them: the same bytes, or one clear error."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.cluster import DASK, TLS, Cluster, cluster
from pipeline.core.errors import ParamsError
from pipeline.core.paths import STAGES
from pipeline.engine.certificates import CA, CERT, KEY, check
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
        pytest.param(
            Seen(False, {"code": "a", "pyarrow": "1"}, "/x"), [f"w stands in /x, not in {Path.cwd()}"], id="elsewhere"
        ),
        pytest.param(
            Seen(False, {"code": "a", "pyarrow": "1"}, str(Path.cwd())),
            [f"w does not see {Path.cwd()}"],
            id="of the same name",
        ),
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
    bare = tmp_path / "bare"
    (bare / "pipeline").mkdir(parents=True)
    with cluster(spread.root, environment(), workers=1) as one:
        one.worker(folder=other)
        (bare / "pipeline/__init__.py").touch()  # found before the project's
        one.worker(folder=bare)
        while one.log().count("Starting established connection to tls://") < 6:  # both ends of each say it
            pass
        before = files(spread.root)
        done = run(spread, one, "extract")
        assert done.returncode == 1
        assert f"stands in {other}, not in {spread.root}" in done.stderr
        assert "No module named 'pipeline" in done.stderr
        assert f"stands in {bare}, not in {spread.root}: " in done.stderr
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
        assert "start the scheduler, and then the workers" in done.stderr
        assert "compare the certificates" in done.stderr
        assert "Traceback" not in done.stderr


SOON = """
import sys
from pipeline.engine import asked, cluster
cluster.FIRST_WORKER, asked.ANSWER = 1, 3
sys.argv = ["extract"]
from pipeline.core.process import run
from stages import extract
run("extract", extract.main)
"""


@needs_dask
@pytest.mark.long
def test_a_scheduler_without_workers(spread: Project) -> None:
    with cluster(spread.root, environment(), workers=0) as one:
        done = soon(spread, one)
    assert done.returncode == 1
    assert "there was no worker for 1 s" in done.stderr
    assert f"start workers in this folder: dask worker {one.address} --nthreads 1" in done.stderr
    assert "Traceback" not in done.stderr


@needs_dask
@pytest.mark.long
def test_a_worker_that_hangs_is_named(spread: Project, workers: Cluster) -> None:
    wait_for_both(workers)
    hangs = workers.workers[0]
    hangs.send_signal(signal.SIGSTOP)
    done = soon(spread, workers)
    assert done.returncode == 1
    assert "1 worker did not answer within 3 s" in done.stderr
    port = re.findall(r"within 3 s: tls://127.0.0.1:(\d+)\n", done.stderr)
    assert {*map(int, port)} & {one.laddr.port for one in psutil.Process(hangs.pid).net_connections()}
    assert "Traceback" not in done.stderr


@needs_dask
@pytest.mark.long
@pytest.mark.parametrize("who", ["worker", "scheduler"])
def test_one_that_is_killed_while_workers_are_asked(spread: Project, workers: Cluster, who: str) -> None:
    """A worker is left out; without the scheduler there is one error."""
    wait_for_both(workers)
    workers.workers[0].send_signal(signal.SIGSTOP)
    process = subprocess.Popen(
        workers.python("stages.extract"), cwd=spread.root, env=workers.env, stderr=subprocess.PIPE, text=True
    )
    while len(list(spread.paths.data.glob(".workers.*/*"))) < 2:  # the question, and the other one's file
        assert process.poll() is None
    (workers.workers[0] if who == "worker" else workers.scheduler).kill()
    _, said = process.communicate(timeout=30)
    engine, _, error = said.partition("\n")
    assert engine == f"extract: engine: dask:{workers.address}"
    if who == "worker":
        assert (process.returncode, error) == (0, "")
    else:
        assert process.returncode == 1
        assert "the way to the scheduler broke off" in error
        assert "start the scheduler, and then the workers" in error
        assert "Traceback" not in error


@needs_dask
@pytest.mark.long
def test_pieces_of_a_worker_that_hangs_are_given_to_others(db: Database, large: Project) -> None:
    """By Dask, once the worker has been silent for distributed.scheduler.worker-ttl."""
    with cluster(large.root, {**environment(), "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"}) as two:
        wait_for_both(two)
        process = subprocess.Popen(
            two.python("stages.extract"), cwd=large.root, env=two.env, stderr=subprocess.PIPE, text=True
        )
        while not db.copying():
            assert process.poll() is None
        two.workers[0].send_signal(signal.SIGSTOP)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "Worker failed to heartbeat" in two.log()


def soon(project: Project, cluster: Cluster) -> subprocess.CompletedProcess[str]:
    """extract, with shorter limits of time."""
    return subprocess.run(
        [sys.executable, "-c", SOON], cwd=project.root, env=cluster.env, capture_output=True, text=True, check=False
    )


def wait_for_both(cluster: Cluster) -> None:
    while cluster.log().count("Starting established connection to tls://") < 4:  # both ends of each say it
        assert cluster.scheduler.poll() is None


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
        assert said == f"extract: engine: dask:{two.address}\nstopped by SIGINT; nothing was published\n"
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


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param({CA: None, CERT: "pem", KEY: "pem"}, f"{CA} is not set", id="no authority"),
        pytest.param({CA: "pem", CERT: None, KEY: "pem"}, f"{CERT} is not set", id="no certificate"),
        pytest.param({CA: "pem", CERT: "pem", KEY: None}, f"{KEY} is not set", id="no key"),
        pytest.param(
            {CA: "other.pem", CERT: "pem", KEY: "pem"},
            f"{CA} names other.pem, which can't be read: No such file or directory",
            id="no such file",
        ),
        pytest.param({CA: "pem", CERT: "both", KEY: None}, "", id="one file for both"),
        pytest.param({CA: "pem", CERT: "pem", KEY: "pem"}, "", id="all of them"),
    ],
)
def test_certificates_are_named_and_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str | None], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pem").touch()
    Path("both").write_text("-----BEGIN PRIVATE KEY-----\n", encoding="utf-8")
    said = ""
    try:
        check(named)
    except ParamsError as error:
        said = error.what
    assert said == expected


@needs_dask
def test_a_variable_without_its_file_is_named(spread: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.extract"],
        cwd=spread.root,
        env={
            **environment(),
            "PYTHONPATH": f"{DASK}{os.pathsep}{ROOT}",
            "PIPELINE_ENGINE": "dask:tls://127.0.0.1:1",
            f"{TLS}CA_FILE": "certificates/ca.pem",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{TLS}CA_FILE names certificates/ca.pem, which can't be read" in done.stderr
