"""From a column as the database has it to one of the contract."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.adopt.found import FoundColumn
from schemas.types import Kind

# Types whose kind says all of them.
_PLAIN: dict[str, Kind] = {
    "text": "text",
    "jsonb": "json",
    "timestamp(3) without time zone": "timestamp",
    "date": "date",
    "integer": "int",
    "smallint": "smallint",
    "bigint": "bigint",
    "double precision": "float",
    "real": "real",
    "boolean": "bool",
    "uuid": "uuid",
    "bytea": "bytes",
}

# Types of which a kind has several, so that the contract names the one.
_NAMED: tuple[tuple[str, Kind], ...] = (
    (r"character varying(\(\d+\))?", "text"),
    (r"timestamp(\(\d\))? without time zone", "timestamp_us"),
    (r"timestamp(\(\d\))? with time zone", "timestamptz"),
    (r"time(\(\d\))? without time zone", "time"),
    (r"numeric", "decimal"),
)

_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")

# Elements whose list to_json() writes as they are.
_LISTED = re.compile(r"(text|character varying(\(\d+\))?|uuid|boolean|smallint|integer|bigint)\[\]")


class Holds(NamedTuple):
    """What a column of the contract says of its type."""

    kind: Kind
    enum: str | None = None
    digits: tuple[int, int] | None = None
    native: str | None = None


def holds(column: FoundColumn) -> Holds:
    native = column.native
    if native.endswith("[]"):
        listed = column.dimensions <= 1 and (column.typtype == "e" or _LISTED.fullmatch(native))
        return Holds("list" if listed else "other", native=native)
    if column.typtype == "e":
        return Holds("enum", enum=column.enum)
    if native in _PLAIN:
        return Holds(_PLAIN[native])
    if digits := _NUMERIC.fullmatch(native):
        return Holds("decimal", digits=(int(digits[1]), int(digits[2])))
    return Holds(next((kind for form, kind in _NAMED if re.fullmatch(form, native)), "other"), native=native)
