"""Which commits somebody still uses: the tips of branches, here and where they are pushed, stashes, experiments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.paths import Paths
from pipeline.versions.git import GitError, git

# Seconds for the other side to say which branches it has.
TIMEOUT = 60

HEADS, REMOTES, TAGS, STASH, EXPERIMENTS = "refs/heads/", "refs/remotes/", "refs/tags/", "refs/stash", "refs/exps/"


class Refs(NamedTuple):
    """Names and commits. `lines` are branches, whose older snapshots count by day; of `others` only the tip counts."""

    lines: dict[str, str]
    others: dict[str, str]
    tags: dict[str, str]


def check_whole() -> None:
    """Raise DataError where Git has only a part of the history: what is not known can't be kept."""
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise DataError(
            "this clone is shallow: it has only the last commits of the history",
            where=git("rev-parse", "--git-path", "shallow").strip(),
            expected="all commits, so that it is known which files are of which snapshot",
            next_step="git fetch --unshallow, then the same command again",
        )


def read(ask: bool) -> Refs:
    """All refs of this clone; with `ask` also those of the repositories that it is pushed to.

    Raises DataError where one of these has commits that this clone does not know, GitError where it does not answer.
    """
    lines = {"HEAD": git("rev-parse", "HEAD").strip()}
    others: dict[str, str] = {}
    tags: dict[str, str] = {}
    listed = "%(refname) %(objectname) %(objecttype) %(*objectname) %(*objecttype)"
    for line in git("for-each-ref", f"--format={listed}").splitlines():
        name, *found = line.split()
        commits = [commit for commit, kind in zip(found[::2], found[1::2], strict=True) if kind == "commit"]
        if not commits and _kind(f"{name}^{{commit}}"):  # a tag of a tag
            commits = [git("rev-parse", f"{name}^{{commit}}").strip()]
        if not commits:  # a tag may name any object
            continue
        if name.startswith(TAGS):
            tags[name.removeprefix(TAGS)] = commits[0]
        elif name.startswith((HEADS, REMOTES)):
            if name.endswith("/HEAD"):  # another name for one of them
                continue
            lines[name.removeprefix(HEADS).removeprefix(REMOTES)] = commits[0]
        else:
            others |= _with_older(name, commits[0])
    others |= {f"worktree {tree}": commit for tree, commit in _worktrees()}
    if ask:
        for remote in git("remote").split():
            elsewhere = _elsewhere(remote)
            lines |= {f"{remote}/{n.removeprefix(HEADS)}": c for n, c in elsewhere.items() if n.startswith(HEADS)}
            tags |= {n.removeprefix(TAGS): c for n, c in elsewhere.items() if n.startswith(TAGS)}
    return Refs(lines, others, tags)


def _with_older(name: str, commit: str) -> dict[str, str]:
    """The commit of a ref; of stashes and experiments that wait, which stand in its log, all, with what was staged."""
    short = name.removeprefix("refs/")
    found: dict[str, str] = {}
    if name == STASH or name.startswith(EXPERIMENTS):
        for number, line in enumerate(git("log", "--walk-reflogs", "--format=%H %P", name, "--").splitlines()):
            own, _, *more = [*line.split(), ""]
            found[f"{short}@{{{number}}}"] = own
            found |= {f"{short}@{{{number}}}^{n}": parent for n, parent in enumerate(more, 2) if parent}
    return found if commit in found.values() else found | {short: commit}


def _worktrees() -> list[tuple[Path, str]]:
    """Other checkouts of this repository, and the commit of each."""
    here = Path(git("rev-parse", "--show-toplevel").strip())
    found = []
    for entry in git("worktree", "list", "--porcelain").split("\n\n"):
        values = dict(line.partition(" ")[::2] for line in entry.splitlines())
        tree = Path(values.get("worktree", ""))
        if "HEAD" in values and set(values["HEAD"]) != {"0"} and tree != here:
            found.append((tree, values["HEAD"]))
    return found


def _elsewhere(remote: str) -> dict[str, str]:
    try:
        listed = git("ls-remote", "--quiet", "--heads", "--tags", remote, timeout=TIMEOUT)
    except GitError as error:
        raise GitError(
            f"{remote} does not say which branches it has: {error.what}",
            where=".git/config",
            expected="an answer, because what others pushed is kept, too",
            next_step=f"git ls-remote {remote}; one that is gone: git remote remove {remote}",
        ) from None
    found: dict[str, str] = {}
    for line in listed.splitlines():
        commit, name = line.split("\t")
        found[name.removesuffix("^{}")] = commit  # of a tag the commit, which comes second
    unknown = [name for name, commit in found.items() if _kind(commit) is None]
    if unknown:
        raise DataError(
            f"{remote} has what this clone does not know: {', '.join(unknown[:3])}",
            where=remote,
            expected="all that was pushed, because what others use is kept, too",
            next_step=f"git fetch --tags {remote} '+{HEADS}*:{REMOTES}{remote}/*', then the same command again",
        )
    return {name: commit for name, commit in found.items() if _kind(commit) == "commit"}


def _kind(name: str) -> str | None:
    """What Git's object of this name is; None where this clone has none."""
    try:
        return git("cat-file", "-t", name).strip()
    except GitError:
        return None


def workspace(paths: Paths) -> dict[str, str]:
    """What DVC reads in the workspace, in copies for experiments and in other checkouts: the texts, by their paths."""
    listed = ("ls-files", "--cached", "--others", "--exclude-standard", "--", "*dvc.lock", "*.dvc")
    names = git("-c", "core.quotepath=true", *listed).splitlines()
    files = [Path(unquoted(name)) for name in names] + [paths.dvc_lock, *paths.experiments.rglob("dvc.lock")]
    prefix = git("rev-parse", "--show-prefix").strip()
    files += [tree / prefix / paths.dvc_lock for tree, _ in _worktrees()]
    return {str(file): file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()}


def unquoted(name: str) -> str:
    """A path as Git prints it with core.quotepath, where all that is not plain ASCII is escaped, byte by byte."""
    if not name.startswith('"'):
        return name
    return os.fsdecode(name[1:-1].encode().decode("unicode_escape").encode("latin-1"))


def staged(paths: Paths) -> list[str]:
    """dvc.lock as it is staged, by its id: here and in other checkouts, in a merge that of each side."""
    prefix = git("rev-parse", "--show-prefix").strip()
    places = [None, *(tree / prefix for tree, _ in _worktrees() if (tree / prefix).is_dir())]
    listed = [git("ls-files", "--stage", "--", str(paths.dvc_lock), at=place) for place in places]
    return [line.split()[1] for text in listed for line in text.splitlines()]
