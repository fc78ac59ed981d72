"""The Parquet file of a day or a month: how it is written and read.

The bytes of a file are a function of its rows and of nothing else: row groups are cut at fixed places, whatever
pieces the rows arrive in, and the footer holds no clock, host or pandas metadata.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from shlex import quote
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import DataError
from pipeline.files.layout import sha256

# A row group ends after this many rows, or before the row that would take its texts over this many bytes.
# It is what a writer holds in memory, whatever batch_size is.
ROW_GROUP_ROWS = 16_384
ROW_GROUP_BYTES = 8 * 1024 * 1024

# And whenever the file has so many rows more, so that slices of so many can be written apart (files/slices.py).
# A multiple of ROW_GROUP_ROWS: only rows of more than 512 bytes of text have a row group cut by it. A slice takes a
# quarter of a second to copy, many times what comes with it: a connection, a statement, a file.
SLICE_ROWS = 4 * ROW_GROUP_ROWS


class DayWriter:
    """Writes one file from record batches of any size; use it as a context manager.

    Holds at most one row group and one batch. `distinct` names columns of which no dictionary is made, since hardly a
    value stands there twice. `facts` are texts for the footer. In the end `rows` is the number of rows and `sha256`
    that of the file.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, distinct: Collection[str], facts: Mapping[str, str] | None = None
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows, self.sha256 = 0, ""
        self._path, self._facts = path, dict(facts or {})
        # Of two workers at the same file, one of which was taken for lost, each writes one of its own.
        self._new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._texts = [i for i, field in enumerate(schema) if _has_bytes(_storage_type(field))]
        self._writer = _writer(self._new, schema, distinct)

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            fits = self._fitting(batch)
            if fits:
                piece = batch.slice(0, fits)
                self._pending.append(piece)
                self._pending_rows += fits
                self._pending_bytes += self._text_bytes(piece)
                batch = batch.slice(fits)
            if batch.num_rows:
                self._end_row_group()

    def _text_bytes(self, batch: pa.RecordBatch) -> int:
        return sum(_text_bytes(_storage(batch.column(i))) for i in self._texts)

    def _fitting(self, batch: pa.RecordBatch) -> int:
        """How many rows of `batch` still belong to the open row group; at least one if the group is empty."""
        left = min(ROW_GROUP_ROWS, SLICE_ROWS - self.rows % SLICE_ROWS) - self._pending_rows
        room: int = min(left, batch.num_rows)
        if self._pending_bytes + self._text_bytes(batch) <= ROW_GROUP_BYTES:
            return room
        import pyarrow.compute as pc  # a twentieth of a second that small rows do without

        sizes = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
        for i in self._texts:
            sizes = pc.add(sizes, pc.fill_null(pc.binary_length(_storage(batch.column(i))), 0))
        within = pc.less_equal(pc.cumulative_sum(sizes), ROW_GROUP_BYTES - self._pending_bytes)
        fits: int = pc.sum(within).as_py()
        return min(room, fits if self._pending_rows else max(fits, 1))

    def _end_row_group(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending)
            self._writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP_ROWS)
            self.rows += self._pending_rows
            self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end_row_group()
            if self._facts:
                self._writer.add_key_value_metadata(self._facts)
        self._writer.close()
        if kind is None:
            self.sha256 = sha256(self._new)
            os.replace(self._new, self._path)
        else:
            self._new.unlink(missing_ok=True)


def _writer(where: Path | BinaryIO, schema: pa.Schema, distinct: Collection[str]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        where,
        schema,
        compression="snappy",
        use_dictionary=[name for name in schema.names if name not in distinct],
        store_schema=True,
        write_page_checksum=True,
    )


class Retyped(NamedTuple):
    """The SHA-256 of a file and of its copy with another schema."""

    source: str
    copy: str


