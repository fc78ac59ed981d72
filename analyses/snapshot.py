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
from pipeline.core.days import in_months
from pipeline.core.errors import DataError, PipelineError
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.files import manifest
from pipeline.files.layout import pattern
from pipeline.files.sql import literal, quoted
from pipeline.views import views
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.tables import TABLES, chosen

PARAMS = Path("analyses/params.yaml")
RESULTS = Path("analyses/results")

Row = tuple[Any, ...]


class Snapshot:
    """data/export in DuckDB, as it was when the analysis began."""

    def __init__(self, paths: Paths, params: Params, inputs: Inputs) -> None:
        self.paths, self.params, self.inputs = paths, params, inputs
        tables = chosen(TABLES, params.tables)
        self.files = manifest.read(paths.quality_report, tables)
        manifest.check(paths.quality_report, paths.export, self.files)
        # One thread: sums of floats are the same bits each time.
        self.connection = duckdb.connect(config={"threads": 1})
        for table in tables:
            columns = ", ".join(column.quoted for column in table.columns)
            read = f"read_parquet({literal(pattern(paths.export / table.name))}, hive_partitioning = false)"
            self.connection.execute(f"CREATE VIEW {quoted(table.name)} AS SELECT {columns} FROM {read}")
        days = self.files[views.OF]
        self.first, self.last = min(days), max(days)
        if in_months(days):
            asked = views.days_of_months(literal(pattern(paths.export / views.OF)))
            ((self.first, self.last),) = self.rows(f"SELECT min(event_date), max(event_date) FROM ({asked})")
        for statement in views.create(views.days_between(self.first, self.last), self.files):
            self.connection.execute(statement)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        return self.connection.execute(query, list(values)).fetchall()

    def users(self, key: str, condition: str | None) -> str:
        """The users who meet a condition of params.yaml, as a query. Raises ParamsError for one that is no SQL."""
        where = "TRUE" if condition is None else f"({condition}\n)"
        asked, name = f"SELECT DISTINCT userId FROM behavioral_events WHERE {where}", quoted(key)
        try:
            # Once, so that all that is said of them is of the same users.
            self.connection.execute(f"CREATE TEMP TABLE {name} AS {asked}")
            again = self.rows(f"(FROM {name} EXCEPT {asked}) UNION ALL ({asked} EXCEPT FROM {name}) LIMIT 1")
        except duckdb.Error as error:
            columns = ", ".join(BEHAVIORAL_EVENTS.names)
            raise settings.wrong(
                PARAMS,
                f"{key} is no condition on behavioral_events: {str(error).splitlines()[0]}",
                f"a condition of SQL on {columns}",
            ) from None
        if again:
            raise settings.wrong(PARAMS, f"{key} gives other users each time", "a condition without chance in it")
        if not self.rows(f"FROM {name} LIMIT 1"):
            raise DataError(
                f"no user meets {key}",
                where=str(PARAMS),
                expected=f"users with a row from {self.first} to {self.last} for which {condition} holds",
                next_step=f"edit {PARAMS}, or take another window; then the same command again",
            )
        return f"SELECT userId FROM {name}"

    def count(self, query: str) -> int:
        """Of how many rows the answer is."""
        return int(self.rows(f"SELECT count(*) FROM ({query})")[0][0])

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


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def analyse(name: str, analysis: Callable[[Snapshot, Settings], None]) -> None:
    """Run a stage of analyses/dvc.yaml, from the project's folder."""

    def main() -> None:
        paths = project()
        if not paths.quality_report.exists():
            raise DataError(
                f"there is no {paths.quality_report}",
                where=str(paths.reports),
                expected="a snapshot",
                next_step="make repro, or dvc pull",
            )
        params, files = load_params(paths.params), [PARAMS, paths.quality_report]
        inputs = Inputs(paths, params, lambda p: p.validate.experiment_phases, files, [paths.export])
        analysis(Snapshot(paths, params, inputs), settings.load(PARAMS))

    run(name, main)


def too_little(what: str, expected: str) -> PipelineError:
    """Data of which nothing can be said."""
    return DataError(
        what, where=str(PARAMS), expected=expected, next_step=f"edit {PARAMS}, or take another window; then again"
    )
