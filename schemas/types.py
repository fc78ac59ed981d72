"""The kinds of columns: what each is called in every system, and how PostgreSQL and DuckDB spell a value alike.

The only table of types in the project.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "text",
    "enum",
    "json",
    "timestamp",
    "timestamp_us",
    "timestamptz",
    "date",
    "time",
    "int",
    "smallint",
    "bigint",
    "float",
    "real",
    "bool",
    "decimal",
    "uuid",
    "bytes",
    "list",
    "other",
]

# The most digits that Arrow's decimal128 and DuckDB's DECIMAL hold.
MAX_DIGITS = 38


class Type(NamedTuple):
    """One kind of column. `raw` and `export` are the Arrow types in data/raw and data/export.

    `in_postgres` and `in_duckdb` are SQL of the value as digests compare it, with {} for the column. Two different
    values never have the same one, and none holds the character 31, but for kinds in FREE. `sent` is SQL of what COPY
    sends, where PostgreSQL's own text is not what Arrow reads, or not what is hashed.
    """

    prisma: str
    postgres: str
    raw: str
    export: str
    duckdb: str
    in_postgres: str = "{}"
    in_duckdb: str = "{}"
    sent: str = "{}"


# extract() gives a numeric, which is exact, where date_part() gives a float.
_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"

# A list that JSON can't tell from another one, by more dimensions or another first index, as PostgreSQL writes it: then
# it is no JSON, which the rule json_valid finds.
_LIST = "CASE WHEN array_ndims({0}) > 1 OR array_lower({0}, 1) <> 1 THEN {0}::text ELSE to_json({0})::text END"

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
    # Of another precision than 3, or with a time zone; these hold microseconds.
    "timestamp_us": Type(
        "DateTime @db.Timestamp(p)",
        "timestamp(p) without time zone",
        "timestamp[us]",
        "timestamp[us]",
        "TIMESTAMP",
        in_postgres=_MICROSECONDS,
        in_duckdb="epoch_us({})",
    ),
    "timestamptz": Type(
        "DateTime @db.Timestamptz(p)",
        "timestamp(p) with time zone",
        "timestamp[us, tz=UTC]",
        "timestamp[us, tz=UTC]",
        "TIMESTAMP WITH TIME ZONE",
        in_postgres=_MICROSECONDS,
        in_duckdb="epoch_us({})",
    ),
    "date": Type(
        "DateTime @db.Date",
        "date",
        "date32",
        "date32",
        "DATE",
        in_postgres="({} - date '1970-01-01')",
        in_duckdb="({} - DATE '1970-01-01')",
    ),
    "time": Type(
        "DateTime @db.Time(p)",
        "time(p) without time zone",
        "time64[us]",
        "time64[us]",
        "TIME",
        in_postgres=_MICROSECONDS,
        in_duckdb="epoch_us({})",
    ),
    "smallint": Type("Int @db.SmallInt", "smallint", "int16", "int16", "SMALLINT"),
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
    "real": Type(
        "Float @db.Real",
        "real",
        "float",
        "float",
        "FLOAT",
        in_postgres="encode(float4send(CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE {0} END), 'hex')",
        in_duckdb="lower(hex((CASE WHEN isnan({0}) THEN 'NaN'::FLOAT ELSE {0} END)::BIT::BLOB))",
    ),
    "bool": Type("Boolean", "boolean", "bool", "bool", "BOOLEAN", in_postgres="{}::int", in_duckdb="{}::INTEGER"),
    # Of a column with few enough digits; see decimal().
    "decimal": Type("Decimal", "numeric", "string", "string", "VARCHAR", "{}::text", "{}::VARCHAR"),
    "uuid": Type("String @db.Uuid", "uuid", "string", "string", "VARCHAR", "{}::text"),
    "bytes": Type(
        "Bytes", "bytea", "binary", "binary", "BLOB", "encode({}, 'hex')", "lower(hex({}))", "encode({}, 'hex')"
    ),
    "list": Type("T[]", "T[]", "string", "json", "JSON", _LIST, "{}::VARCHAR", _LIST),
    # Whatever else PostgreSQL has, as PostgreSQL writes it.
    "other": Type("Unsupported", "any", "string", "string", "VARCHAR", "{}::text", sent="{}::text"),
}

# Kinds whose value may hold any character. A digest names their lengths. jsonb's text escapes control characters.
FREE: frozenset[Kind] = frozenset({"text", "enum", "list", "other"})

# Kinds that PostgreSQL can't sort, or sorts by the database's collation. Their text is sorted in byte order.
SORTED_AS_TEXT: frozenset[Kind] = frozenset({"text", "list", "other"})

# Kinds by whose UTC day rows can be filed, and SQL of DuckDB for the instant, UTC without a zone.
INSTANTS: dict[Kind, str] = {
    "timestamp": "{}",
    "timestamp_us": "{}",
    "timestamptz": "make_timestamp(epoch_us({}))",
    "date": "{}::TIMESTAMP",
}


def decimal(digits: int, scale: int) -> Type:
    """numeric(digits, scale). It is a text in data/raw, and in data/export where DECIMAL does not hold it exactly.

    DuckDB writes numeric(38, 38) without the 0 before the point, so a column of fractions only stays a text, too.
    """
    fits = 0 <= scale < digits <= MAX_DIGITS
    export, duckdb = (f"decimal128({digits}, {scale})", f"DECIMAL({digits},{scale})") if fits else ("string", "VARCHAR")
    return TYPES["decimal"]._replace(postgres=f"numeric({digits},{scale})", export=export, duckdb=duckdb)
