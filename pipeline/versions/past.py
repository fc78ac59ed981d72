"""DuckDB over the snapshot of another commit, without checking it out.

The files are DVC's objects. DuckDB opens only those that a query needs, by event_date, and one that is not in DVC's
cache is fetched when it is opened; where days were asked for, all of them before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import duckdb
from dvc.repo import Repo
from fsspec import AbstractFileSystem

from pipeline.core.days import WHOLE
from pipeline.core.errors import ParamsError, PipelineError
from pipeline.files.layout import PART, PREFIX
from pipeline.files.sql import literal, quoted
from pipeline.versions import snapshots
from pipeline.versions.snapshots import Snapshot

PROTOCOL = "snapshot"


class Objects(AbstractFileSystem):  # type: ignore[misc]
    """The files of a snapshot by their paths below data/export."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, repo: Repo, revision: str, files: Mapping[str, str]) -> None:
        super().__init__()
        self.repo, self.revision, self.md5 = repo, revision, files
        self.opened: set[str] = set()
        # What went wrong within DuckDB, which would only say that a file can't be read.
        self.error: PipelineError | None = None
        self._found: dict[str, Path] = {}
        self._lock = Lock()

    def path(self, name: str) -> Path:
        own = self._strip_protocol(name)
        with self._lock:
            if own not in self._found:
                try:
                    md5 = self.md5[own]
                    self._found[own] = snapshots.bring(self.repo, self.revision, [md5])[md5]
                except PipelineError as error:
                    self.error = error
                    raise OSError(error.what) from None
            self.opened.add(own)
            return self._found[own]

    def open(self, path: str, *_: Any, **__: Any) -> BinaryIO:
        return open(self.path(path), "rb")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self.path(path).stat().st_size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return self._strip_protocol(path) in self.md5

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def created(self, *_: Any) -> datetime:
        return datetime(2000, 1, 1)  # an object never changes

    modified = created


class Past(NamedTuple):
    """A connection to a snapshot, its files, and the days that it has of each table."""

    days: Mapping[str, Mapping[date, str]]
    connection: duckdb.DuckDBPyConnection
    files: Objects

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what kept a file away, where DuckDB only says that it can't be read."""
        try:
            yield
        except (duckdb.Error, PipelineError):
            if self.files.error is not None:
                raise self.files.error from None
            raise


def connect(repo: Repo, snapshot: Snapshot, first: date | None = None, last: date | None = None) -> Past:
    """A view of each table, over the days from `first` to `last`, both included.

    The views have event_date beside their columns. Raises ParamsError where no day is left.
    """
    chosen = {table: _between(snapshot, table, first, last) for table in snapshot.files}
    files = {_name(table, day): md5 for table, days in chosen.items() for day, md5 in days.items()}
    if first or last:  # days that were asked for are all fetched at once, which is quicker than one after the other
        snapshots.bring(repo, snapshot.name, set(files.values()))
    past = Past(chosen, duckdb.connect(), Objects(repo, snapshot.name, files))
    past.connection.register_filesystem(past.files)
    past.connection.execute("SET TimeZone = 'UTC'")  # whatever the machine's is
    with past.explained():
        for table, days in chosen.items():
            # The first file is opened for its columns: one that is here, if any is.
            order = sorted(days, key=lambda day: (not Path(repo.cache.local.oid_to_path(days[day])).exists(), day))
            listed = ", ".join(literal(f"{PROTOCOL}://{_name(table, day)}") for day in order)
            hive = "false" if WHOLE in days else "true, hive_types = {'event_date': DATE}"
            past.connection.execute(
                f"CREATE VIEW {quoted(table)} AS FROM read_parquet([{listed}], hive_partitioning = {hive})"
            )
    return past


def _between(snapshot: Snapshot, table: str, first: date | None, last: date | None) -> dict[date, str]:
    days = snapshot.files[table]
    found = {day: md5 for day, md5 in days.items() if day == WHOLE or (first or day) <= day <= (last or day)}
    if not found:
        raise ParamsError(
            f"{snapshot.title} has no day of {table} from {first or 'its first'} to {last or 'its last'}",
            where="--from, --to",
            expected=f"days from {min(days)} to {max(days)}",
            next_step="the same command with other days",
        )
    return found


def _name(table: str, day: date) -> str:
    return f"{table}/{PREFIX}{day}/{PART}"
