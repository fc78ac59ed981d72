"""The project's Git repository: what was committed, and the branch that it follows elsewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import ParamsError, PipelineError
from pipeline.core.progress import count

# A commit of a night begins with this word, by which a later one knows its own.
SNAPSHOT = "Snapshot"

# What a night commits, and nothing else that somebody has staged.
OWN = ("watermark.yaml", "dvc.lock", "data/reports")


# Characters of what Git says.
LONGEST = 600


class GitError(PipelineError):
    """Git refused; the branch is as it was."""


class Rejected(GitError):
    """The other side refused a push: somebody else has pushed meanwhile, or it has rules of its own."""


def git(*arguments: str, timeout: float | None = None, at: Path | None = None) -> str:
    """What a command of Git prints, in the folder `at` or the current one. Raises GitError with Git's words."""
    process = subprocess.Popen(
        ["git", *arguments],
        cwd=at,
        # Nobody is there to type a password in a night.
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # hooks, too, which would keep the pipes open
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise _refused(arguments[0], f"no end within {timeout:.0f} s") from None
        raise
    if process.returncode:
        raise _refused(arguments[0], said)
    return printed


def _refused(command: str, said: str) -> GitError:
    # The last words are those of Git, after what hooks print.
    words = " ".join(said.split())
    return GitError(
        f"git {command}: {'... ' + words[-LONGEST:] if len(words) > LONGEST else words}",
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


def commit_of(revision: str) -> str:
    """The commit that a commit, branch or tag names. Raises ParamsError where it names none."""
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except GitError:
        raise ParamsError(
            f"{revision} is no commit",
            where=str(Path.cwd()),
            expected="a commit, a branch or a tag",
            next_step="python -m commands.versions --all, which lists the snapshots",
        ) from None


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
    try:
        branch = git("symbolic-ref", "--quiet", "HEAD").strip().removeprefix("refs/heads/")
    except GitError:
        raise _unfit("no branch is checked out (detached HEAD)", "git switch main") from None
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


def ours(follows: Upstream) -> list[str]:
    """Unpushed snapshots: commits that a night made."""
    return [commit for commit in _ahead(follows) if _is_ours(commit)]


def catch_up(follows: Upstream, new: int, timeout: float) -> str:
    """Put the branch on top of the `new` commits that were fetched; what was done, in words.

    Unpushed snapshots are dropped, since their data may be nowhere else: the night makes its own. Other people's
    unpushed commits are put on top, in a work tree of their own: the branch moves in one step, or stays as it was.
    Raises GitError where they conflict.
    """
    ahead = _ahead(follows)
    others = [commit for commit in ahead if not _is_ours(commit)]
    dropped = len(ahead) - len(others)
    if not (new or dropped):
        return "nothing new"
    _move(_on_top(follows, others, timeout) if others else follows.name)
    said = [f"on top of {count(new, 'commit')} of {follows.name}"] if new else []
    said += [f"{count(dropped, 'unpushed snapshot')} dropped"] if dropped else []
    said += [f"{count(len(others), 'unpushed commit')} kept"] if others else []
    return ", ".join(said)


def _ahead(follows: Upstream) -> list[str]:
    return git("rev-list", "--reverse", f"{follows.name}..HEAD").split()


def _on_top(follows: Upstream, commits: list[str], timeout: float) -> str:
    """The newest of copies of `commits` on top of the upstream. Raises GitError where they conflict or merge."""
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), follows.name)
        try:
            git("cherry-pick", "--allow-empty", *commits, timeout=timeout, at=tree)
            return git("rev-parse", "HEAD", at=tree).strip()
        except GitError as error:
            raise GitError(
                f"commits that are not pushed conflict with {follows.name}, or merge it",
                where=f"{', '.join(commit[:7] for commit in commits)}: {error.what}",
                expected="commits that can be put on top of what others have pushed",
                next_step=f"git rebase {follows.name}, then the same command again",
            ) from None
        finally:
            git("worktree", "remove", "--force", str(tree))


def _move(to: str) -> None:
    """Move the branch, with what an interrupted night left put back before. Other people's edits stay, or stop it."""
    for operation in ("CHERRY_PICK_HEAD", "MERGE_HEAD", "rebase-merge", "rebase-apply"):
        if Path(git("rev-parse", "--git-path", operation).strip()).exists():
            raise _unfit(f"somebody is in the middle of something: {operation}", "git status, and end it")
    changed(".")  # also refreshes what Git knows of the files' times
    left = {path: path.read_bytes() for name in OWN for path in files_in(Path(name))}
    restore()
    try:
        git("reset", "--quiet", "--keep", to)
    except GitError:
        for path, content in left.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        raise


def files_in(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def _is_ours(commit: str) -> bool:
    """Whether a night made this commit: by its subject, and because it has nothing but the night's own paths."""
    named = re.fullmatch(rf"{SNAPSHOT} \d{{4}}-\d\d-\d\d: .*", git("log", "-1", "--format=%s", commit).strip())
    files = _names(git("diff-tree", "--no-commit-id", "--root", "-r", "--name-only", "-z", commit))
    own = tuple(_prefix() + path for path in OWN)
    return bool(named) and bool(files) and all(file.startswith(own) for file in files)


def _names(listed: str) -> list[str]:
    return [name for name in listed.split("\0") if name]


def _prefix() -> str:
    """The project's folder in a larger repository, with a slash; else nothing."""
    return git("rev-parse", "--show-prefix").strip()


def commit(subject: str, timeout: float) -> bool:
    """Commit the night's own paths, whatever else is staged. False where nothing changed."""
    there = [path for path in OWN if Path(path).exists()]
    if not changed(*there):
        return False
    for path in there:
        if Path(path).is_symlink():
            raise _unfit(f"{path} is a link, and not what a night commits", f"rm {path} && git checkout -- {path}")
    git("add", "--", *there)
    meant = git("ls-files", "--stage", "--", *there)
    before = git("rev-parse", "HEAD").strip()
    git("commit", "--quiet", "-m", subject, "--", *there, timeout=timeout)
    _check_commit(before, meant, there)
    return True


def _check_commit(before: str, meant: str, paths: Sequence[str]) -> None:
    """Take the last commit back where it is not what was meant: a hook may alter files, or add some."""
    own = tuple(_prefix() + path for path in paths)
    names = _names(git("diff", "--name-only", "-z", before, "HEAD"))
    others = [name for name in names if not name.startswith(own)]
    if git("ls-files", "--stage", "--", *paths) == meant and not changed(*paths) and not others:
        return
    git("reset", "--quiet", "--soft", before)
    git("reset", "--quiet", "--", *paths)
    raise GitError(
        f"a hook altered what was committed{': ' + ', '.join(others) if others else ''}",
        where=git("rev-parse", "--git-path", "hooks").strip(),
        expected="hooks that leave watermark.yaml, dvc.lock and data/reports as they are",
        next_step="let the hook leave these out, then make night",
    )


def restore(*paths: str) -> None:
    """Put paths, all of the night's own where none are given, back to the last commit; remove what it has not."""
    paths = paths or OWN
    git("reset", "--quiet", "--", *paths)
    if committed := [path for path in paths if git("ls-tree", "--name-only", "HEAD", path)]:
        git("checkout", "HEAD", "--", *committed)
    git("clean", "--quiet", "-fd", "--", *paths)


def content(commit: str, path: str) -> str:
    return git("show", f"{commit}:./{path}")


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
