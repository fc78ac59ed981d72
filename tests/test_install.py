"""The project is installed in place: importable from anywhere, and still a clone runs its own modules."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers import ROOT, STAGES, USER_A, Clone, environment

pytestmark = pytest.mark.xdist_group("clones")

WHERE = "import schemas.behavioral_events, pipeline.core.paths as p; print(schemas.__path__[0], p.__file__)"


def test_the_contract_can_be_imported_from_anywhere(tmp_path: Path) -> None:
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    code = "from schemas.behavioral_events import validate_behavioral_events as f; print(f.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "schemas.behavioral_events\n"


def test_a_second_clone_runs_its_own_modules(reproduced: Clone) -> None:
    for place in reproduced.run("python", "-c", WHERE).stdout.split(str(reproduced.path))[1:]:
        assert place.startswith("/")
    assert str(ROOT) not in reproduced.run("python", "-c", WHERE).stdout.replace(str(reproduced.path), "")


def test_an_experiment_in_a_copy_runs_the_modules_of_its_commit(clone: Clone) -> None:
    clone.change(('print(f"load: ', 'print(f"load of this commit: '), file="stages/load.py")
    clone.commit("other words")
    said = clone.run("dvc", "exp", "run", "--temp", "-S", "load.strategy=table").stdout
    assert "load of this commit: data/analytics.duckdb (table)" in said


def test_every_package_is_named() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("analyses", "commands", "pipeline", "schemas", "stages")
        for file in (ROOT / top).rglob("*.py")
    }
    assert sorted(named) == sorted(folders)


def test_nothing_of_the_installation_is_seen_by_git(reproduced: Clone) -> None:
    (reproduced.path / "behavioral_events_pipeline.egg-info").mkdir(exist_ok=True)
    (reproduced.path / "behavioral_events_pipeline.egg-info" / "PKG-INFO").touch()
    assert reproduced.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    "module",
    [
        *(f"commands.{name}" for name in ("check", "erase", "preflight", "refresh", "summary")),
        *map("stages.{}".format, STAGES),
    ],
    ids=str,
)
def test_another_folder_than_the_project(reproduced: Clone, tmp_path: Path, module: str) -> None:
    """The installation makes modules start anywhere; the advice is followed."""
    arguments = [USER_A] if module == "commands.erase" else []
    command = ["python", "-m", module, *arguments]
    env = {**reproduced.env, "PYTHONPATH": str(reproduced.path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "next:     cd to the project's folder" in done.stderr
    assert list(tmp_path.iterdir()) == []
