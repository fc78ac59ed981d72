"""What an analysis reads: data/export through the views, and what it says of where its numbers are from."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from analyses import settings
from analyses.settings import Settings
from pipeline.core.errors import DataError, PipelineError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.files import manifest
from pipeline.files.layout import pattern
from pipeline.files.sql import literal, quoted
from pipeline.views import views
from schemas.tables import TABLES

PARAMS = Path("analyses/params.yaml")
RESULTS = Path("analyses/results")

Row = tuple[Any, ...]


class Snapshot:
    """data/export in DuckDB, as it was when the analysis began."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.files = manifest.read(paths.quality_report, TABLES)
        manifest.check(paths.quality_report, paths.export, self.files)
        self._before = self._state()
        # One thread: sums of floats are the same bits each time.
        self.connection = duckdb.connect(config={"threads": 1})
        for table in TABLES:
            columns = ", ".join(column.quoted for column in table.columns)
            read = f"read_parquet({literal(pattern(paths.export / table.name))}, hive_partitioning = false)"
            self.connection.execute(f"CREATE VIEW {quoted(table.name)} AS SELECT {columns} FROM {read}")
        days = self.files[views.OF]
        self.first, self.last = min(days), max(days)
        for statement in views.create(views.days_between(self.first, self.last)):
            self.connection.execute(statement)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        return self.connection.execute(query, list(values)).fetchall()

    def users(self, key: str, condition: str | None) -> str:
        """The users who meet a condition of params.yaml, as a query. Raises ParamsError for one that is no SQL."""
        where = "TRUE" if condition is None else f"({condition})"
        query = f"SELECT DISTINCT userId FROM behavioral_events WHERE {where}"
        try:
            found = self.connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
        except duckdb.Error as error:
            raise settings.wrong(
                PARAMS,
                f"{key} is no condition on behavioral_events: {str(error).splitlines()[0]}",
                "a condition of SQL",
            ) from None
        if not (found or (0,))[0]:
            raise DataError(
                f"no user meets {key}",
                where=str(PARAMS),
                expected=f"users with a row for which {condition or 'anything'} holds",
                next_step=f"edit {PARAMS}, or take another window; then the same command again",
            )
        return query

    def provenance(self, params: NamedTuple, packages: Sequence[str]) -> list[dict[str, str]]:
        """What the results are of and by: so many lines of a table."""
        group = type(params).__name__.lower()
        commit = _git("log", "-1", "--format=%H", "--", "dvc.lock")
        clean = not _git("status", "--porcelain", "--", "dvc.lock")
        named = {
            "data": f"sha256 {manifest.sha256_of(self.files)} of data/export's manifest in data/reports/quality.json",
            "commit of dvc.lock": commit if commit and clean else "not committed when this was made",
            "window": f"{self.first} to {self.last} (UTC)",
            **{f"{group}.{name}": json.dumps(value, default=str) for name, value in params._asdict().items()},
            **{name: importlib.metadata.version(name) for name in packages},
        }
        return [{"what": what, "is": words} for what, words in named.items()]

    def check(self) -> None:
        """Raise DataError where an input was changed meanwhile."""
        if self._state() != self._before:
            raise DataError(
                "an input was changed while the analysis ran",
                where=f"{PARAMS}, {self.paths.quality_report}",
                expected="inputs that stay as they were",
                next_step="make analyses, when nothing else runs",
            )

    def _state(self) -> tuple[bytes, bytes]:
        return PARAMS.read_bytes(), self.paths.quality_report.read_bytes()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def analyse(name: str, analysis: Callable[[Snapshot, Settings], None]) -> None:
    """Run a stage of analyses/dvc.yaml, from the project's folder."""

    def main() -> None:
        paths = project()
        wanted = settings.load(PARAMS)
        if not paths.quality_report.exists():
            raise DataError(
                f"there is no {paths.quality_report}",
                where=str(paths.reports),
                expected="a snapshot",
                next_step="make repro, or dvc pull",
            )
        analysis(Snapshot(paths), wanted)

    run(name, main)


def too_little(what: str, expected: str) -> PipelineError:
    """Data of which nothing can be said."""
    return DataError(
        what, where=str(PARAMS), expected=expected, next_step=f"edit {PARAMS}, or take a longer window; then again"
    )
