"""One day of a table from PostgreSQL to a file of data/raw."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from psycopg2.extensions import connection as Connection

from pipeline.core import progress
from pipeline.core.digest import Pin
from pipeline.core.errors import DataError
from pipeline.files.manifest import File
from pipeline.files.writer import DayWriter
from pipeline.postgres.copy import Decoder
from pipeline.postgres.statements import copy_rows, day_pin
from pipeline.postgres.target import Relation


class CopyTask(NamedTuple):
    """A day to copy to `path`. `users` are those whose rows are wanted; all if there are none."""

    relation: Relation
    day: date
    pin: Pin
    users: tuple[str, ...]
    made_from: str
    encoding: str  # of the database
    batch_size: int
    path: Path


class Copied(NamedTuple):
    """The file of a day, and the pin of all users' rows of that day in the same transaction snapshot.

    Without a user filter the digest is taken from the pin: the rows are counted, and `validate` compares the digest.
    """

    file: File
    source: Pin


def copy_day(connection: Connection, task: CopyTask) -> Copied:
    """Write the day's file. Raises DataError when other rows arrive than PostgreSQL says it sent."""
    table = task.relation.table
    schema = table.arrow_schema("raw")
    with DayWriter(task.path, schema, table.distinct) as writer:

        def write(batch: pa.RecordBatch) -> None:
            writer.write(batch)
            progress.add(batch.num_rows)

        # PostgreSQL checks or converts every text, but for a database that does not know its encoding.
        decoder = Decoder(task.batch_size, schema, write, check_utf8=task.encoding == "SQL_ASCII")
        sent = copy_rows(connection, task.relation, task.day, task.users, decoder)
        decoder.finish()
    held = source = Pin(sent, task.pin.digest)
    if task.users:
        source = day_pin(connection, task.relation, task.day, task.encoding)
        held = day_pin(connection, task.relation, task.day, task.encoding, task.users)
    check_arrived(task.day, held.rows, sent)
    check_arrived(task.day, sent, writer.rows)
    return Copied(File(sent, writer.sha256, task.made_from, held.digest), source)


def check_arrived(day: date, counted: int, arrived: int) -> None:
    """Raise DataError when rows were lost or doubled on the way."""
    if arrived != counted:
        raise DataError(
            f"{day}: PostgreSQL counted {counted:,} rows and {arrived:,} arrived",
            where="the COPY stream",
            expected="every row once",
            next_step="dvc repro; if it stays, REINDEX the table: an index may be corrupt",
        )
