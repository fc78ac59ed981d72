"""The kinds of columns: what each is called in every system, and how PostgreSQL and DuckDB spell a value alike.

The only table of types in the project.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["text", "enum", "json", "timestamp", "int", "bigint", "float", "bool", "decimal"]

# The most digits that Arrow's decimal128 and DuckDB's DECIMAL hold.
MAX_DIGITS = 38


class Type(NamedTuple):
    """One kind of column. `raw` and `export` are the Arrow types in data/raw and data/export.

    `in_postgres` and `in_duckdb` are SQL of the value as digests compare it, with {} for the column. Two different
    values never have the same one, and none holds the character 31, but for kinds in FREE.
    """

    prisma: str
    postgres: str
    raw: str
    export: str
    duckdb: str
    in_postgres: str = "{}"
    in_duckdb: str = "{}"


# Floats by their bits, because PostgreSQL and DuckDB do not always write the same text for one. All NaNs count as one
# value, since COPY sends all of them as NaN. JSON by its text: another spelling of the same JSON is another value.
TYPES: dict[Kind, Type] = {
    "text": Type("String", "text", "string", "string", "VARCHAR"),
    "enum": Type("enum", "enum", "string", "string", "VARCHAR"),
    "json": Type("Json", "jsonb", "string", "json", "JSON", in_duckdb="{}::VARCHAR"),
    "timestamp": Type(
        "DateTime",
        "timestamp(3) without time zone",
        "timestamp[ms]",
        "timestamp[ms]",
        "TIMESTAMP",
        in_postgres="(date_part('epoch', {}) * 1000)::bigint",
        in_duckdb="epoch_ms({})",
    ),
    "int": Type("Int", "integer", "int32", "int32", "INTEGER"),
    "bigint": Type("BigInt", "bigint", "int64", "int64", "BIGINT"),
    "float": Type(
        "Float",
        "double precision",
        "double",
        "double",
        "DOUBLE",
        in_postgres="encode(float8send(CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE {0} END), 'hex')",
        in_duckdb="lower(hex((CASE WHEN isnan({0}) THEN 'NaN'::DOUBLE ELSE {0} END)::BIT::BLOB))",
    ),
    "bool": Type("Boolean", "boolean", "bool", "bool", "BOOLEAN", in_postgres="{}::int", in_duckdb="{}::INTEGER"),
    # Of a column with few enough digits; see decimal().
    "decimal": Type("Decimal", "numeric", "string", "string", "VARCHAR", "{}::text", "{}::VARCHAR"),
}

# Kinds whose value may hold any character. A digest names their lengths. jsonb's text escapes control characters.
FREE: frozenset[Kind] = frozenset({"text", "enum"})


def decimal(digits: int, scale: int) -> Type:
    """numeric(digits, scale). It is a text in data/raw, and in data/export where DECIMAL does not hold it exactly.

    DuckDB writes numeric(38, 38) without the 0 before the point, so a column of fractions only stays a text, too.
    """
    fits = 0 <= scale < digits <= MAX_DIGITS
    export, duckdb = (f"decimal128({digits}, {scale})", f"DECIMAL({digits},{scale})") if fits else ("string", "VARCHAR")
    return TYPES["decimal"]._replace(postgres=f"numeric({digits},{scale})", export=export, duckdb=duckdb)
