"""Every kind of column from PostgreSQL to DuckDB, day columns of every kind, with and without an index, and none."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.core.errors import PipelineError, RowsInvalidError
from schemas.rules import unique, valid_json
from schemas.table import Column, Table
from tests.helpers import Database, Project, outputs, rows_of_parquet, use

# Name, PostgreSQL's type, kind, and values as PostgreSQL reads them.
COLUMNS: list[tuple[str, str, str, list[str]]] = [
    ("varchar", "character varying(20)", "text", ["", "é\t\\N\n|", "NULL", "🧠", "x" * 20]),
    ("small", "smallint", "smallint", ["-32768", "0", "32767"]),
    ("single", "real", "real", ["0.1", "-0", "NaN", "Infinity", "1.17549435e-38", "1e-45", "16777217", "3.4028235e38"]),
    ("double", "double precision", "float", ["0.1", "-0", "NaN", "-Infinity", "5e-324", "0.30000000000000004"]),
    ("flag", "boolean", "bool", ["true", "false"]),
    ("wide", "bigint", "bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("money", "numeric(12,4)", "decimal", ["-0.0001", "99999999.9999", "0", "1.5"]),
    ("bare", "numeric", "decimal", ["1e-30", "123456789012345678901234567890.123456789", "NaN", "0.10"]),
    ("day", "date", "date", ["0001-01-01", "1969-12-31", "2000-02-29", "9999-12-31"]),
    ("clock", "time(6) without time zone", "time", ["00:00:00", "23:59:59.999999", "12:30:00.5"]),
    ("micro", "timestamp(6) without time zone", "timestamp_us", ["1969-12-31 23:59:59.999999", "0001-01-01"]),
    ("seconds", "timestamp(0) without time zone", "timestamp_us", ["2025-10-26 02:30:00", "9999-12-31 23:59:59"]),
    ("zone", "timestamp(6) with time zone", "timestamptz", ["2025-10-26 02:30:00.000001+02", "1960-01-01 00:00-11:30"]),
    ("uuid", "uuid", "uuid", ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-4fff-8fff-ffffffffffff"]),
    ("bytes", "bytea", "bytes", ["\\x", "\\x00ff5c0a097f", "\\xdeadbeef"]),
    ("tags", "text[]", "list", ["{}", '{a,NULL,"",NULL}', '{"a,b","{x}","\\"q\\"","\\t\\\\"}', '{"\x01","🧠","NULL"}']),
    ("numbers", "integer[]", "list", ["{1,-2,NULL}", "{}"]),
    ("flags", "boolean[]", "list", ["{t,f,NULL}"]),
    ("inet", "inet", "other", ["10.0.0.1", "10.0.0.1/24", "::1/128"]),
    ("padded", "character(4)", "other", ["ab", "", "abcd"]),
    ("plain_json", "json", "other", ['{"b": 1,  "a": [1.0, 1e5]}', "null"]),
    ("span", "interval", "other", ["1 mon -2 days 03:04:05.000006", "-1 year"]),
    ("bits", "bit varying(9)", "other", ["", "101"]),
    ("range", "int4range", "other", ["[1,5)", "empty"]),
    ("zone_time", "time with time zone", "other", ["12:00:00+05:30"]),
]  # fmt: skip

# Whose kind says PostgreSQL's type.
PLAIN = ("smallint", "real", "double precision", "boolean", "bigint", "date", "uuid", "bytea")

EVERYTHING = Table(
    name="Everything",
    description="One row has a value of each type.",
    columns=(
        Column("id", "uuid", "The row.", False, (unique(),)),
        Column("at", "timestamp", "When.", False),
        *(
            Column(
                name,
                kind,  # type: ignore[arg-type]
                "One of many.",
                rules=(valid_json(),) if kind == "list" else (),
                native=None if native in PLAIN else native,
                digits=(12, 4) if name == "money" else None,
            )
            for name, native, kind, _ in COLUMNS
        ),
    ),
    order=("at", "id"),
    key="id",
    time="at",
)  # fmt: skip


def create(db: Database, table: Table, types: dict[str, str], schema: str = "public") -> None:
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in types.items())
    db.run(f'CREATE TABLE "{schema}"."{table.name}" ({columns})')


@pytest.fixture
def everything(db: Database, monkeypatch: pytest.MonkeyPatch) -> Table:
    use(monkeypatch, EVERYTHING)
    types = {"id": "uuid DEFAULT gen_random_uuid()", "at": "timestamp(3)"} | {
        name: native for name, native, *_ in COLUMNS
    }
    create(db, EVERYTHING, types)
    most = max(len(values) for *_, values in COLUMNS)
    for n in range(most):
        for missing in (False, True):  # each value beside NULLs and beside others
            row = {
                name: values[n % len(values)] for name, _, _, values in COLUMNS if not (missing and n >= len(values))
            }
            names = ", ".join(f'"{name}"' for name in row)
            db.run(
                f'INSERT INTO "Everything" (at, {names}) VALUES (%s{", %s" * len(row)})',
                [f"2025-10-{26 + n % 2} 10:00:00.{n:03}", *row.values()],
            )
    return EVERYTHING


# What psycopg2 reads is PostgreSQL's own; these types it hands on as text, or as what says less than the text.
AS_TEXT = {"bare", "uuid", "id", "inet", "padded", "plain_json", "span", "bits", "range", "zone_time"}


def oracle(db: Database) -> list[dict[str, Any]]:
    """The rows as PostgreSQL has them, by psycopg2: lists as Python lists, bytes as bytes."""
    names = EVERYTHING.names
    columns = ", ".join(f'"{name}"::text' if name in AS_TEXT else f'"{name}"' for name in names)
    rows = db.run(f'SELECT {columns} FROM "Everything" ORDER BY at, id')
    return [{name: plain(value, name) for name, value in zip(names, row, strict=True)} for row in rows]


def plain(value: Any, name: str) -> Any:
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC)
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack("f" if name == "single" else "d", value)
    return value


def as_python(name: str, value: Any) -> Any:
    """A value of the files: lists are JSON."""
    kind = EVERYTHING.column(name).kind
    return json.loads(value) if kind == "list" and value is not None else plain(value, name)


def test_every_value_is_the_same_in_postgresql_the_files_and_duckdb(
    db: Database, project: Project, everything: Table
) -> None:
    project.all()
    wanted = oracle(db)
    assert len(wanted) == 16
    for folder in (project.paths.raw, project.paths.export):
        found = rows_of_parquet(folder / "Everything")
        for one, row in zip(wanted, found, strict=True):
            mine = {name: as_python(name, value) for name, value in zip(everything.names, row, strict=True)}
            if folder == project.paths.raw and mine["money"] is not None:
                mine["money"] = Decimal(mine["money"])
            assert mine == one
    with duckdb.connect(str(project.paths.database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f'"{n}"::VARCHAR' if n in ("bare", "tags") else f'"{n}"' for n in everything.names)
        rows = connection.execute(f'SELECT {columns} FROM "Everything" ORDER BY "at", id').fetchall()
        for one, row in zip(wanted, rows, strict=True):
            assert {n: as_python(n, v) for n, v in zip(everything.names, row, strict=True)} == one
        types = dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'Everything'"
            ).fetchall()
        )
    for column in everything.columns:
        assert types[column.name] == column.type.duckdb, column.name


@pytest.mark.parametrize(
    "setting", ["TimeZone = 'Asia/Kathmandu'", "extra_float_digits = 0", "bytea_output = 'escape'"]
)
def test_no_setting_of_the_database_changes_a_byte(
    db: Database, project: Project, everything: Table, setting: str
) -> None:
    project.all()
    before = outputs(project)
    db.run(f"ALTER DATABASE {db.name} SET {setting}")
    project.refresh(full=True)
    project.run()
    assert outputs(project) == before


@pytest.mark.parametrize("value", ["{{a,b},{c,d}}", "[2:3]={a,b}"], ids=["two dimensions", "from another index"])
def test_a_list_that_json_can_not_tell_is_refused(
    db: Database, project: Project, everything: Table, value: str
) -> None:
    """Set aside whole, and never made another list."""
    db.run("INSERT INTO \"Everything\" (at, tags) VALUES ('2025-10-27', %s)", [value])
    with pytest.raises(RowsInvalidError, match=r"tags\.json_valid"):
        project.all()
    project.set(validate__mode="quarantine")
    project.run()
    (row,) = rows_of_parquet_file(project.paths.quarantined("Everything"))
    assert row["tags"] == value


def rows_of_parquet_file(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", "infinity"),
        ("day", "0001-01-01 BC"),
        ("micro", "-infinity"),
        ("micro", "0044-03-15 BC"),
        ("zone", "infinity"),
        ("clock", "24:00:00"),
        ("money", "NaN"),
    ],
    ids=str,
)
def test_what_has_no_equal_ends_with_an_error_and_nothing_is_published(
    db: Database, project: Project, everything: Table, column: str, value: str
) -> None:
    db.run(f'INSERT INTO "Everything" (at, "{column}") VALUES (%s, %s)', ["2025-10-27", value])
    with pytest.raises(PipelineError) as caught:
        project.all()
    assert all(word in str(caught.value) for word in ("where:", "expected:", "next:"))
    print("MSG", str(caught.value))
    assert column in str(caught.value) or "infinit" in str(caught.value)
    assert not project.paths.export.exists()
