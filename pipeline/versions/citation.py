"""What a paper cites of a snapshot: which data, how it is told, and of which commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.paths import Paths
from pipeline.files.manifest import parse as parse_files
from pipeline.files.manifest import sha256_of
from pipeline.versions.git import GitError, commit_of, git

TITLE = "Behavioural events"


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

    def line(self, version: str) -> str:
        """One sentence for a list of references. `version` is a tag, or the commit."""
        of = f"commit {self.commit[:10]}" if version != self.commit else ""
        named = f"version {version}" if of else f"commit {self.commit[:10]}"
        parts = [named, of, f"{self.first} to {self.last} (UTC)", f"{self.rows:,} rows", f"SHA-256 {self.sha256}"]
        return f"{TITLE} [Data set]. {', '.join(part for part in parts if part)}. {self.committed}."


def of(paths: Paths, revision: str) -> Citation:
    """Of a commit, by what its reports say. Raises ParamsError or DataError where they say nothing."""
    commit = commit_of(revision)
    try:
        quality, checks = (_report(commit, str(path)) for path in (paths.quality_report, paths.checks_report))
        files = parse_files(quality["files"])
        days = sorted(day for some in files.values() for day in some)
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
        )
    except (GitError, ValueError, KeyError, TypeError, IndexError):
        raise DataError(
            f"{revision} has no snapshot that can be cited",
            where=commit,
            expected=f"a commit whose {paths.quality_report} and {paths.checks_report} tell of one",
            next_step="python -m commands.versions --all; or make repro, then git commit",
        ) from None


def _report(commit: str, path: str) -> Mapping[str, Any]:
    data = json.loads(git("show", f"{commit}:./{path}"))
    if not isinstance(data, dict):
        raise ValueError(path)
    return data
