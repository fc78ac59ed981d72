"""What starts a night: each file is what its reader takes it for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

DEPLOY = ROOT / "deploy"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TOOLS = Path(sys.executable).parent


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_systemd_units_are_understood(tmp_path: Path) -> None:
    """An unknown key is a warning and rc 0, so nothing may be said. ExecStart has to exist: here in another folder."""
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8").replace("/srv/behavioral-events", str(tmp_path))
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    units = [str(unit) for unit in tmp_path.glob("*.service")] + [str(unit) for unit in tmp_path.glob("*.timer")]
    assert len(units) == 4
    assert said("systemd-analyze", "verify", *units) == ""


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_the_workflows_obey_their_schema(workflow: Path) -> None:
    said(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(workflow))


def test_the_compose_file_obeys_its_schema() -> None:
    said(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "dask/compose.yaml"))


def test_the_workflows_have_nothing_unsafe() -> None:
    said(str(TOOLS / "zizmor"), "--offline", "--quiet", str(WORKFLOWS[0].parent))


def test_cron_runs_what_there_is() -> None:
    lines = [line for line in (DEPLOY / "cron/behavioral-events").read_text().splitlines() if line and line[0] != "#"]
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert len(lines) == 2
    for line in lines:
        minute, _hour, day, month, weekday, _user, command = re.split(r"\s+", line, maxsplit=6)
        assert int(minute) % 5
        assert (day, month, weekday) == ("*", "*", "*")
        assert re.search(rf"make -s ({'|'.join(targets)}) |python -m commands\.status ", command)
