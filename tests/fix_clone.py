"""Clones of the project, as a user has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, Clone


def clean_env(scratch: Path) -> dict[str, str]:
    """The environment of a user without a DATABASE_URL, whose `python` and `dvc` are the ones of this venv."""
    drop = {"DATABASE_URL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "DVC_ROOT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    env = {k: v for k, v in os.environ.items() if k not in drop and not k.startswith(("PYTEST", "GIT_", "COV"))}
    return env | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "TMPDIR": str(scratch),
        "DVC_SITE_CACHE_DIR": str(scratch / "dvc"),  # else what DVC knows of each clone stays in /var/tmp for ever
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }


def new_clone(scratch: Path, name: str) -> Clone:
    """The project's files as they are in the checkout, committed to a repository of their own."""
    path = scratch / name
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for file in filter(None, listed.stdout.split("\0")):
        if (ROOT / file).is_file():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, path / file)
    clone = Clone(path, clean_env(scratch))
    clone.run("git", "init", "-q", "-b", "main")
    clone.commit("as it is")
    return clone


def copy_tree(source: Path, to: Path) -> None:
    """A copy of a folder with all that is in it. By cp, because Python takes half a second for a clone."""
    to.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", to], check=True)


@pytest.fixture(scope="session")
def first_run(scratch: Path) -> tuple[Clone, str]:
    """A clone, its path with a space, and what `make repro` printed in it, on the embedded default. Read only."""
    clone = new_clone(scratch, "a fresh clone")
    done = clone.make("repro", COLUMNS="100")
    (clone.path / "data/runs.jsonl").unlink()
    return clone, done.stdout + done.stderr


@pytest.fixture(scope="session")
def reproduced(first_run: tuple[Clone, str]) -> Clone:
    return first_run[0]


@pytest.fixture
def clone(reproduced: Clone, scratch: Path) -> Iterator[Clone]:
    """A copy of the reproduced clone, to do what one likes with."""
    path = Path(tempfile.mkdtemp(prefix="clone ", dir=scratch))
    copy_tree(reproduced.path, path)
    yield Clone(path, dict(reproduced.env))
    shutil.rmtree(path, ignore_errors=True)
