"""What was adopted goes through all stages, in a clone; and the commands of docs/your-tables.md."""

from __future__ import annotations

import math
import runpy
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from schemas.table import Column, Table
from tests.docs import blocks, run_console, run_shell, with_venv
from tests.fix_adopt import TYPES, Home
from tests.helpers import USER_A, Clone, Database, Project, use

ROWS = """
INSERT INTO users (id, "createdAt", plan, email) VALUES
    (1, '2025-10-27', 'it''s', 'a'), (2, '2025-10-26 23:59', 'free', 'b');
INSERT INTO visit_log VALUES ('c1', '2025-10-27 10:00', now(), '{"a": [1, null]}', '/', E'tab\tand \\N', 1),
    ('c2', '2025-10-26 10:00', now(), NULL, 'ü', NULL, 2), ('old', '2020-01-01', now(), '1', '/', NULL, NULL);
INSERT INTO api_key (created_at, user_id, secret) VALUES
    ('2025-10-27 23:59:59.999999+00', gen_random_uuid(), '\\x00ff'), ('2025-10-28 00:30+02', NULL, NULL);
INSERT INTO "UserAccess" VALUES ('o1', 'u1', '2025-10-27'), ('o1', 'u2', '2025-10-27'), ('o2', 'u1', '2025-10-26');
INSERT INTO "Setting" VALUES ('a', '{}'), ('b', 'null');
INSERT INTO log VALUES ('2025-10-27', 'x'), ('2025-10-27', 'x'), ('2025-10-26', NULL);
INSERT INTO "class" VALUES ('t1', 'me', '2030-01-01'), ('t2', 'me', '2030-01-01');
INSERT INTO "2fa-codes" (id, code, seen_at) VALUES (1, 'ab', '2025-10-27'), (2, NULL, '2025-10-27 12:00');
INSERT INTO "Other one".logins VALUES (1, 'u1', '2025-10-27 12:00+00'), (2, NULL, '2025-10-27 01:00+02');
INSERT INTO parts VALUES (1, '2025-10-27 12:00+00'), (2, '2025-10-26 12:00+00');
INSERT INTO odd VALUES (1, 'a', 'k1', 'left out', 'left out', 'left out', NULL), (NULL, NULL, 'k2', '', '', '', 'x');
REFRESH MATERIALIZED VIEW pages;
"""

