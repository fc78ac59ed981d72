"""Snapshots of any commit: which files each has, by table and day, and those files, from DVC's cache or a remote.

DVC lists the files of data/export in an object of its own, whose MD5 stands in dvc.lock, so this also works for commits
whose reports say nothing of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from pipeline.core.days import parse_part
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.lock import outs
from pipeline.core.paths import Paths
from pipeline.core.progress import count
from pipeline.core.reports import read_report
from pipeline.files import manifest
from pipeline.files.layout import day_path, days_in, md5
from pipeline.versions import store
from pipeline.versions.git import GitError, commit_of, git
from pipeline.versions.place import explained

# The name of what lies in the project's folder, whether it was committed or not, as DVC calls it.
WORKSPACE = "workspace"

FILE = re.compile(
    r"(?P<table>[\w-]+)/(event_date=(?P<day>\d{4}-\d\d-\d\d|whole)|event_month=(?P<month>\d{4}-\d\d))/part-0\.parquet"
)

# Files read side by side; hashing leaves Python's lock alone.
THREADS = 2


class Snapshot(NamedTuple):
    """`files` has the MD5 of each file of data/export, by table and day. `commit` is "" for the workspace."""

    name: str
    commit: str
    files: Mapping[str, Mapping[date, str]]

    @property
    def title(self) -> str:
        """The name as it was asked for, and the commit where that is not the name."""
        named = self.name == WORKSPACE or self.commit.startswith(self.name)
        return self.name if named else f"{self.name} ({self.commit[:7]})"


def of(repo: Repo, paths: Paths, revision: str) -> Snapshot:
    """The snapshot of a commit, branch or tag, or of the workspace. Raises ParamsError or DataError where none is."""
    if revision == WORKSPACE:
        return Snapshot(WORKSPACE, "", _of_workspace(paths))
    return Snapshot(revision, commit_of(revision), _by_table(listed(repo, paths, revision, paths.export)))


def listed(repo: Repo, paths: Paths, revision: str, folder: Path) -> dict[str, str]:
    """The files of an output of a commit, by their paths in it, each with its MD5. Raises what `of` raises."""
    commit = commit_of(revision)
    try:
        known = outs(git("show", f"{commit}:./{paths.dvc_lock}"))[str(folder)]
    except (GitError, KeyError):
        raise ParamsError(
            f"{revision} has no snapshot: its {paths.dvc_lock} names no {folder}",
            where=commit,
            expected="a commit with a snapshot",
            next_step="git log --oneline -- dvc.lock, which lists the snapshots",
        ) from None
    entries = json.loads(bring(repo, revision, [known])[known].read_text(encoding="utf-8"))
    return {entry["relpath"]: entry["md5"] for entry in entries}


def _of_workspace(paths: Paths) -> dict[str, dict[date, str]]:
    """Raises DataError where there is none, or its files are not those that export wrote."""
    tables = sorted(path for path in paths.export.iterdir() if path.is_dir()) if paths.export.is_dir() else []
    files = {
        str(day_path(folder, day).relative_to(paths.export)): day_path(folder, day)
        for folder in tables
        for day in days_in(folder)
    }
    if not files:
        raise DataError(
            f"there is no snapshot in {paths.export}",
            where=str(paths.export),
            expected="what the export stage makes",
            next_step="make repro, or dvc pull",
        )
    listed = manifest.parse(read_report(paths.quality_report, "files")["files"])
    manifest.check(paths.quality_report, paths.export, listed)
    with ThreadPoolExecutor(THREADS) as pool:
        return _by_table(dict(zip(files, pool.map(md5, files.values()), strict=True)))


def _by_table(files: Mapping[str, str]) -> dict[str, dict[date, str]]:
    found: dict[str, dict[date, str]] = {}
    for path, own in sorted(files.items()):
        if match := FILE.fullmatch(path):
            found.setdefault(match["table"], {})[parse_part(match["day"] or match["month"])] = own
    return found


def bring(repo: Repo, revision: str, wanted: Collection[str]) -> dict[str, Path]:
    """The objects of these MD5s, as files of DVC's cache; what is not there comes from the default remote.

    Raises DataError where one is nowhere, or has other bytes than it is named by.
    """
    cache = repo.cache.local
    found = {own: Path(cache.oid_to_path(own)) for own in wanted}
    missing = [own for own, path in found.items() if not path.exists()]
    if missing:
        place = store.remote(repo) if repo.config["remote"] else None
        if place is not None:
            with explained(place.name):
                repo.cloud.pull([HashInfo("md5", own) for own in missing])
        if gone := [own for own in missing if not found[own].exists()]:
            nowhere = "neither in the cache nor in the remote" if place else "not in the cache, and there is no remote"
            raise DataError(
                f"{count(len(gone), 'file')} of {revision} {'is' if len(gone) == 1 else 'are'} {nowhere}",
                where=", ".join(gone[:3]),
                expected="a snapshot that was pushed, and whose files were neither erased nor pruned since",
                next_step="python -m commands.versions --all, which says where files are; "
                "dvc push, where this snapshot was made",
            )
    with ThreadPoolExecutor(THREADS) as pool:
        sums = pool.map(md5, found.values())
    bad = [own for own, one in zip(found, sums, strict=True) if one != own.removesuffix(".dir")]
    if bad:
        raise DataError(
            f"{count(len(bad), 'file')} of {revision} are damaged in the cache",
            where=str(found[bad[0]]),
            expected="files with the bytes that they are named by",
            next_step="python -m commands.mend, then the same command again",
        )
    return found
