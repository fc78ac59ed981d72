"""One Parquet file of several that hold its rows one after the other: the pages are copied, only the footer is new.

Each of them but the last ends where a DayWriter ends a row group whatever comes next. So the whole is byte for byte
what one DayWriter would have written. A footer is FileMetaData of parquet.thrift, in Thrift's compact protocol.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.core import progress
from pipeline.core.errors import DataError
from pipeline.files.layout import sha256

# A file begins and ends with these letters; before the last ones stands the length of the footer.
MAGIC = b"PAR1"
LENGTH = 4 + len(MAGIC)

# Bytes that are copied at a time.
PIECE = 1 << 20

# Numbers that are others in the whole: a place in the file, where 0 stands for none, and the number of a row group.
PLACE, GROUP = "place", "group"

# Where a RowGroup has such numbers, by the numbers of its fields: in each column, and in what that says of its pages.
_PAGES = {9: PLACE, 10: PLACE, 11: PLACE, 14: PLACE}
_ROW_GROUP = {1: {2: PLACE, 3: _PAGES, 4: PLACE, 6: PLACE}, 5: PLACE, 7: GROUP}

# Fields of FileMetaData: how many rows, and the row groups.
_ROWS, _GROUPS = 3, 4

# Kinds of fields. A boolean is its kind, and has no bytes of its own.
_BOOLEANS, _BYTE, _INTEGERS, _BINARY, _LIST, _STRUCT = (1, 2), 3, (4, 5, 6), 8, 9, 12

# A list of so many or more has its size apart.
_LONG = 15


class Pieces(NamedTuple):
    """Slices, in their order, and the file at `path` that is put together of them."""

    slices: tuple[Path, ...]
    path: Path


class Whole(NamedTuple):
    """What there is to say of a file that was put together."""

    rows: int
    sha256: str


def slice_path(path: Path, number: int) -> Path:
    """Where a slice of the file at `path` stands until then: beside the folders of tables; none has such a name."""
    day = path.parent
    return day.parent.with_name(".slices") / day.parent.name / day.name / f"{number:06}.parquet"


def put_together(pieces: Pieces) -> Whole:
    """Write the file. Its slices stay: another worker may have to do it again.

    Raises DataError when one of them is damaged.
    """
    slices, path = pieces
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    footers: list[_Footer] = []
    with attempt.open("wb") as file:
        file.write(MAGIC)
        for one in slices:
            with one.open("rb") as source:
                before = sum(len(footer.groups) for footer in footers)
                footer = _footer(one, source, {PLACE: file.tell() - len(MAGIC), GROUP: before})
                source.seek(len(MAGIC))
                while piece := source.read(min(PIECE, footer.begin - source.tell())):
                    file.write(piece)
            footers.append(footer)
        rows, groups = sum(footer.rows for footer in footers), [group for footer in footers for group in footer.groups]
        middle = b"\x16" + _signed(rows) + b"\x19" + _size_of_list(len(groups)) + b"".join(groups)
        content = footers[0].head + middle + footers[0].tail
        file.write(content + len(content).to_bytes(4, "little") + MAGIC)
    whole = Whole(rows, sha256(attempt))
    os.replace(attempt, path)
    progress.add(1)
    return whole


class _Footer(NamedTuple):
    """A footer: where it begins in its file, what stands before the number of rows, that, the row groups, the rest."""

    begin: int
    head: bytes
    rows: int
    groups: list[bytes]
    tail: bytes


def _footer(path: Path, source: BinaryIO, more: Mapping[str, int]) -> _Footer:
    """The footer of a file, with `more` added to the numbers of its row groups."""
    try:
        end = source.seek(-LENGTH, os.SEEK_END)
        last = source.read()
        begin = source.seek(end - int.from_bytes(last[:4], "little"))
        if last[4:] != MAGIC:
            raise ValueError(last)
        return _Thrift(source.read(end - begin), more).footer(begin)
    except (OSError, ValueError, IndexError):
        raise DataError(
            f"the file {path} is damaged",
            where=str(path),
            expected="the file that a worker wrote a moment ago",
            next_step="dvc repro, which begins again; if it stays, look at the disk and at the log of the file system",
        ) from None


class _Thrift:
    """Reads a footer, and copies what it reads."""

    def __init__(self, content: bytes, more: Mapping[str, int]) -> None:
        self._content, self._at, self._more = content, 0, more

    def footer(self, begin: int) -> _Footer:
        number = rows = 0
        head = b""
        while number < _GROUPS:
            at = self._at
            number, kind = self._field(number)
            if number == _ROWS:
                head, rows = self._content[:at], _from_signed(self._varint())
            elif number < _GROUPS:
                self._value(kind, None)
        groups = [self._value(_STRUCT, _ROW_GROUP) for _ in range(self._elements()[0])]
        return _Footer(begin, head, rows, groups, self._content[self._at :])

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _field(self, before: int) -> tuple[int, int]:
        """The number and the kind of the next field of a struct, after that with the number `before`; 0, 0: none."""
        if not (header := self._byte()):
            return 0, 0
        step = header >> 4
        return before + step if step else _from_signed(self._varint()), header & 0xF

    def _elements(self) -> tuple[int, int]:
        """How many the next list has, and of which kind."""
        header = self._byte()
        size = header >> 4
        return size if size < _LONG else self._varint(), header & 0xF

    def _value(self, kind: int, change: Any) -> bytes:
        """The bytes of a value. `change` says which number it is, or has the numbers in its fields."""
        begin = self._at
        if kind == _STRUCT:
            return self._struct(change or {})
        if kind == _LIST:
            size, of = self._elements()
            header = self._content[begin : self._at]
            return header + b"".join([self._value(of, change) for _ in range(size)])
        if kind in _INTEGERS:
            value = _from_signed(self._varint())
            if change == GROUP or (change == PLACE and value):
                return _signed(value + self._more[change])
        elif kind == _BINARY:
            length = self._varint()
            self._at += length
        elif kind == _BYTE:
            self._at += 1
        elif kind not in _BOOLEANS:
            raise ValueError(kind)  # no other stands in a footer
        return self._content[begin : self._at]

    def _struct(self, change: Mapping[int, Any]) -> bytes:
        found = []
        number, kind = 0, _STRUCT
        while kind:
            begin = self._at
            number, kind = self._field(number)
            found.append(self._content[begin : self._at])
            if kind:
                found.append(self._value(kind, change.get(number)))
        return b"".join(found)


def _from_signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _signed(value: int) -> bytes:
    """A whole number that is not negative: twice itself, seven bits a byte."""
    return _varint(value << 1)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _size_of_list(size: int) -> bytes:
    """The head of a list of structs."""
    return bytes([size << 4 | _STRUCT]) if size < _LONG else bytes([_LONG << 4 | _STRUCT]) + _varint(size)
