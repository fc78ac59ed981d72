"""What Git knows: every version of dvc.lock that was committed, and the objects that it names."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import cache
from typing import NamedTuple, TypeVar

import yaml

from pipeline.core.errors import DataError
from pipeline.core.lock import outs
from pipeline.files.layout import md5 as md5_of
from pipeline.versions.git import git
from pipeline.versions.place import Place

# Files fetched, or deleted, side by side.
THREADS = 8

T = TypeVar("T")
R = TypeVar("R")

# The places that were looked through, each with its objects: what Place.objects gives.
Held = Sequence[tuple[Place, Mapping[str, str]]]

# Of outputs, each its path and its MD5, the files and their MD5s; None where the list is nowhere.
Lists = Mapping[tuple[str, str], Mapping[str, str] | None]


class Committed(NamedTuple):
    """dvc.lock in a commit: the UTC day of the commit, Git's id of the content, and the content."""

    day: date
    blob: str
    lock: str


def history() -> dict[str, Committed]:
    """Every commit that changed dvc.lock, newest first.

    Of every branch, tag, stash and experiment, and those that only Git's reflog still knows.
    """
    locks: dict[str, str] = {}
    found = {}
    log = git("log", "--all", "--reflog", "--full-history", "--date-order", "--format=%H %ct", "--", "dvc.lock")
    for line in log.splitlines():
        commit, seconds = line.split()
        if blob := blob_of(commit, "dvc.lock"):
            if blob not in locks:
                locks[blob] = text_of(blob, f"{commit[:10]}:./dvc.lock")
            found[commit] = Committed(datetime.fromtimestamp(int(seconds), UTC).date(), blob, locks[blob])
    return found


def blob_of(commit: str, path: str) -> str | None:
    """Git's id of a file of this folder, which may be one in a repository; None where the commit has no such file."""
    listed = git("ls-tree", commit, path)
    return listed.split()[2] if listed else None


def text_of(blob: str, where: str) -> str:
    """The content of a file of Git. Raises DataError where it is no text."""
    try:
        return git("cat-file", "blob", blob)
    except UnicodeDecodeError:
        raise unreadable(where) from None


def unreadable(where: str) -> DataError:
    return DataError(
        f"{where} can't be read",
        where=where,
        expected="a file as DVC writes it, so that it is known which files its snapshot has",
        next_step=f"git show {where}, which says what it is"
        if ":" in where
        else f"git status; git checkout -- {where} brings back what was committed",
    )


def outs_in(lock: str, where: str) -> dict[str, str]:
    """The path and MD5 of each output. Raises DataError where `where` is no dvc.lock: cut off, or in conflict."""
    found = _outs(lock)
    if found is None:
        raise unreadable(where)
    return found


@cache
def _outs(lock: str) -> dict[str, str] | None:
    """Kept, because reading YAML takes longer than all else, and versions are looked at again."""
    try:
        found = outs(lock)
        return found if found or isinstance(yaml.safe_load(lock)["stages"], dict) else None
    except (yaml.YAMLError, AttributeError, TypeError, KeyError):
        return None


def expand(path: str, md5: str, places: Held) -> dict[str, str] | None:
    """The files of an output and their MD5s; None when its list is in none of the places, or whole in none."""
    if not md5.endswith(".dir"):
        return {path: md5}
    for place, objects in places:
        if md5 in objects:
            try:
                with place.opened(objects[md5]) as file:
                    if md5_of(file) != md5.removesuffix(".dir"):
                        continue
                    listed = json.loads(file.read_text(encoding="utf-8"))
                return {f"{path}/{entry['relpath']}": entry["md5"] for entry in listed}
            except (ValueError, TypeError, KeyError):
                continue
    return None


def lists(outputs: Iterable[tuple[str, str]], places: Held) -> Lists:
    """The files of each of these outputs, each list read once."""
    wanted = list(dict.fromkeys(outputs))
    return dict(zip(wanted, side_by_side(lambda out: expand(out[0], out[1], places), wanted), strict=True))


def side_by_side(work: Callable[[T], R], some: Iterable[T]) -> Generator[R]:
    """What `work` gives of each, in order. After an error, or a signal, nothing more is begun."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield from pool.map(work, some)
    finally:
        pool.shutdown(cancel_futures=True)
