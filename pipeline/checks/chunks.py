"""The rows of data/raw in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow

from pipeline.core.days import Month
from pipeline.files.writer import batches, open_file
from schemas.table import Table

Item = TypeVar("Item")

# A chunk ends after this many bytes, too, so that 1 MB bodies don't fill the memory.
BATCH_BYTES = 4 * 1024 * 1024


class Piece(NamedTuple):
    """Consecutive rows of the raw file of a day or a month, `offset` rows from its begin."""

    day: date
    offset: int
    batch: pyarrow.RecordBatch
    time: str | None = None  # the column that says the day of a row

    @property
    def days(self) -> pyarrow.Array:
        """The day of each row."""
        if not isinstance(self.day, Month):
            return pyarrow.repeat(pyarrow.scalar(self.day, pyarrow.date32()), self.batch.num_rows)
        return self.batch.column(str(self.time)).cast(pyarrow.date32(), safe=False)


def chunks(files: Mapping[date, Path], table: Table, batch_size: int) -> Iterator[list[Piece]]:
    """All rows in order, in lists of pieces of at most `batch_size` rows and about BATCH_BYTES bytes together.

    A check costs as much for ten rows as for a thousand, so small days are checked together.
    """
    schema = table.arrow_schema("raw")
    pieces: list[Piece] = []
    room, size = batch_size, 0
    for day, path in files.items():
        offset = 0
        for batch in batches(open_file(path, schema), batch_size):
            begin = 0
            while begin < batch.num_rows:
                part = batch.slice(begin, room)
                pieces.append(Piece(day, offset + begin, part, table.time))
                begin, room, size = begin + part.num_rows, room - part.num_rows, size + part.nbytes
                if not room or size > BATCH_BYTES:
                    yield pieces
                    pieces, room, size = [], batch_size, 0
            offset += batch.num_rows
    if pieces:
        yield pieces


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one being read while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