def retyped(
    source: Path,
    path: Path,
    schemas: tuple[pa.Schema, pa.Schema],
    distinct: Collection[str],
    facts: Mapping[str, str],
) -> Retyped | None:
    """Copy a file of the first schema that a DayWriter wrote to what it writes of the same rows with the second.

    The two differ in their footers only, where the second says of some columns that their texts are JSON: the pages are
    copied as they are. None, and nothing is written, where the schemas are not so alike, or the file is no such file.
    """
    ends = [_footer_ends(schema, tuple(sorted(distinct)), tuple(facts.items())) for schema in schemas]
    if not alike(*schemas) or None in ends:
        return None
    (old_head, old_tail), (head, tail) = (end for end in ends if end)
    with source.open("rb") as file:
        size = max(file.seek(0, os.SEEK_END) - _LENGTH, 0)
        file.seek(size)
        last = file.read()
        begin = file.seek(max(size - int.from_bytes(last[:-4], "little"), 0))
        footer = file.read(size - begin)
        if not footer.startswith(old_head) or not footer.endswith(old_tail) or last[-4:] != _MAGIC:
            return None
        new = head + footer[len(old_head) : len(footer) - len(old_tail)] + tail
        new += len(new).to_bytes(4, "little") + _MAGIC
        path.parent.mkdir(parents=True, exist_ok=True)
        pages = hashlib.sha256()
        file.seek(0)
        attempt = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with attempt.open("wb") as copy:
            while piece := file.read(min(_PIECE, begin - file.tell())):
                copy.write(piece)
                pages.update(piece)
            copy.write(new)
        os.replace(attempt, path)
    whole = pages.copy()
    pages.update(footer + last)
    whole.update(new)
    return Retyped(pages.hexdigest(), whole.hexdigest())


def alike(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether files of these schemas have the same pages."""
    return all(_storage_type(a) == _storage_type(b) for a, b in zip(one, other, strict=True))


# A Parquet file ends with its footer, the length of it and these letters.
_MAGIC = b"PAR1"
_LENGTH = 4 + len(_MAGIC)
_PIECE = 1 << 20

# What a footer says between the schema and the rest: no rows, in no row groups (Thrift's compact protocol).
_NO_ROWS = b"\x16\x00\x19\x0c"


@cache
def _footer_ends(
    schema: pa.Schema, distinct: tuple[str, ...], facts: tuple[tuple[str, str], ...]
) -> tuple[bytes, bytes] | None:
    """What stands in a footer before and after what it says of rows."""
    file = io.BytesIO()
    with _writer(file, schema, distinct) as writer:
        if facts:
            writer.add_key_value_metadata(dict(facts))
    content = file.getvalue()
    footer = content[-_LENGTH - int.from_bytes(content[-_LENGTH:-4], "little") : -_LENGTH]
    if footer.count(_NO_ROWS) != 1:
        return None  # a name in the schema may hold these bytes
    head, _, tail = footer.partition(_NO_ROWS)
    return head, tail


def _text_bytes(texts: pa.Array) -> int:
    """Bytes of all texts together, from the ends of Arrow's offsets; a NULL takes none."""
    if not len(texts):
        return 0
    offsets = memoryview(texts.buffers()[1]).cast("i")
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def _has_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _storage_type(field: pa.Field) -> pa.DataType:
    return field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type


def _storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def open_file(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    """The file at `path`. Raises DataError when it is missing, cut off or has other columns than `schema`."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        if file.schema_arrow.equals(schema):
            return file
        problem = "has other columns than the contract"
    except FileNotFoundError:
        problem = "is missing"
    except (pa.ArrowException, OSError):
        problem = "is damaged"
    bring = f"rm -f {quote(str(path))} && dvc checkout"
    raise DataError(
        f"the file {path} {problem}",
        where=str(path),
        expected="the file that the stage before wrote, unaltered",
        next_step=f"python -m commands.mend && {bring}; where that fails, dvc repro --force",
    )


def batches(file: pq.ParquetFile, batch_size: int) -> Iterator[pa.RecordBatch]:
    """The rows in order, at most `batch_size` at a time and never across row groups, so that memory stays bounded."""
    return (batch for _, batch in placed(file, batch_size, 0, None))


def placed(file: pq.ParquetFile, batch_size: int, begin: int, end: int | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The same of the rows from `begin` on and before `end`; each batch with the place of its first row."""
    place, last = 0, file.metadata.num_rows if end is None else end
    for group in range(file.num_row_groups):
        following = place + file.metadata.row_group(group).num_rows
        if following > begin and place < last:
            for batch in file.iter_batches(batch_size, row_groups=[group], use_threads=False):
                skip = max(begin - place, 0)
                some = batch.slice(skip, max(last - place - skip, 0))
                if some.num_rows:
                    yield place + skip, some
                place += batch.num_rows
        place = following
