"""Every exit code, by the command line: what, where, expected and next command; nothing of what was there is lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from pipeline.files.layout import day_path, days_in
from tests.helpers import (
    ROOT,
    USER_A,
    Database,
    Project,
    damage,
    environment,
    event,
    files,
    rows_of_parquet,
    run_module,
    start_extract,
)

Break = Callable[[Database, Project, dict[str, str]], None]


def blocked(db: Database, project: Project, env: dict[str, str]) -> None:
    project.paths.extract_report.unlink()
    project.paths.extract_report.mkdir()


def misspelt(db: Database, project: Project, env: dict[str, str]) -> None:
    project.set(extract__days=0)


def unreachable(db: Database, project: Project, env: dict[str, str]) -> None:
    damage(project)
    env["DATABASE_URL"] = "postgresql://u:secret-word@127.0.0.1:1/d"


def drifted(db: Database, project: Project, env: dict[str, str]) -> None:
    damage(project)
    db.run('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"')


def invalid(db: Database, project: Project, env: dict[str, str]) -> None:
    project.values["validate"]["experiment_phases"] = ["nobody is in this phase"]
    project.set()


def damaged(db: Database, project: Project, env: dict[str, str]) -> None:
    path = day_path(project.raw, days_in(project.raw)[0])
    path.write_bytes(path.read_bytes()[:-1])


def moved(db: Database, project: Project, env: dict[str, str]) -> None:
    damage(project)
    db.insert(event())


CASES: list[tuple[int, str, Break]] = [
    (1, "extract", blocked),
    (2, "extract", misspelt),
    (3, "extract", unreachable),
    (4, "extract", drifted),
    (5, "validate", invalid),
    (6, "validate", damaged),
    (7, "extract", moved),
]


@pytest.mark.parametrize(("code", "stage", "break_"), CASES, ids=[str(code) for code, *_ in CASES])
def test_every_exit_code(db: Database, project: Project, code: int, stage: str, break_: Break) -> None:
    db.insert(event(experimentPhase="baseline_1", userId=USER_A))
    project.all()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    break_(db, project, env)
    kept = [project.raw, project.exported, project.paths.database.parent / "quarantine"]
    before = [files(folder) for folder in kept], project.paths.database.read_bytes()
    command = [sys.executable, "-m", f"stages.{stage}"]
    done = subprocess.run(command, cwd=project.root, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{stage}: error: ") for line in lines)
    for part in ("  where:    ", "  expected: ", "  next:     "):
        assert any(line.startswith(part) for line in lines), part
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr
    assert ([files(folder) for folder in kept], project.paths.database.read_bytes()) == before


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_a_closed_standard_file_is_no_failure(db: Database, project: Project, closed: str) -> None:
    db.insert(event())
    project.refresh()
    for stage in ("extract", "validate", "export", "load"):
        done = run_module(project, f"stages.{stage}", redirect=closed)
        assert (done.returncode, done.stderr) == (0, "")
    assert rows_of_parquet(project.raw) == db.rows()
    assert json.loads(project.paths.load_report.read_text())["equal"]


def test_an_output_that_is_full_is_said(db: Database, project: Project) -> None:
    db.insert(event())
    project.refresh()
    done = run_module(project, "stages.extract", redirect="> /dev/full")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_nohup_is_respected(db: Database, project: Project) -> None:
    db.insert(event())
    project.refresh()
    with closing(db.connect()) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        process = start_extract(project, hangup=signal.SIG_IGN)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        while process.poll() is None and db.run(waiting, [db.name]) == [(0,)]:
            pass
        process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


@pytest.mark.parametrize(("stage", "limit"), [("validate", 600_000), ("export", 1_500_000)], ids=["validate", "export"])
def test_too_little_memory_is_said(published: Project, stage: str, limit: int) -> None:
    """Where the interpreter lives to say it: as little as libraries need to be loaded may end it before."""
    shutil.rmtree(published.paths.data / ".verified", ignore_errors=True)
    shutil.rmtree(published.exported, ignore_errors=True)
    before = files(published.raw)
    command = f"ulimit -v {limit}; exec {shlex.quote(sys.executable)} -m stages.{stage}"
    done = subprocess.run(
        command, shell=True, cwd=published.root, env=environment(), capture_output=True, text=True, check=False
    )
    assert files(published.raw) == before
    if done.returncode > 0 and "error:" in done.stderr:
        assert "there is not enough memory" in done.stderr
        assert "Traceback" not in done.stderr
    published.run()
