"""The digest of a day's content: PostgreSQL computes it of its rows, DuckDB of the file's, and both have to agree.

So a pin does not only tell whether the source has moved; it proves that a file holds what the source held. It is the
sum of 64-bit hashes of the rows (the last 16 digits of MD5), modulo 2^64, as 16 hex digits: the same in any order, on a
replica, a restored backup or another version of PostgreSQL. A sum, because in an XOR two rows that are the same would
cancel out. MD5, because it is the fastest hash that both have (1,000,000 rows on 2 cores: PostgreSQL 1.25 s, against
1.65 s with SHA-256, and 0.7 s with its own record hash, which nobody else can compute; DuckDB 0.6 s); it is no defence
against somebody who wants to deceive.
"""

from __future__ import annotations

from decimal import Decimal

from schemas.contract import COLUMNS, Kind

_MODULUS = 2**64


def row_text(milliseconds: str, octets: str) -> str:
    """SQL of one text for a row, which no other row of other values has; in PostgreSQL's dialect and in DuckDB's.

    In it stand which columns are NULL (a bit each), then all others: the instant as milliseconds since 1970, numbers,
    the number of bytes of each text, enums by name, texts, and JSON as its text, because a spelling counts. The numbers
    of bytes keep neighbours from passing a character to each other unseen. `milliseconds` and `octets` are the
    dialect's words for both, with {} for the column.
    """

    def every(words: str, *kinds: Kind) -> list[str]:
        return [words.format(f'"{column.name}"') for column in COLUMNS if column.kind in kinds]

    nulls = " + ".join(f'("{column.name}" IS NULL)::int * {1 << n}' for n, column in enumerate(COLUMNS))
    values = [*every(milliseconds, "timestamp"), *every("{}", "int"), *every(octets, "text"), *every("{}", "enum")]
    return f"concat_ws(chr(31), {', '.join([nulls, *values, *every('{}', 'text'), *every('{}', 'json')])})"


def hexadecimal(total: int | Decimal | None) -> str:
    """The sum of a day's hashes, signed or not (None for no rows), as 16 hex digits."""
    return f"{int(total or 0) % _MODULUS:016x}"
