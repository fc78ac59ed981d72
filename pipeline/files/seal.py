"""Parquet files that vouch for themselves: where their rows come from and a checksum, both in their own footer.

So whether a file is still what it should be needs no second place that could be lost or disagree with it. Sealed files
are read with `SELECT * FROM parquet_kv_metadata('FILE')` like any other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

from pipeline.core.errors import DataError
from pipeline.files.layout import day_path, days_in

CHECKSUM = "pipeline.sha256"
# Files read side by side; hashing leaves Python's lock alone.
THREADS = 2

# What the checksum is computed over in place of itself.
BLANK = "0" * 64

# A key of the footer and the head of its value: a string (0x18) of 64 bytes. Thrift's compact protocol, in which
# Parquet writes its footers.
_MARK = CHECKSUM.encode() + b"\x18\x40"


Found = TypeVar("Found")


class Sealed(NamedTuple):
    """What an intact file says of itself."""

    rows: int
    sha256: str
    facts: Mapping[str, str]


def seal(path: Path) -> str:
    """Put the checksum of the whole file in the place of the BLANK that was written under CHECKSUM, and return it."""
    with open(path, "r+b") as file:
        place = _place(file)
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest.encode())
    return digest


def checksum(path: Path) -> str | None:
    """The checksum in the file at `path`; None when it is missing, cut off, altered in any byte or not sealed."""
    try:
        with open(path, "rb") as file:
            place = _place(file)
            file.seek(place)
            claimed = file.read(len(BLANK)).decode("ascii")
            return claimed if _digest(file, place) == claimed else None
    except (OSError, ValueError, struct.error):
        return None


def read(path: Path) -> Sealed | None:
    """What the file at `path` says of itself; None where `checksum` finds none."""
    import pyarrow as pa  # a tenth of a second for those to whom checksums are enough
    import pyarrow.parquet as pq

    claimed = checksum(path)
    if claimed is None:
        return None
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None
    facts = {key.decode(): value.decode() for key, value in metadata.metadata.items() if key.startswith(b"pipeline.")}
    return Sealed(metadata.num_rows, claimed, facts)


def sealed_days(root: Path) -> dict[date, Sealed]:
    """The days under `root`, oldest first, and what their files say. Raises DataError that names a damaged file."""
    return _intact(root, read)


def checksums(root: Path) -> dict[date, str]:
    """The days under `root`, oldest first, and their files' checksums. Raises DataError that names a damaged file."""
    return _intact(root, checksum)


def _intact(root: Path, read: Callable[[Path], Found | None]) -> dict[date, Found]:
    days = {}
    for day, found in _read_all(root, days_in(root), read).items():
        if found is None:
            raise DataError(
                f"the file {day_path(root, day)} is damaged: its bytes are not those of its checksum",
                where=str(day_path(root, day)),
                expected="the file that the stage before wrote, unaltered",
                # Not dvc checkout alone: to DVC a file of the same size and time is the same file.
                next_step=f"rm {day_path(root, day)} && dvc checkout {root}, or dvc repro --force",
            )
        days[day] = found
    return days


def unchanged(root: Path, wanted: Mapping[date, Mapping[str, str]]) -> dict[date, Sealed]:
    """Of the days in `wanted` those whose file is intact and says just that of itself, with all that it says."""
    files = _read_all(root, wanted, read)
    return {day: file for day, file in files.items() if file and file.facts.items() >= wanted[day].items()}


def _read_all(root: Path, days: Iterable[date], read: Callable[[Path], Found]) -> dict[date, Found]:
    wanted = list(days)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(wanted, pool.map(read, [day_path(root, day) for day in wanted]), strict=True))


def digest_of(checksums: Mapping[date, str]) -> str:
    """One SHA-256 for a folder: over its days and the checksums of their files."""
    return hashlib.sha256("".join(f"{day} {sha}\n" for day, sha in sorted(checksums.items())).encode()).hexdigest()


def _place(file: BinaryIO) -> int:
    """Where the checksum stands; ValueError when there is none."""
    size = file.seek(-8, 2) + 8
    length, magic = cast(tuple[int, bytes], struct.unpack("<I4s", file.read(8)))
    begin = size - 8 - length
    if magic != b"PAR1" or begin < 4:
        raise ValueError("no Parquet file")
    file.seek(begin)
    # The last one: statistics, which may hold any text of a row, come before the keys.
    mark = file.read(length).rfind(_MARK)
    if mark < 0:
        raise ValueError("not sealed")
    return begin + mark + len(_MARK)


def _digest(file: BinaryIO, place: int) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(file, 0, place):
        digest.update(piece)
    digest.update(BLANK.encode())
    for piece in _pieces(file, place + len(BLANK), None):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: BinaryIO, begin: int, end: int | None) -> Iterator[bytes]:
    file.seek(begin)
    left = end - begin if end is not None else None
    while left is None or left:
        piece = file.read(min(1 << 20, left) if left is not None else 1 << 20)
        if not piece:
            return
        left = left - len(piece) if left is not None else None
        yield piece
