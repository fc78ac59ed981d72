"""Where versions are kept: Git names them, DVC's cache and remote hold their files as objects named by their MD5."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from pipeline.core.errors import PipelineError
from pipeline.files.layout import md5
from pipeline.versions.git import git

# What DVC writes below a cache or remote: objects, and the cache of runs. Anything else there is not ours.
FOLDERS = ("files", "runs")


@dataclass(frozen=True)
class Place:
    """A cache or a remote: files below `root` of `fs`, a DVC file system."""

    name: str
    fs: Any
    root: str
    local: bool

    def files(self) -> list[str]:
        """Every file that DVC keeps here, sorted. Raises PipelineError when the place can't be reached."""
        with explained(self.name):
            found: list[str] = []
            for folder in FOLDERS:
                # Not asked before whether it exists: some stores say no of what is only the begin of names.
                with suppress(FileNotFoundError):
                    found += self.fs.find(self.fs.join(self.root, folder))
            if not found and not self.root.startswith("/"):
                self.fs.ls(self.root.split("/")[0])  # an empty bucket is no error, one that does not exist is
            return sorted(found)

    def objects(self) -> dict[str, str]:
        """For each object its MD5 (with .dir for the list of a folder) and the file that holds it."""
        parts = {file: file.split("/")[-3:] for file in self.files()}
        return {a + b: file for file, (kind, a, b) in parts.items() if kind == "md5" and len(a) == 2}

    @contextmanager
    def opened(self, file: str) -> Iterator[Path]:
        """The file as one on this machine: itself, or a copy for the length of the block."""
        if self.local:
            yield Path(file)
            return
        with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder:
            copy = Path(folder) / "object"
            with explained(self.name):
                self.fs.get_file(file, str(copy))
            yield copy

    def delete(self, file: str) -> None:
        with explained(self.name):
            self.fs.remove(file)

    def put(self, file: Path, to: str) -> None:
        with explained(self.name):
            self.fs.put_file(str(file), to)

    def told(self) -> dict[str, tuple[int, str]]:
        """What the store says of each file without its being read: its size, and its MD5 where it has that."""
        if self.fs.protocol != "s3":
            return {file: (Path(file).stat().st_size, md5(Path(file))) for file in self.files()}
        with explained(self.name):
            self.fs.fs.invalidate_cache()
            listed = self.fs.fs.find(self.fs.join(self.root, "files"), detail=True)
        return {file: (int(known["size"]), str(known.get("ETag", "")).strip('"')) for file, known in listed.items()}

    def unfinished(self) -> list[tuple[str, str]]:
        """Uploads to S3 that were broken off in a large file: its name, and what S3 calls the upload.

        Their parts stay until somebody aborts them, and are in no list of files.
        """
        if self.fs.protocol != "s3":
            return []
        bucket, _, prefix = self.root.partition("/")
        with explained(self.name):
            listed = self.fs.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/files/")
        return [(upload["Key"], upload["UploadId"]) for upload in listed.get("Uploads", [])]

    def abort(self, key: str, upload: str) -> None:
        bucket = self.root.partition("/")[0]
        with explained(self.name):
            self.fs.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)


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
    """Whether a stage runs. Meanwhile DVC gives its lock away, and names the stage's files in another."""
    try:
        held = json.loads(Path(str(repo.tmp_dir), "rwlock").read_text(encoding="utf-8"))
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
    url = repo.config["remote"][name or repo.config["core"]["remote"]]["url"]
    return Place(f"remote {url}", odb.fs, _root(odb.path), False)


def remotes(repo: Repo) -> list[Place]:
    """Every remote that is configured, the default one first. Raises what `remote` raises."""
    default = repo.config["core"].get("remote")
    others = [remote(repo, name) for name in repo.config["remote"] if name != default]
    return others if others and not default else [remote(repo), *others]


def _root(objects: str) -> str:
    """DVC keeps objects in ROOT/files/md5."""
    return objects.rstrip("/").rsplit("/", 2)[0]


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the way to a remote raises into a PipelineError."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # botocore's, aiohttp's, the system's: no common base
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise PipelineError(
            f"can't read or write the {name}: {said}",
            where=".dvc/config; credentials from the environment or ~/.aws",
            expected="a bucket that exists, that answers, and whose credentials may list, read and write it",
            next_step="check the bucket and its address (dvc remote list, make remote URL=... ENDPOINT=...), "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE); "
            "nothing was lost, the same command goes on where this one stopped",
        ) from None


def expand(path: str, md5: str, places: Sequence[tuple[Place, dict[str, str]]]) -> dict[str, str] | None:
    """The files of an output and their MD5s; None when its list is in none of the places, or damaged."""
    if not md5.endswith(".dir"):
        return {path: md5}
    for place, objects in places:
        if md5 in objects:
            try:
                with place.opened(objects[md5]) as file:
                    listed = json.loads(file.read_text(encoding="utf-8"))
                return {f"{path}/{entry['relpath']}": entry["md5"] for entry in listed}
            except (ValueError, TypeError, KeyError):
                continue
    return None


def history() -> dict[str, tuple[str, str]]:
    """Every commit that changed dvc.lock: its day, and the lock's text.

    Of every branch, tag, stash and experiment, and those that only Git's reflog still knows.
    """
    found = {}
    for line in git("log", "--all", "--reflog", "--full-history", "--format=%H %cs", "--", "dvc.lock").splitlines():
        commit, day = line.split()
        if git("ls-tree", "--name-only", commit, "dvc.lock"):
            found[commit] = day, git("show", f"{commit}:./dvc.lock")  # of this folder, which may be one in a repository
    return found
