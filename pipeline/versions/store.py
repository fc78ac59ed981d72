"""Where versions are kept: the project's cache and its remotes, as they are configured."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from pipeline.core.errors import PipelineError
from pipeline.versions.place import PACKAGES, Place


@contextmanager
def project(alone: bool = False) -> Iterator[Repo]:
    """DVC's view of the project in the current folder. `alone`: with DVC's lock, as a run or a push has it."""
    try:
        repo = Repo(".")
    except DvcException as error:
        raise PipelineError(
            str(error), where=str(Path.cwd()), expected="the project's folder", next_step="cd to the project's folder"
        ) from None
    with repo, readable():
        if not alone:
            yield repo
            return
        busy = PipelineError(
            "another command of DVC works in this project",
            where=str(Path.cwd()),
            expected="no run, push or pull meanwhile: it could bring back, or use, what is changed here",
            next_step="the same command again when it has ended",
        )
        try:
            repo.lock.lock()
        except LockError:
            raise busy from None
        try:
            if stage_runs(repo):
                raise busy
            yield repo
        finally:
            repo.lock.unlock()


@contextmanager
def readable() -> Iterator[None]:
    """Turn what DVC says of its own files into a PipelineError."""
    try:
        yield
    except DvcException as error:
        raise PipelineError(
            " ".join(str(error).split())[:300],
            where="dvc.yaml, dvc.lock, .dvc/config",
            expected="files that DVC can read",
            next_step="git checkout -- dvc.yaml dvc.lock",
        ) from None


def stage_runs(repo: Repo) -> bool:
    """Whether a stage runs, here or in a copy for an experiment.

    Meanwhile DVC gives its lock away, and names the stage's files in another.
    """
    here = Path(str(repo.tmp_dir))
    return any(_in_use(file) for file in (here / "rwlock", *(here / "exps").rglob("rwlock")))


def _in_use(rwlock: Path) -> bool:
    try:
        held = json.loads(rwlock.read_text(encoding="utf-8"))
        readers = [one for entries in held.get("read", {}).values() for one in entries]
        return any(_lives(int(one["pid"])) for one in [*held.get("write", {}).values(), *readers])
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def versioned(repo: Repo) -> set[str]:
    """The outputs whose files DVC keeps; the others are in Git."""
    return {str(out) for out in repo.index.outs if out.use_cache}


def cache(repo: Repo) -> Place:
    odb = repo.cache.local
    return Place("cache", odb.fs, _root(odb.path), True)


def remote(repo: Repo, name: str | None = None) -> Place:
    """The remote of this name, or the default one. Raises PipelineError when it is not configured."""
    try:
        odb = repo.cloud.get_remote_odb(name, "search")
    except (NoRemoteError, DvcException) as error:
        raise PipelineError(
            "no remote is configured" if isinstance(error, NoRemoteError) else " ".join(str(error).split()),
            where=".dvc/config",
            expected="a default remote",
            next_step="make remote URL=s3://BUCKET/FOLDER, then dvc push",
        ) from None
    except ImportError as error:  # DVC's own words when the package for this kind of remote is not there
        raise PipelineError(
            " ".join(str(error).split()),
            where=f"{sys.prefix}, where Python's packages are",
            expected=f"the package of the remote: {', '.join(PACKAGES.values())}",
            next_step=f"{shlex.quote(sys.executable)} -m pip install {_package(error)}, then the same command again",
        ) from None
    url = repo.config["remote"][name or repo.config["core"]["remote"]]["url"]
    return Place(f"remote {url}", odb.fs, _root(odb.path), False)


def _package(error: ImportError) -> str:
    named = re.search(r"dvc-\w+", str(error))
    return named[0] if named else "-r requirements.txt"


def remotes(repo: Repo) -> list[Place]:
    """Every remote that is configured, the default one first. Raises what `remote` raises."""
    default = repo.config["core"].get("remote")
    others = [remote(repo, name) for name in repo.config["remote"] if name != default]
    return others if others and not default else [remote(repo), *others]


def _root(objects: str) -> str:
    """DVC keeps objects in ROOT/files/md5."""
    return objects.rstrip("/").rsplit("/", 2)[0]


def places(repo: Repo, local_only: bool, command: str) -> list[Place]:
    """The cache and, but for `local_only`, every remote. Raises PipelineError, which names `command`, where none is."""
    if not local_only and not repo.config["remote"]:
        raise PipelineError(
            "no remote is configured",
            where=".dvc/config",
            expected="the remotes where versions may be",
            next_step=f"where nothing was ever pushed: {command} --local-only; "
            "else make remote URL=s3://BUCKET/FOLDER, then the same command again",
        )
    return [cache(repo), *([] if local_only else remotes(repo))]


def nothing_there(place: Place, command: str) -> PipelineError:
    """What is said of a remote without a file: the same is seen of one that is gone."""
    return PipelineError(
        f"the {place.name} holds no file at all",
        where=".dvc/config",
        expected="a remote with versions in it; one that is gone, or whose folder is misspelt, looks the same",
        next_step="check dvc remote list; for one to which nothing was ever pushed: dvc remote remove NAME, or "
        f"{command} --local-only",
    )
