"""Snapshots that are not kept lose their files, and no other does: against a walk of the folders by other means."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fix_clone import copy_tree
from tests.fix_remote import S3, configure, copy_of
from tests.helpers import Clone

pytestmark = pytest.mark.xdist_group("remote")

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


@pytest.fixture(scope="module")
def made(first_night: Clone, scratch: Path) -> Iterator[tuple[Clone, Path]]:
    """A history of seven snapshots and a branch that is not pushed, all in a folder with a space in its name."""
    path = Path(tempfile.mkdtemp(prefix="kept ", dir=scratch))
    copy_tree(first_night.path, path / "own")
    clone = Clone(path / "own", {k: v for k, v in first_night.env.items() if k != "DATABASE_URL"})
    shutil.rmtree(clone.path / ".git")
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


def commit(clone: Clone, message: str) -> str:
    return clone.run("git", "log", "--all", "--format=%H", f"--grep=^{message}$").stdout.strip()


def say(clone: Clone, *arguments: str, ok: bool = True) -> str:
    done = clone.run("python", "-m", "commands.prune", *arguments, ok=ok)
    return done.stdout + done.stderr


def rows(said: str) -> dict[str, str]:
    """Of each commit that the table has, whether it is kept and why."""
    return dict(re.findall(r"^prune: \d{4}-\d\d-\d\d  (\w{7})  (.*)$", said, re.M))


def test_what_is_kept_stays_and_all_else_goes(kept: tuple[Clone, Path], s3: S3, bucket: str) -> None:
    own, folder = kept
    cache = own.path / ".dvc/cache"
    own.run("dvc", "remote", "add", "cloud", f"s3://{bucket}/events")
    own.run("dvc", "remote", "modify", "cloud", "endpointurl", s3.url)
    own.commit("another remote")
    own.run("dvc", "push", "-q", "--all-commits", "-r", "cloud")
    pushed = in_bucket(s3, bucket)
    assert pushed
    for root in (cache, folder):
        strange = root / "files/md5/00" / ("0" * 30)
        strange.parent.mkdir(parents=True, exist_ok=True)
        strange.write_text("another project's")
    before = [*objects(cache, folder)]
    names = {name: named(own, commit(own, name), cache) for _, name, *_ in SNAPSHOTS} | {
        "an idea": named(own, "idea", cache)
    }
    stay = {"july", "late", "last", "an idea"}
    goes = set.union(*(names[name] for name in names.keys() - stay)) - set.union(*(names[name] for name in stay))
    assert len(goes) > 4
    given = ("--keep-daily", "2", "--keep-monthly", "1", "--keep-tags")

    everything = files(own.path.parent)
    s3.forget_requests()
    said = say(own, *given)
    assert files(own.path.parent) == everything
    assert s3.requests("DELETE") + s3.requests("POST") == []
    table = rows(said)
    short = {name: commit(own, name)[:7] for name in names}
    assert list(table) == sorted(table, key=list(table).index)
    assert {name for name in names if table[short[name]].startswith("kept")} == stay
    assert table[short["last"]] == "kept   branch main, day 2025-10-23, month 2025-10"
    assert table[short["late"]] == "kept   day 2025-10-22"
    assert table[short["july"]] == "kept   tag study-1"
    assert table[short["an idea"]] == "kept   branch idea"
    assert table[short["june"]].startswith("goes   2 files, 0.0 MB")
    assert f"prune: cache: {len(goes)} of {len(before[0])} files" in said
    assert "1 file of no version that Git knows, not touched" in said
    assert "dry run, nothing was deleted; next: python -m commands.prune --keep-daily 2 --keep-monthly 1" in said

    said = say(own, *given, "--yes")
    assert objects(cache, folder) == [some - goes for some in before]
    assert in_bucket(s3, bucket) == pushed - goes
    assert "proof: all files of 4 kept snapshots are where they were: " in said
    assert "nothing to delete" in say(own, *given, "--yes")

    other = copy_of(own, "elsewhere")
    configure(other, "url", str(folder))
    for name in stay:
        other.run("git", "checkout", "-q", commit(own, name))
        other.run("dvc", "pull", "-q")
        one, two = ((other.path / DAY.format(n)).read_text() for n in (6, 7))
        assert ("2025", name, one, two)[1:] in [row[1:] for row in (*SNAPSHOTS, ("", "an idea", "8", "two"))]
    gone = commit(own, "june")
    other.run("git", "checkout", "-q", gone)
    assert "missing" in other.fails("dvc", "pull").lower()
    for words in (("commands.query", "SELECT 1", "--at", gone), ("commands.diff", gone, "HEAD")):
        assert "neither in the cache nor in the remote" in own.fails("python", "-m", *words)
    listed = own.run("python", "-m", "commands.versions", "--all").stdout
    assert re.search(rf"^{gone[:7]} .* gone$", listed, re.M)
    assert re.search(rf"^{short['july']} .* cache, remote  study-1$", listed, re.M)
