"""The rows of data/raw in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow

from pipeline.core.days import Month
from pipeline.files import writer
from pipeline.files.layout import day_path
from pipeline.files.manifest import File
from pipeline.files.writer import open_file, placed
from schemas.table import Table

Item = TypeVar("Item")

# A chunk ends after this many bytes, too, so that 1 MB bodies don't fill the memory.
BATCH_BYTES = 4 * 1024 * 1024


class Portion(NamedTuple):
    """Row groups of one day's raw file: so many rows, from `begin` on and before `end`."""

    day: date
    begin: int
    end: int | None  # None: the end of the file, however many rows it has
    rows: int

    @property
    def whole(self) -> bool:
        return not self.begin and self.end is None


def portions(files: Mapping[date, File], cut: bool) -> list[Portion]:
    """All rows of the files, in order: of each file one portion, or with `cut` as many as DayWriter knows slices."""
    found = []
    for day, file in files.items():
        size = writer.SLICE_ROWS if cut else file.rows or 1
        for begin in range(0, max(file.rows, 1), size):
            end = begin + size if begin + size < file.rows else None
            found.append(Portion(day, begin, end, min(size, file.rows - begin)))
    return found


def rows_of(portion: Portion) -> int:
    return portion.rows


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


def chunks(folder: Path, wanted: Sequence[Portion], table: Table, batch_size: int) -> Iterator[list[Piece]]:
    """The rows of files in `folder`, in lists of pieces of at most `batch_size` rows and about BATCH_BYTES together.

    A check costs as much for ten rows as for a thousand, so small days are checked together.
    """
    schema = table.arrow_schema("raw")
    pieces: list[Piece] = []
    room, size = batch_size, 0
    for day, first, end, _ in wanted:
        for offset, batch in placed(open_file(day_path(folder, day), schema), batch_size, first, end):
            begin = 0
            while begin < batch.num_rows:
                part = batch.slice(begin, room)
                pieces.append(Piece(day, offset + begin, part, table.time))
                begin, room, size = begin + part.num_rows, room - part.num_rows, size + part.nbytes
                if not room or size > BATCH_BYTES:
                    yield pieces
                    pieces, room, size = [], batch_size, 0
    if pieces:
        yield pieces


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one being read while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
