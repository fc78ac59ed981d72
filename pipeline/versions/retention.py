"""Which snapshots are kept, and why: by day, by month, by tag, and all that somebody uses."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import date
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.core.paths import Paths
from pipeline.core.progress import printable
from pipeline.versions import refs
from pipeline.versions.git import git
from pipeline.versions.known import Committed, blob_of, history, outs_in, text_of
from pipeline.versions.refs import Refs

# What may be the MD5 of an object. Wherever it stands in a file that is kept, the object is.
MD5 = re.compile(r"\b[0-9a-f]{32}(?:\.dir)?\b")


class Rules(NamedTuple):
    """The newest snapshot of each of the latest `daily` UTC days, and `monthly` months, that have one; of each tag."""

    daily: int = 0
    monthly: int = 0
    tags: bool = False


class Kept(NamedTuple):
    """`why` has the reasons for each dvc.lock that is kept, by Git's id of it; `texts` all files that name objects."""

    versions: dict[str, Committed]
    commits: dict[str, str]  # of each dvc.lock the newest commit with it: of those on a branch, if any is
    why: dict[str, list[str]]
    texts: dict[str, str]
    tags: dict[str, list[str]]  # of each dvc.lock, whether it is kept or not

    def named(self) -> set[str]:
        """The MD5s of all that is kept, the files that the lists of folders name left out."""
        return {md5 for text in self.texts.values() for md5 in MD5.findall(text)}


def read(paths: Paths, rules: Rules, readable: Collection[str], ask: bool) -> Kept:
    """What is kept now. With `ask` what was pushed counts, too.

    `readable` are the snapshots whose files are there, by Git's id of their dvc.lock: one without files does not stand
    for its day.

    Raises DataError where a dvc.lock can't be read, GitError where Git's remote does not answer.
    """
    found, versions = refs.read(ask), history()
    lock = str(paths.dvc_lock)
    for commit, version in versions.items():
        outs_in(version.lock, f"{commit[:10]}:./{lock}")
    texts = refs.workspace(paths)
    for name, text in texts.items():
        if PurePosixPath(name).name == lock:
            outs_in(text, name)
    why: dict[str, list[str]] = {}
    lines = [set(line) & versions.keys() for line in map(_line, dict.fromkeys(found.lines.values()))]
    for commit, reason in [*_used(found, rules), *_latest(versions, lines, rules, readable)]:
        if blob := blob_of(commit, lock):
            _say(why, blob, reason)
        texts |= _in_tree(commit, lock)
    if lock in texts:
        why.setdefault(git("hash-object", lock).strip(), ["workspace"])
    for staged in refs.staged(paths):
        why.setdefault(staged, ["staged"])
        texts[staged] = text_of(staged, f":{lock}")
    tags: dict[str, list[str]] = {}
    for name, commit in found.tags.items():
        if blob := blob_of(commit, lock):
            tags.setdefault(blob, []).append(name)
    commits: dict[str, str] = {}
    for commit in [*(commit for commit in versions if any(commit in line for line in lines)), *versions]:
        commits.setdefault(versions[commit].blob, commit)
    return Kept(versions, commits, why, texts, tags)


def _say(why: dict[str, list[str]], blob: str, reason: str) -> None:
    said = why.setdefault(blob, [])
    if reason not in said:
        said.append(reason)


def _used(found: Refs, rules: Rules) -> Iterator[tuple[str, str]]:
    """Every commit that is kept whatever its day is, and why."""
    for name, commit in found.lines.items():
        if name != "HEAD" or list(found.lines.values()).count(commit) == 1:
            yield commit, name if name == "HEAD" else f"branch {name}"
    for name, commit in found.others.items():
        yield commit, name
    if rules.tags:
        for name, commit in found.tags.items():
            yield commit, f"tag {name}"


def _latest(
    versions: dict[str, Committed], lines: list[set[str]], rules: Rules, readable: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The newest snapshot of each of the latest days and months, of every branch: one does not stand for another."""
    days = {versions[commit].day for line in lines for commit in line}
    for number, of, word in ((rules.daily, _day, "day"), (rules.monthly, _month, "month")):
        chosen = set(_newest({of(day) for day in days}, number))
        for line in lines:
            seen = set()
            for commit in versions:
                own = of(versions[commit].day)
                if commit in line and own in chosen and own not in seen:
                    if versions[commit].blob in readable:
                        seen.add(own)
                    yield commit, f"{word} {own}"


def _line(tip: str) -> list[str]:
    return git("rev-list", "--full-history", "--date-order", tip, "--", "dvc.lock").split()


def _newest(names: Iterable[str], number: int) -> list[str]:
    return sorted(names, reverse=True)[:number]


def _day(day: date) -> str:
    return day.isoformat()


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _in_tree(commit: str, lock: str) -> dict[str, str]:
    """Every dvc.lock and .dvc file of a commit, wherever in the repository it stands. Raises DataError."""
    found = {}
    for entry in git("-c", "core.quotepath=true", "ls-tree", "-r", "--full-tree", commit).splitlines():
        about, _, name = entry.partition("\t")
        path = printable(refs.unquoted(name))
        if PurePosixPath(path).name == lock or path.endswith(".dvc"):
            blob = about.split()[2]
            if blob not in _read:
                text = text_of(blob, f"{commit[:10]}:{path}")
                if not path.endswith(".dvc"):
                    outs_in(text, f"{commit[:10]}:{path}")
                _read[blob] = text
            found[blob] = _read[blob]
    return found


# Files of Git never change.
_read: dict[str, str] = {}