# Two values of each type of TYPES, as PostgreSQL reads them; a third row has none.
VALUES = {
    "text": (r"\N", "ä'\"\t\n"),
    "character varying": ("", " "),
    "character varying(7)": ("NULL", "日本"),
    "jsonb": ("null", '{"b": 1e400, "a": "\\u2028"}'),
    "timestamp(3) without time zone": ("1969-12-31 23:59:59.999", "9999-12-31"),
    "timestamp without time zone": ("0001-01-01", "2025-10-27 00:00:00.000001"),
    "timestamp(6) without time zone": ("1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
    "timestamp with time zone": ("2025-03-30 02:30+01", "1900-01-01 00:00+00"),
    "timestamp(3) with time zone": ("2025-10-27 00:00:00.001-08", "0002-01-01 00:00+00"),
    "date": ("0001-01-01", "9999-12-31"),
    "time without time zone": ("00:00", "23:59:59.999999"),
    "time(3) without time zone": ("12:00:00.001", "01:00"),
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "0"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "real": ("-0", "1e-45"),
    "double precision": ("NaN", "-Infinity"),
    "boolean": ("t", "f"),
    "numeric": ("NaN", "123456789012345678901234567890.000000001"),
    "numeric(10,2)": ("-99999999.99", "0"),
    "numeric(65,30)": ("-0.000000000000000000000000000001", "12345"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"),
    "bytea": ("\\x", "\\x00ff5c"),
    "text[]": ("{}", r'{"a,b","\"q\"",NULL,"NULL","\\"}'),
    "character varying(7)[]": ("{ä}", "{NULL}"),
    "bigint[]": ("{9223372036854775807,-1}", "{}"),
    "uuid[]": ("{00000000-0000-0000-0000-000000000001}", "{}"),
    "boolean[]": ("{t,f,NULL}", "{}"),
    "jsonb[]": (r'{"{\"a\": 1}","null"}', "{}"),
    "double precision[]": ("{0.1,NaN,-0,1e300}", "{{1,2},{3,4}}"),
    "character(5)": ("ab", ""),
    "json": ('{"a" :1, "a":2}', "[]"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "inet": ("10.0.0.1/8", "::1"),
    "macaddr": ("08:00:2b:01:02:03", "00:00:00:00:00:00"),
    "interval": ("1 mon -3 days 04:05:06.000007", "-1 year"),
    "time with time zone": ("12:00+02", "24:00:00-15:59"),
    "bit varying(9)": ("101", ""),
    "tsvector": ("'a':1 'b':2", ""),
    "int4range": ("[1,5)", "empty"),
    "point": ("(1,-0.1)", "(NaN,Infinity)"),
}


def canonical(value: Any) -> Any:
    """A value by which psycopg2's and DuckDB's can be compared: floats by their bits, instants in UTC."""
    match value:
        case float():
            return "NaN" if math.isnan(value) else struct.pack(">d", value)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        case memoryview():
            return bytes(value)
        case Decimal():
            return format(value, "f")
    return value


def in_postgresql(db: Database, table: Table) -> list[tuple[Any, ...]]:
    """The rows of two days, as psycopg2 reads them; what it would take apart, as PostgreSQL writes it."""

    def read(column: Column) -> str:
        if column.kind == "list":
            return f"to_json({column.quoted})::text"
        text = column.kind in ("json", "other") or (column.kind == "decimal" and column.type.duckdb == "VARCHAR")
        cast = "::text" if text else "::float8" if column.kind == "real" else ""  # the text of a real is rounded
        return f"{column.quoted}{cast}"

    days = f"WHERE {table.column(table.time).quoted} >= '2025-10-26'" if table.time else ""
    where = f'"{table.schema or "public"}"."{table.name}" {days}'
    db.run(f"ALTER DATABASE {db.name} SET timezone = 'UTC'")
    return normal(db.run(f"SELECT {', '.join(map(read, table.columns))} FROM {where}"))


def in_duckdb(database: Path, table: Table) -> list[tuple[Any, ...]]:
    def read(column: Column) -> str:
        return f"{column.quoted}{'::VARCHAR' if column.type.duckdb == 'JSON' else ''}"

    with duckdb.connect(str(database), read_only=True, config={"file_search_path": str(database.parent.parent)}) as own:
        return normal(own.execute(f'SELECT {", ".join(map(read, table.columns))} FROM "{table.name}"').fetchall())


def normal(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(map(canonical, row)) for row in rows), key=repr)


NAMES = ("users", "visit_log", "api_key", "UserAccess", "Setting", "log", "class", "2fa-codes", "Other one.logins")
MORE = ("recent", "pages", "parts", "odd", "types")


def compare(db: Database, database: Path, table: Table) -> None:
    found, expected = in_duckdb(database, table), in_postgresql(db, table)
    assert len(found) == len(expected) > 0
    for name, values, wanted in zip(table.names, zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        assert values == wanted, f"{table.name}.{name}"


def test_every_shape_and_type_is_the_same_in_duckdb(
    own_shapes: Database, home: Home, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = own_shapes
    db.run(ROWS)
    for n in range(3):
        row = [VALUES[type_][n] if n < 2 else None for type_, _, _ in TYPES]
        names, places = (", ".join(some) for some in ([f"t{t}" for t in range(len(TYPES))], ["%s"] * len(TYPES)))
        db.run(f"INSERT INTO types (id, plans, {names}) VALUES ({n}, '{{free,NULL}}', {places})", row)
    tables = [home.adopt(name) for name in (*NAMES, *MORE)]
    use(monkeypatch, *tables)
    project.all()
    for table in tables:
        compare(db, project.paths.database, table)


def test_a_user_whose_id_is_a_cuid_has_no_rows_where_ids_are_numbers_or_uuids(
    own_shapes: Database, home: Home, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_shapes.run(ROWS)
    tables = [home.adopt(name) for name in ("users", "api_key", "UserAccess")]
    use(monkeypatch, *tables)
    project.set(extract__user_id=[USER_A])
    own_shapes.run('UPDATE "UserAccess" SET "userId" = %s WHERE "organisationId" = %s', [USER_A, "o2"])
    project.all()
    assert [len(in_duckdb(project.paths.database, table)) for table in tables] == [0, 0, 1]


@pytest.mark.xdist_group("clones")
def test_the_page_of_your_tables(own_shapes: Database, clone: Clone) -> None:
    """In a database that has none of the sample's tables."""
    own_shapes.run("DROP TABLE behavioral_events, context_metadata")
    own_shapes.run("""INSERT INTO "AuditLog" SELECT i, now() - interval '1 day' FROM generate_series(1, 3) i""")
    app = clone.path.parent / "app" / "prisma" / "schema.prisma"
    app.parent.mkdir(parents=True, exist_ok=True)
    app.write_text("/// What was done.\nmodel AuditLog {\n  id String @id /// A cuid2.\n}\n", encoding="utf-8")
    clone.env["DATABASE_URL"] = own_shapes.url()
    with_venv(clone)
    (five,) = blocks("your-tables", language="sh")
    said = run_shell(clone, five, {})
    assert "adopt: taken out of `tables`, since this database does not have them: behavioral_events" in said
    assert "refresh: first pins: 90 days" in said
    assert "load: data/analytics.duckdb (view), 3 rows, equal to PostgreSQL" in said
    assert 'Column("id", "text", "A cuid2.", False, (unique(),))' in clone.text("schemas/audit_log.py")
    assert yaml.safe_load(clone.text("params.yaml"))["tables"] == ["AuditLog"]
    table = runpy.run_path(str(clone.path / "schemas/audit_log.py"))["AUDIT_LOG"]
    compare(own_shapes, clone.path / "data/analytics.duckdb", table)
    assert "AuditLog, ready to query" in said
    assert "'SELECT * FROM \"AuditLog\" LIMIT 10'" in said
    (again,) = blocks("your-tables", language="console")
    clone.run("git", "checkout", "schemas", "params.yaml")
    clone.run("rm", "schemas/audit_log.py")
    run_console(clone, again)
