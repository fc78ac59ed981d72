"""The snapshots of this history, newest first: what each holds, whether it may be used, and where its files are.

A snapshot is the newest commit with that data/export. Its files are in the cache, in the remote, or gone, as what was
erased or pruned is: in neither.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from pipeline.core.days import ONE_DAY
from pipeline.core.errors import PipelineError
from pipeline.core.lock import outs
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import printable
from pipeline.versions import store
from pipeline.versions.git import GitError, git
from pipeline.versions.known import expand
from pipeline.versions.place import Place

LAST = 20

UNKNOWN = "?"


class Version(NamedTuple):
    """One snapshot. What a commit of long ago does not tell is None."""

    commit: str
    day: str  # of the commit
    tags: tuple[str, ...]
    md5: str  # of the list of its files
    window: str | None
    rows: int | None
    users: int | None
    verdict: str | None
    bytes: int | None


def read(paths: Paths, last: int, everywhere: bool) -> list[Version]:
    """The last snapshots of the current branch, or of all branches and tags, newest first."""
    found: dict[str, Version] = {}
    named = tags(paths)
    of = ["--all"] if everywhere else []
    log = git("log", "--full-history", "--date-order", "--format=%H %cs", *of, "--", str(paths.dvc_lock))
    for line in log.splitlines():
        commit, day = line.split()
        md5 = _md5(paths, commit)
        if md5 is None or md5 in found:
            continue
        if len(found) == last:
            break
        found[md5] = _version(paths, commit, day, md5)._replace(tags=tuple(named.get(md5, ())))
    return list(found.values())


def tags(paths: Paths) -> dict[str, list[str]]:
    """The tags of each snapshot, by the MD5 of the list of its files: whatever commit with it they are on."""
    found: dict[str, list[str]] = {}
    for name in git("tag", "--list").split("\n"):
        if name and (md5 := _md5(paths, f"refs/tags/{name}")):
            found.setdefault(md5, []).append(name)
    return found


def _md5(paths: Paths, commit: str) -> str | None:
    return outs(_content(commit, str(paths.dvc_lock)) or "").get(str(paths.export))


def _content(commit: str, path: str) -> str | None:
    try:
        return git("show", f"{commit}:./{path}")
    except GitError:
        return None


def _json(commit: str, path: str) -> Mapping[str, Any]:
    try:
        data = json.loads(_content(commit, path) or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _window(paths: Paths, commit: str) -> str | None:
    """The first day and the last one, in words."""
    try:
        begin, until = map(date.fromisoformat, _json(commit, str(paths.extract_report))["window"])
    except (KeyError, TypeError, ValueError):
        return None
    return f"{begin} to {until - ONE_DAY}"


def _version(paths: Paths, commit: str, day: str, md5: str) -> Version:
    quality, checks = (_json(commit, str(path)) for path in (paths.quality_report, paths.checks_report))
    by_day = any(entry.get("day", "whole") != "whole" for entry in quality.get("files", []))
    return Version(
        commit,
        day,
        (),
        md5,
        _window(paths, commit) if by_day else None,
        quality.get("rows"),
        quality.get("users"),
        checks.get("verdict"),
        quality.get("bytes"),
    )


def places(versions: Sequence[Version], paths: Paths) -> tuple[dict[str, str], str | None]:
    """For each snapshot, by the MD5 of its list, where its files are; and why the remote was not asked."""
    with store.project() as repo:
        cache = store.cache(repo)
        known: list[tuple[Place, dict[str, str]]] = [(cache, cache.objects())]
        why = None
        try:
            remote = store.remote(repo)
            known.append((remote, remote.objects()))
        except PipelineError as error:
            why = error.what
        return {one.md5: _where(one.md5, paths, known, why is None) for one in versions}, why


def _where(md5: str, paths: Paths, known: Sequence[tuple[Place, dict[str, str]]], all_asked: bool) -> str:
    listed = expand(str(paths.export), md5, known)
    if listed is None:
        return "gone" if all_asked else "not here"
    found = []
    for (_, objects), name in zip(known, ("cache", "remote"), strict=False):
        held = sum(own in objects for own in listed.values())
        if held:
            found.append(name if held == len(listed) else f"{held} of {len(listed)} in {name}")
    return ", ".join(found) or ("gone" if all_asked else "not here")


def table(versions: Sequence[Version], where: Mapping[str, str]) -> Iterator[str]:
    yield f"{'commit':<8} {'date':<10}  {'window':<24} {'rows':>11} {'users':>7}  {'quality':<7} {'size':>8}  files"
    for one in versions:
        rows, users = (UNKNOWN if number is None else f"{number:,}" for number in (one.rows, one.users))
        size = UNKNOWN if one.bytes is None else f"{one.bytes / 1e6:,.1f} MB"
        tags = f"  {printable(' '.join(one.tags))}" if one.tags else ""
        yield (
            f"{one.commit[:7]:<8} {one.day:<10}  {one.window or UNKNOWN:<24} {rows:>11} {users:>7}  "
            f"{one.verdict or UNKNOWN:<7} {size:>8}  {where[one.md5]}{tags}"
        )


def versions(paths: Paths, last: int, everywhere: bool) -> None:
    found = read(paths, last, everywhere)
    if not found:
        print("no commit has a snapshot; next: make repro, then git commit -a")
        return
    where, why = places(found, paths)
    for line in table(found, where):
        print(line)
    if why is not None:
        print(f"the remote was not asked: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.versions", description=__doc__)
    parser.add_argument("--last", type=int, default=LAST, metavar="N", help=f"snapshots to list; {LAST} by default")
    parser.add_argument("--all", action="store_true", help="of every branch and tag")
    args = parser.parse_args()
    versions(project(), max(1, args.last), args.all)


if __name__ == "__main__":
    run("versions", main)
