"""A history of snapshots that is cheap to make: seven of main and one of a branch, in a cache and in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fix_clone import copy_tree
from tests.fix_remote import S3, configure
from tests.helpers import Clone

DAY = "data/export/behavioral_events/event_date=2025-10-2{}/part-0.parquet"

# When each snapshot was committed, its name, and the content of two day files. "two" is shared by some.
SNAPSHOTS = (
    ("2025-06-10 10:00:00 +0000", "june", "1", "two"),
    ("2025-07-10 10:00:00 +0000", "july", "2", "two"),
    ("2025-10-20 10:00:00 +0000", "morning", "3", "two"),
    ("2025-10-20 23:30:00 -0500", "in UTC the next day", "4", "two"),
    ("2025-10-22 09:00:00 +0000", "early", "5", "other"),
    ("2025-10-22 10:00:00 +0000", "late", "6", "two"),
    ("2025-10-23 10:00:00 +0000", "last", "7", "other"),
)

# In one process, because DVC takes longer to start than to work.
MAKE = """
import json, os, subprocess, sys
from pathlib import Path
from dvc.repo import Repo
def git(*words, **env):
    subprocess.run(["git", *words], check=True, env=os.environ | env, stdout=subprocess.DEVNULL)
def snapshot(when, name, one, two):
    for number, text in ((6, one), (7, two)):
        file = Path(sys.argv[1].format(number))
        file.unlink()
        file.write_text(text)
    with Repo(".") as repo:
        repo.commit("export", force=True)
    git("add", "-A")
    git("commit", "-qm", name, GIT_COMMITTER_DATE=when, GIT_AUTHOR_DATE=when)
"""


@pytest.fixture(scope="session")
def made(first_night: Clone, scratch: Path) -> Iterator[tuple[Clone, Path]]:
    """A history of seven snapshots and a branch that is not pushed, all in a folder with a space in its name."""
    path = Path(tempfile.mkdtemp(prefix="kept ", dir=scratch))
    copy_tree(first_night.path, path / "own")
    clone = Clone(path / "own", {k: v for k, v in first_night.env.items() if k != "DATABASE_URL"})
    for folder in (".git", "tests", "docs", "benchmarks", "deploy", "analyses/results"):  # copied for each test
        shutil.rmtree(clone.path / folder)
    clone.run("git", "init", "-q", "-b", "main")
    with open(clone.path / ".dvc/config", "a", encoding="utf-8") as config:
        config.write(f"    remote = storage\n['remote \"storage\"']\n    url = {path}/a folder\n")
    script = MAKE + (
        f"for one in {SNAPSHOTS[:2]!r}: snapshot(*one)\n"
        "git('tag', '-am', 'Cited', 'study-1')\n"
        "git('switch', '-qc', 'idea', 'HEAD~1')\n"
        "snapshot('2025-06-11 10:00:00 +0000', 'an idea', '8', 'two')\n"
        "git('switch', '-q', 'main')\n"
        f"for one in {SNAPSHOTS[2:]!r}: snapshot(*one)\n"
        "with Repo('.') as repo: repo.push(all_commits=True)\n"
    )
    clone.run("python", "-c", script, DAY)
    yield clone, path / "a folder"
    shutil.rmtree(path)


@pytest.fixture
def kept(made: tuple[Clone, Path], scratch: Path) -> Iterator[tuple[Clone, Path]]:
    """The same, to do what one likes with."""
    path = Path(tempfile.mkdtemp(prefix="kept ", dir=scratch))
    for source in (made[0].path, made[1]):
        copy_tree(source, path / source.name)
    clone, folder = Clone(path / "own", made[0].env), path / "a folder"
    configure(clone, "url", str(folder))
    yield clone, folder
    shutil.rmtree(path)


def files(root: Path) -> dict[str, bytes]:
    """Every file, but for what any command leaves: Python's, DVC's, and the note of how long it took."""
    found = {file.relative_to(root): file for file in root.rglob("*") if file.is_file()}
    left = {"__pycache__", "tmp", ".notes"}
    return {str(name): file.read_bytes() for name, file in found.items() if not left & set(name.parts)}


def objects(*roots: Path) -> list[set[str]]:
    """The MD5s of all objects below each root, by their paths."""
    found = [[file.parts[-2:] for file in (root / "files/md5").rglob("*") if file.is_file()] for root in roots]
    return [{"".join(parts) for parts in some} for some in found]


def in_bucket(s3: S3, bucket: str) -> set[str]:
    return {"".join(one["Key"].split("/")[-2:]) for one in s3.client().list_objects_v2(Bucket=bucket)["Contents"]}


def named(clone: Clone, revision: str, root: Path) -> set[str]:
    """The objects of a snapshot, by its dvc.lock and the lists in a place."""
    lock = yaml.safe_load(clone.run("git", "show", f"{revision}:dvc.lock").stdout)
    found = set()
    for stage in lock["stages"].values():
        for md5 in [out["md5"] for out in stage["outs"] if out.get("path", "").startswith("data/")]:
            found.add(md5)
            file = root / "files/md5" / md5[:2] / md5[2:]
            if md5.endswith(".dir") and file.exists():
                found |= {entry["md5"] for entry in json.loads(file.read_text())}
    return found
