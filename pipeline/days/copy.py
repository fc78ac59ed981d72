"""Some days, or months, of a table from PostgreSQL to files of data/raw."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from psycopg2.extensions import connection as Connection

from pipeline.core import progress
from pipeline.core.days import ONE_DAY, told
from pipeline.core.digest import Pin, total
from pipeline.core.errors import DataError
from pipeline.core.watermark import midnight
from pipeline.files.manifest import File
from pipeline.files.writer import DayWriter
from pipeline.postgres.copy import Decoder
from pipeline.postgres.statements import copy_rows, day_pins
from pipeline.postgres.target import Relation
from schemas.table import Table


class Wanted(NamedTuple):
    """A day, or a month, to copy to `path`: these `days`, all that the window has of it."""

    day: date
    days: tuple[date, ...]
    pin: Pin  # of all of them
    made_from: str
    path: Path


class CopyTask(NamedTuple):
    """Days or months to copy, oldest first, in one COPY. `users` are those whose rows are wanted; none: all."""

    relation: Relation
    wanted: tuple[Wanted, ...]
    users: tuple[str, ...]
    encoding: str  # of the database
    batch_size: int

    @property
    def days(self) -> list[date]:
        return [day for one in self.wanted for day in one.days]

    @property
    def rows(self) -> int:
        return sum(one.pin.rows for one in self.wanted)


class Copied(NamedTuple):
    """The file of a day or a month, and the pin of all users' rows of it in the same transaction snapshot.

    Without a user filter the digest is taken from the pin: the rows are counted, and `validate` compares the digest.
    """

    file: File
    source: Pin


def copy_days(connection: Connection, task: CopyTask) -> dict[date, Copied]:
    """Write each file. Raises DataError when other rows arrive than PostgreSQL says it sent."""
    table, days = task.relation.table, task.days
    with Files(table, task.wanted) as files:
        # PostgreSQL checks or converts every text, but for a database that does not know its encoding.
        decoder = Decoder(
            task.batch_size, table.arrow_schema("raw"), files.write, check_utf8=task.encoding == "SQL_ASCII"
        )
        sent = copy_rows(connection, task.relation, days, task.users, decoder)
        decoder.finish()
    arrived = {one.day: writer.rows for one, writer in zip(task.wanted, files.written, strict=True)}
    check_arrived(task.wanted[0].day, sent, sum(arrived.values()))
    held = source = {one.day: Pin(arrived[one.day], one.pin.digest) for one in task.wanted}
    if task.users:
        source = _pins(connection, task, ())
        held = _pins(connection, task, task.users)
    copied = {}
    for one, writer in zip(task.wanted, files.written, strict=True):
        check_arrived(one.day, held[one.day].rows, writer.rows)
        file = File(writer.rows, writer.sha256, one.made_from, held[one.day].digest)
        copied[one.day] = Copied(file, source[one.day])
    return copied


def _pins(connection: Connection, task: CopyTask, users: tuple[str, ...]) -> dict[date, Pin]:
    found = day_pins(connection, task.relation, task.days, task.encoding, users)
    return {one.day: total(found[day] for day in one.days) for one in task.wanted}


class Files:
    """The files of some days or months, written one after the other from rows in the order of their days."""

    def __init__(self, table: Table, wanted: Sequence[Wanted]) -> None:
        self.written: list[DayWriter] = []
        self._table, self._schema, self._wanted = table, table.arrow_schema("raw"), wanted

    def __enter__(self) -> Files:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self.written[-1].__exit__(kind, *rest)
        while kind is None and len(self.written) < len(self._wanted):
            self._open().__exit__(None)

    def _open(self) -> DayWriter:
        wanted = self._wanted[len(self.written)]
        facts = told(wanted.day, wanted.days[0], wanted.days[-1] + ONE_DAY, self._table.time)
        self.written.append(DayWriter(wanted.path, self._schema, self._table.distinct, facts))
        return self.written[-1].__enter__()

    def write(self, batch: pa.RecordBatch) -> None:
        progress.add(batch.num_rows)
        while batch.num_rows:
            rows = self._of_this_day(batch)
            self.written[-1].write(batch.slice(0, rows))
            batch = batch.slice(rows)
            if batch.num_rows and len(self.written) == len(self._wanted):
                raise self._foreign(self._wanted[-1].day)
            if batch.num_rows:
                self.written[-1].__exit__(None)
                self._open()

    def _of_this_day(self, batch: pa.RecordBatch) -> int:
        """How many of the first rows belong to the file that is open."""
        if len(self._wanted) == 1:
            return int(batch.num_rows)
        name = str(self._table.time)
        kind = batch.schema.field(name).type
        own = self._wanted[len(self.written) - 1]
        begin, end = (_as_integer(midnight(day), kind) for day in (own.days[0], own.days[-1] + ONE_DAY))
        times = batch.column(name).view(pa.int32() if pa.types.is_date(kind) else pa.int64()).to_numpy()
        rows = int(times.searchsorted(end))
        last = len(self.written) == len(self._wanted)
        if times[:rows].min(initial=begin) < begin or times[:rows].max(initial=begin) >= end or (last and not rows):
            raise self._foreign(own.day)
        return rows

    @staticmethod
    def _foreign(day: date) -> DataError:
        return DataError(
            f"a row came that belongs to none of the days that were asked for, near {day}",
            where="the COPY stream",
            expected="rows in the order of their days",
            next_step="dvc repro; if it stays, REINDEX the table: an index may be corrupt",
        )


def _as_integer(instant: datetime, kind: pa.DataType) -> int:
    """As Arrow stores it: days, milliseconds or microseconds since 1970, UTC."""
    units = {"ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}
    unit: timedelta = timedelta(days=1) if pa.types.is_date(kind) else units[kind.unit]
    return int((instant - datetime(1970, 1, 1)) / unit)


def check_arrived(day: date, counted: int, arrived: int) -> None:
    """Raise DataError when rows were lost or doubled on the way."""
    if arrived != counted:
        raise DataError(
            f"{day}: PostgreSQL counted {counted:,} rows and {arrived:,} arrived",
            where="the COPY stream",
            expected="every row once",
            next_step="dvc repro; if it stays, REINDEX the table: an index may be corrupt",
        )
