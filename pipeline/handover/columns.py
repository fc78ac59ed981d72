"""A table as it was in files of long ago: with their columns, told in the words that the contract has today."""

from __future__ import annotations

import pyarrow as pa

from schemas.table import Column, Table
from schemas.types import Kind

KINDS: tuple[tuple[pa.DataType, Kind], ...] = (
    (pa.json_(), "json"),
    (pa.timestamp("ms"), "timestamp"),
    (pa.timestamp("us"), "timestamp_us"),
    (pa.timestamp("us", "UTC"), "timestamptz"),
    (pa.date32(), "date"),
    (pa.time64("us"), "time"),
    (pa.int16(), "smallint"),
    (pa.int32(), "int"),
    (pa.int64(), "bigint"),
    (pa.float64(), "float"),
    (pa.float32(), "real"),
    (pa.bool_(), "bool"),
    (pa.binary(), "bytes"),
)

UNKNOWN = "Not described: today's contract does not have it."


def as_in(table: Table, schema: pa.Schema) -> Table:
    """`table` with the columns of `schema`, in their order. Rules and words of a column of another type are dropped."""
    now = {field.name: (column, field.type) for column, field in _pairs(table)}
    columns = []
    for field in schema:
        known, kind = now.get(field.name, (None, None))
        columns.append(known if known is not None and kind == field.type else _unknown(field, known))
    names = {column.name for column in columns}
    return table._replace(
        columns=tuple(columns),
        type=table.type if table.type in names else None,
        user=table.user if table.user in names else None,
        references=tuple(one for one in table.references if one[0] in names),
        rules=tuple(rule for rule in table.rules if set(rule.columns) <= names),
    )


def _pairs(table: Table) -> list[tuple[Column, pa.Field]]:
    return list(zip(table.columns, table.arrow_schema("export"), strict=True))


def _unknown(field: pa.Field, known: Column | None) -> Column:
    kind: Kind = next((kind for of, kind in KINDS if of == field.type), "text")
    digits = None
    if pa.types.is_decimal(field.type):
        kind, digits = "decimal", (field.type.precision, field.type.scale)
    # What is not described may be what people type.
    free = known.free if known is not None else kind == "text"
    pseudonym = known.pseudonym if known is not None else None
    words = known.description if known is not None else UNKNOWN
    return Column(field.name, kind, words, free=free, pseudonym=pseudonym, digits=digits)
