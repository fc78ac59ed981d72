"""The project's Git repository: what was committed, and the branch that it follows elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import PipelineError
from pipeline.core.progress import count

# A commit of a night begins with this word, by which a later one knows its own.
SNAPSHOT = "Snapshot"

# What a night commits, and nothing else that somebody has staged.
OWN = ("watermark.yaml", "dvc.lock", "data/reports")


class GitError(PipelineError):
    """Git refused; the branch is as it was."""


class Rejected(GitError):
    """The other side refused a push: somebody else has pushed meanwhile, or it has rules of its own."""


def git(*arguments: str, timeout: float | None = None) -> str:
    """What a command of Git prints. Raises GitError with Git's words."""
    # Nobody is there to type a password in a night.
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise _refused(arguments[0], f"no answer within {timeout:.0f} s") from None
    if done.returncode:
        raise _refused(arguments[0], " ".join(done.stderr.split())[:300])
    return done.stdout


def _refused(command: str, said: str) -> GitError:
    return GitError(
        f"git {command}: {said}",
        where=str(Path.cwd()),
        expected="a Git repository with the project's history",
        next_step="git status",
    )


def head() -> str | None:
    """The commit that is checked out; None where there is none."""
    try:
        return git("rev-parse", "--short", "HEAD").strip()
    except PipelineError:
        return None


def changed(*paths: str) -> list[str]:
    """Files below these paths that are not as they are committed."""
    listed = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths).split("\0")
    return [entry[3:] for entry in listed if entry]


class Upstream(NamedTuple):
    """The branch that the current one follows: origin/main, of the remote origin, which calls it refs/heads/main."""

    name: str
    remote: str
    ref: str


def upstream() -> Upstream:
    """Raises GitError that says what a night needs: a branch, its upstream, and a name for commits."""
    branch = git("rev-parse", "--abbrev-ref", "HEAD").strip()
    if branch == "HEAD":
        raise _unfit("no branch is checked out (detached HEAD)", "git switch main")
    try:
        git("var", "GIT_COMMITTER_IDENT")
    except GitError:
        command = 'git config user.name "Night" && git config user.email night@example.org'
        raise _unfit("Git knows no name for commits", command) from None
    try:
        name = git("rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}").strip()
    except GitError:
        raise _unfit(f"the branch {branch} follows no other", f"git push --set-upstream origin {branch}") from None
    remote, ref = (git("config", f"branch.{branch}.{key}").strip() for key in ("remote", "merge"))
    return Upstream(name, remote, ref)


def _unfit(what: str, next_step: str) -> GitError:
    return GitError(what, where=str(Path.cwd()), expected="a branch that can be pushed", next_step=next_step)


def fetch(follows: Upstream, timeout: float) -> int:
    """How many commits others have pushed that the branch does not have."""
    git("fetch", "--quiet", follows.remote, timeout=timeout)
    return int(git("rev-list", "--count", f"HEAD..{follows.name}"))


def catch_up(follows: Upstream, new: int) -> str:
    """Put the branch on top of the `new` commits that were fetched; what was done, in words.

    Unpushed snapshots are dropped, since their data may be nowhere else: the night makes its own. Other people's
    unpushed commits are put on top. Raises GitError, with everything as it was, where they conflict.
    """
    ahead = git("rev-list", "--reverse", f"{follows.name}..HEAD").split()
    others = [commit for commit in ahead if not _is_ours(commit)]
    dropped = len(ahead) - len(others)
    if not (new or dropped):
        return "nothing new"
    before = git("rev-parse", "HEAD").strip()
    if changed(*OWN):  # what an interrupted night left
        restore()
    git("reset", "--quiet", "--keep", follows.name)
    try:
        if others:
            git("cherry-pick", "--allow-empty", *others)
    except GitError:
        git("cherry-pick", "--abort")
        git("reset", "--quiet", "--keep", before)
        raise GitError(
            f"commits that are not pushed conflict with {follows.name}",
            where=", ".join(commit[:7] for commit in others),
            expected="commits that can be put on top of what others have pushed",
            next_step=f"git rebase {follows.name}, then the same command again",
        ) from None
    said = [f"on top of {count(new, 'commit')} of {follows.name}"] if new else []
    said += [f"{count(dropped, 'unpushed snapshot')} dropped"] if dropped else []
    said += [f"{count(len(others), 'unpushed commit')} kept"] if others else []
    return ", ".join(said)


def _is_ours(commit: str) -> bool:
    """Whether a night made this commit: by its subject, and because it has nothing but the night's own paths."""
    subject, _, files = git("show", "--format=%s", "--name-only", "--relative", commit).partition("\n")
    named = re.fullmatch(rf"{SNAPSHOT} \d{{4}}-\d\d-\d\d: .*", subject)
    return bool(named) and all(file.startswith(OWN) for file in files.split("\n") if file)


def commit(subject: str) -> bool:
    """Commit the night's own paths, whatever else is staged. False where nothing changed."""
    there = [path for path in OWN if Path(path).exists()]
    if not changed(*there):
        return False
    git("add", "--", *there)
    git("commit", "--quiet", "-m", subject, "--", *there)
    return True


def restore() -> None:
    """Put the night's own paths back to the last commit, and remove those that it has not."""
    git("reset", "--quiet", "--", *OWN)
    if committed := [path for path in OWN if git("ls-tree", "--name-only", "HEAD", path)]:
        git("checkout", "HEAD", "--", *committed)
    git("clean", "--quiet", "-fd", "--", *OWN)


def unpushed(follows: Upstream, *paths: str) -> list[str]:
    """Commits that the other side has not, newest first; with `paths` those that changed them."""
    return git("log", "--format=%h", f"{follows.name}..HEAD", *(["--", *paths] if paths else [])).split()


def push(follows: Upstream, timeout: float) -> None:
    """Raises Rejected where the other side refuses."""
    try:
        git("push", "--quiet", follows.remote, f"HEAD:{follows.ref}", timeout=timeout)
    except GitError as error:
        if any(word in error.what for word in ("fetch first", "non-fast-forward", "cannot lock ref", "rejected")):
            raise Rejected(
                error.what,
                where=follows.name,
                expected="a branch that takes pushes of this user",
                next_step="see what the other side says, then the same command again",
            ) from None
        raise
