"""DuckDB over the snapshot of another commit, without checking it out.

The files are DVC's objects. DuckDB opens only those that a query needs, by event_date, and one that is not in DVC's
cache is fetched when it is opened; where days were asked for, all of them before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import duckdb
import pyarrow.parquet as pq
from dvc.repo import Repo
from fsspec import AbstractFileSystem

from pipeline.core.days import TIME, WHOLE, days_told, ends, in_months
from pipeline.core.errors import ParamsError, PipelineError
from pipeline.files.layout import day_path
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
    """A connection to a snapshot, its files, and the days, or months, that it has of each table.

    `asked` are the days that were asked for, both included.
    """

    days: Mapping[str, Mapping[date, str]]
    connection: duckdb.DuckDBPyConnection
    files: Objects
    asked: tuple[date, date]

    def listed(self, table: str) -> str:
        """SQL for the list of the files of a table."""
        return _listed(table, self.days[table])

    @property
    def condition(self) -> str:
        """SQL for: the day was asked for."""
        return _asked("event_date", self.asked)

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

    The views have event_date beside their columns, and event_month where files are months. Raises ParamsError where no
    day is left.
    """
    asked = (first or date.min, last or date.max)
    chosen = {table: _between(snapshot, table, first, last) for table in snapshot.files}
    files = {_name(table, day): md5 for table, days in chosen.items() for day, md5 in days.items()}
    if first or last:  # days that were asked for are all fetched at once, which is quicker than one after the other
        found = snapshots.bring(repo, snapshot.name, set(files.values()))
        for table, days in chosen.items():
            if not _any_asked([found[md5] for md5 in days.values()], asked):
                raise _no_day(snapshot, table, first, last)
    past = Past(chosen, duckdb.connect(), Objects(repo, snapshot.name, files), asked)
    past.connection.register_filesystem(past.files)
    past.connection.execute("SET TimeZone = 'UTC'")  # whatever the machine's is
    with past.explained():
        for table, days in chosen.items():
            # The first file is opened for its columns: one that is here, if any is.
            order = sorted(days, key=lambda day: (not Path(repo.cache.local.oid_to_path(days[day])).exists(), day))
            kind = "'event_month': VARCHAR" if in_months(days) else "'event_date': DATE"
            hive = "false" if WHOLE in days else f"true, hive_types = {{{kind}}}"
            rows = f"read_parquet({_listed(table, order)}, hive_partitioning = {hive})"
            if in_months(days):
                rows = _dated(past.connection, rows, _listed(table, order[:1]), asked)
            past.connection.execute(f"CREATE VIEW {quoted(table)} AS FROM {rows}")
    return past


def _listed(table: str, days: Iterable[date]) -> str:
    return f"[{', '.join(literal(f'{PROTOCOL}://{_name(table, day)}') for day in days)}]"


def _asked(day: str, asked: tuple[date, date]) -> str:
    return f"{day} BETWEEN DATE '{asked[0]}' AND DATE '{asked[1]}'"


def _dated(connection: duckdb.DuckDBPyConnection, rows: str, file: str, asked: tuple[date, date]) -> str:
    """Rows of months with their day, which footers say how to tell since no name does; only those asked for."""
    told = f"SELECT decode(value) FROM parquet_kv_metadata({file}) WHERE decode(key) = {literal(TIME)}"
    ((time,),) = connection.execute(told).fetchall()
    dated = f"SELECT *, {quoted(time)}::DATE AS event_date FROM {rows}"
    return f"({dated}) WHERE {_asked('event_date', asked)}"


def _between(snapshot: Snapshot, table: str, first: date | None, last: date | None) -> dict[date, str]:
    found = {
        day: md5
        for day, md5 in snapshot.files[table].items()
        if day == WHOLE or ((first or date.min) < ends(day)[1] and ends(day)[0] <= (last or date.max))
    }
    if not found:
        raise _no_day(snapshot, table, first, last)
    return found


def _any_asked(files: Iterable[Path], asked: tuple[date, date]) -> bool:
    """Whether one of the files has a day that was asked for. A month may lie in the window only in part."""
    told = [days_told(pq.read_metadata(file).metadata or {}) for file in files]
    return any(days is None or max(days[0], asked[0]) <= min(days[1], asked[1]) for days in told)


def _no_day(snapshot: Snapshot, table: str, first: date | None, last: date | None) -> ParamsError:
    days = snapshot.files[table]
    return ParamsError(
        f"{snapshot.title} has no day of {table} from {first or 'its first'} to {last or 'its last'}",
        where="--from, --to",
        expected=f"days from {min(days)} to {max(days)}"
        + (", as far as the window has them" if in_months(days) else ""),
        next_step="the same command with other days",
    )


def _name(table: str, day: date) -> str:
    return str(day_path(Path(table), day))
