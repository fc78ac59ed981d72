"""A clone that runs nights by itself, and who looks at what it pushed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fix_remote import S3, with_remote
from tests.helpers import UNTIL, Clone, Database, event


@pytest.fixture
def nights(own: Clone, s3: S3, bucket: str, scratch: Path) -> Iterator[Clone]:
    """A clone after its first night, that follows a bare repository and has a remote."""
    with_remote(own, s3, bucket)
    bare = Path(tempfile.mkdtemp(prefix="origin ", dir=scratch))
    own.run("git", "init", "-q", "--bare", "-b", "main", str(bare))
    own.run("git", "remote", "add", "origin", str(bare))
    own.run("git", "config", "user.name", "night")
    own.run("git", "config", "user.email", "night@example.org")
    own.change(("  shrunk_days: {limit: 0.5", "  shrunk_days: {limit: 0.3"))
    own.commit("a lower limit")
    own.run("git", "push", "-q", "-u", "origin", "main")
    yield own
    shutil.rmtree(bare, ignore_errors=True)


def night(clone: Clone, until: date = UNTIL, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return clone.run("python", "-m", "commands.night", "--until", str(until), ok=ok)


def subjects(clone: Clone) -> list[str]:
    clone.run("git", "fetch", "-q")
    return clone.run("git", "log", "--format=%s", "origin/main").stdout.splitlines()


def rows_of(db: Database, day: str, number: int, **other: Any) -> None:
    db.insert(*(event(timestamp=f"{day} {8 + n}:00:00", **other) for n in range(number)))


def fresh(clone: Clone, scratch: Path, revision: str = "origin/main") -> Clone:
    """Somebody else's clone of what was pushed, with its data."""
    path = Path(tempfile.mkdtemp(prefix="fresh ", dir=scratch))
    bare = clone.run("git", "remote", "get-url", "origin").stdout.strip()
    clone.run("git", "clone", "-q", bare, str(path))
    other = Clone(path, {k: v for k, v in clone.env.items() if k != "DATABASE_URL"})
    other.run("git", "checkout", "-q", revision)
    other.run("dvc", "pull", "-q")
    return other
