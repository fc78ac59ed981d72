"""What a paper cites of a snapshot: which data, how it is told, and of which commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.core.dataset import Dataset, of_params, problem
from pipeline.core.days import WHOLE, days_of
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.params import load_yaml
from pipeline.core.paths import Paths
from pipeline.core.verdict import FAILED
from pipeline.files.manifest import parse as parse_files
from pipeline.files.manifest import sha256_of
from pipeline.versions.git import GitError, changed, commit_of, content, git


class Citation(NamedTuple):
    """`sha256` is that of the manifest of data/export: of all files, by table and day."""

    commit: str
    committed: date
    first: date
    last: date
    rows: int
    sha256: str
    verdict: str
    sentence: str
    dataset: Dataset

    def line(self, version: str, pseudonyms: bool = False) -> str:
        """One sentence for a list of references. `version` is a tag, or the commit.

        `pseudonyms`: whether the ids were replaced after the commit, so that its own files are others.
        """
        of = f"commit {self.commit[:10]}" if version != self.commit else ""
        named = f"version {version}" if of else f"commit {self.commit[:10]}"
        replaced = "with pseudonyms" if pseudonyms else ""
        parts = [
            named,
            of,
            replaced,
            f"{self.first} to {self.last} (UTC)",
            f"{self.rows:,} rows",
            f"SHA-256 {self.sha256}",
        ]
        authors = f"{'; '.join(self.dataset.authors)}. " if self.dataset.authors else ""
        return (
            f"{authors}{self.dataset.title} [Data set]. {', '.join(part for part in parts if part)}. {self.committed}."
        )


def of(paths: Paths, revision: str) -> Citation:
    """Of a commit, by what its reports say. Raises ParamsError or DataError where they say nothing."""
    commit = commit_of(revision)
    try:
        quality, checks = (report_at(commit, path) for path in (paths.quality_report, paths.checks_report))
        files = parse_files(quality["files"])
        begin, until = map(date.fromisoformat, report_at(commit, paths.extract_report)["window"])
        of_files = days_of(part for some in files.values() for part in some)
        days = [day for day in of_files if begin <= day < until] or [WHOLE]
        day = date.fromisoformat(git("show", "-s", "--format=%cs", commit).strip())
        return Citation(
            commit,
            day,
            days[0],
            days[-1],
            int(quality["rows"]),
            sha256_of(files),
            str(checks["verdict"]),
            " ".join(checks["sentence"]),
            _dataset(paths, commit),
        )
    except (GitError, ValueError, KeyError, TypeError, IndexError):
        raise DataError(
            f"{revision} has no snapshot that can be cited",
            where=commit,
            expected=f"a commit whose {paths.quality_report} and {paths.checks_report} tell of one",
            next_step="python -m commands.versions --all; or make repro, then git commit -a",
        ) from None


def report_at(commit: str, path: Path) -> Mapping[str, Any]:
    """A report as it is in a commit. Raises GitError or ValueError where there is none."""
    data = json.loads(content(commit, str(path)))
    if not isinstance(data, dict):
        raise ValueError(path)
    return data


def _dataset(paths: Paths, commit: str) -> Dataset:
    """What params.yaml of a commit says of the dataset; what is said of none where it does not yet."""
    try:
        group = load_yaml(paths.params, content(commit, str(paths.params)))["dataset"]
        return of_params(group) if problem(group) is None else Dataset()
    except (GitError, ParamsError, KeyError, TypeError):
        return Dataset()


def _not_run(paths: Paths, commit: str) -> str:
    """What of params.yaml, watermark.yaml and the reports in a commit is other than dvc.lock beside it says; "" for
    nothing."""
    locked = yaml.safe_load(content(commit, str(paths.dvc_lock)))["stages"]
    params = yaml.safe_load(content(commit, str(paths.params)))
    pinned = _md5(commit, str(paths.watermark))
    for stage, known in locked.items():
        for key, value in known.get("params", {}).get(paths.params.name, {}).items():
            now = params
            for part in key.split("."):
                now = now.get(part) if isinstance(now, dict) else None
            if now != value:
                return f"{stage} ran with another {key}"
        for dep in known.get("deps", ()):
            if dep["path"] == str(paths.watermark) and dep["md5"] != pinned:
                return f"{stage} read another {paths.watermark}"
    for stage in locked.values():
        for out in stage.get("outs", ()):
            if out["path"].startswith(f"{paths.reports}/") and out["md5"] != _md5(commit, out["path"]):
                return f"{out['path']} is not the one that dvc.lock names"
    return ""


def _md5(commit: str, path: str) -> str:
    try:
        return hashlib.md5(content(commit, path).encode(), usedforsecurity=False).hexdigest()
    except GitError:
        return ""


def check_named(paths: Paths, found: Citation, revision: str) -> None:
    """Raise ParamsError for a snapshot that is not to be used, or that is not what lies here though HEAD is meant."""
    if found.verdict == FAILED:
        raise ParamsError(
            f"the snapshot of {revision} is not to be used: {found.sentence}",
            where=found.commit,
            expected="a snapshot that passed its quality checks, or was warned of",
            next_step="python -m commands.versions, and another REV",
        )
    if why := _not_run(paths, found.commit):
        raise ParamsError(
            f"the snapshot of {revision} was not made from what is committed beside it: {why}",
            where=found.commit,
            expected="a commit whose params.yaml and watermark.yaml a run has read",
            next_step="dvc repro, git commit -a; or another REV",
        )
    own = [str(path) for path in (paths.dvc_lock, paths.watermark, paths.params, paths.reports)]
    if revision == "HEAD" and (others := changed(*own)):
        raise ParamsError(
            f"not as it is committed: {', '.join(others[:3])}",
            where=str(paths.root.absolute()),
            expected="a commit that is what lies here",
            next_step="git commit -a, or name a REV",
        )
