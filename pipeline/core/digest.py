"""The digest of rows. PostgreSQL computes it of a day's rows, DuckDB of the day's file, and both have to agree.

So a pin does not only tell whether the source has moved; it proves that a file holds what the source held. It is the
sum of 64-bit hashes of the rows (the last 16 digits of MD5), modulo 2^64, as 16 hex digits: the same in any order, on a
replica, a restored backup or another version of PostgreSQL. A sum, because in an XOR two equal rows would cancel out.
MD5, because it is the fastest hash that both have (1,000,000 rows on 2 cores: PostgreSQL 1.25 s, against 1.65 s with
SHA-256, and 0.7 s with its own record hash, which nobody else can compute; DuckDB 0.6 s). It is no defence against
somebody who wants to deceive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from schemas.table import Column
from schemas.types import FREE

_MODULUS = 2**64

# PostgreSQL's concat_ws takes 100 arguments, the separator among them.
_MAX_ARGUMENTS = 90
# NULLs that one integer of 32 bits tells apart.
_BITS = 30


class Pin(NamedTuple):
    """The rows of one table and UTC day, and the digest of their content."""

    rows: int
    digest: str


EMPTY = Pin(0, "0" * 16)


def pin(rows: int, total: int | Decimal | None) -> Pin:
    """The pin of `rows` whose hashes have the sum `total`, signed or not; None for no rows."""
    return Pin(rows, f"{int(total or 0) % _MODULUS:016x}")


def total(pins: Iterable[Pin]) -> Pin:
    """The pin of the rows of all: a sum, as each of them is."""
    some = list(pins)
    return pin(sum(one.rows for one in some), sum(int(one.digest, 16) for one in some))


def row_text(columns: Sequence[Column], value: Callable[[Column], str], octets: str) -> str:
    """SQL for the text of a row. Rows with different values have different texts.

    `value` gives the SQL of a column's value, `octets` the SQL for the number of bytes of a text, with {} for the
    column. The text holds, in this order: which columns are NULL, the values that can't hold the separator, the number
    of bytes of each free text, the free texts. The numbers of bytes tell where one free text ends and the next begins.
    """
    groups = [columns[n : n + _BITS] for n in range(0, len(columns), _BITS)]
    nulls = [" + ".join(f"({c.quoted} IS NULL)::int * {1 << n}" for n, c in enumerate(group)) for group in groups]
    fixed = [value(column) for column in columns if column.kind not in FREE]
    free = [column for column in columns if column.kind in FREE]
    return _concatenated([*nulls, *fixed, *(octets.format(value(column)) for column in free), *map(value, free)])


def _concatenated(parts: list[str]) -> str:
    while len(parts) > _MAX_ARGUMENTS:
        parts = [_concatenated(parts[n : n + _MAX_ARGUMENTS]) for n in range(0, len(parts), _MAX_ARGUMENTS)]
    return f"concat_ws(chr(31), {', '.join(parts)})"
