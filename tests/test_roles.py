"""Roles with few rights, and databases and roles with odd settings: the same bytes, or a clear error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from pipeline.core.errors import SourceError, TransientSourceError
from pipeline.core.params import load_params
from pipeline.postgres.explain import explain
from pipeline.postgres.target import Target
from tests.helpers import NAMES, ROOT, Database, Project, event, fails, outputs, rows_of_parquet
from tests.nasty import nasty_rows

COLUMNS = ", ".join(f'"{name}"' for name in NAMES)


@pytest.fixture
def reader(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose role may read the contract's columns, and no others."""
    db.run("ALTER TABLE behavioral_events ADD COLUMN secret text")
    db.insert(*nasty_rows())
    role(db, f"SELECT ({COLUMNS})")
    monkeypatch.setenv("DATABASE_URL", db.url(user=f"reader_{db.name}"))
    return project


def role(db: Database, right: str) -> str:
    """A role of this test: roles belong to the server and not to a database."""
    name = f"reader_{db.name}"
    db.run(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN; GRANT {right} ON behavioral_events TO {name}")
    return name


def test_a_role_that_may_read_only_the_columns(
    db: Database, reader: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    reader.all()
    assert rows_of_parquet(reader.raw) == [row[: len(NAMES)] for row in db.rows()]
    assert "may not read xmin, so every day is hashed; GRANT SELECT (xmin)" in capfd.readouterr().err
    db.run(f"GRANT SELECT (xmin) ON behavioral_events TO reader_{db.name}")
    before = outputs(reader)
    reader.all()
    assert "xmin" not in capfd.readouterr().err
    assert outputs(reader) == before


@pytest.mark.parametrize("what", ["refresh", "extract"])
def test_such_a_role_never_sees_a_table_that_is_filled_anew_empty(db: Database, reader: Project, what: str) -> None:
    """TRUNCATE waits for no snapshot, and a snapshot that was taken while it ran sees no row."""
    reader.refresh()
    pinned = reader.paths.watermark.read_text()
    with psycopg2.connect(db.url()) as writer, writer.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE kept AS TABLE behavioral_events; TRUNCATE behavioral_events")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(getattr(reader, what))
            db.wait_for_lock()
            cursor.execute("INSERT INTO behavioral_events TABLE kept")
            writer.commit()
            running.result()
    assert reader.paths.watermark.read_text() == pinned
    if what == "extract":
        assert rows_of_parquet(reader.raw) == [row[: len(NAMES)] for row in db.rows()]


def test_a_role_without_one_of_the_columns_is_told(db: Database, reader: Project) -> None:
    reader.all()
    db.run(f'REVOKE SELECT ("eventData") ON behavioral_events FROM reader_{db.name}')
    fails(reader, SourceError, "the role may not read everything", "GRANT SELECT")


SETTINGS = {
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "IntervalStyle": "sql_standard",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "search_path": "nowhere",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "100ms",
    "lock_timeout": "100ms",
    "idle_in_transaction_session_timeout": "100ms",
    "enable_seqscan": "off",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "escape_string_warning": "on",
    "backslash_quote": "on",
    "transform_null_equals": "on",
    "check_function_bodies": "off",
    "row_security": "on",
}


def test_no_setting_changes_a_byte(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the database has it or the role."""
    db.insert(event(eventData='{"a\\\\b\'c": 0.1}'), event(timestamp="2025-10-26 23:59:59.999"))
    name = role(db, "SELECT")
    monkeypatch.setenv("DATABASE_URL", db.url(user=name))
    project.all()
    before = outputs(project)
    for n, (setting, value) in enumerate(SETTINGS.items()):
        of = f"DATABASE {db.name}" if n % 2 else f"ROLE {name}"
        alter(db, f"{of} SET {setting} = {value!r}")
        project.refresh(full=True)
        project.paths.extract_report.unlink()
        project.run()
        assert outputs(project) == before, setting
        alter(db, f"{of} RESET {setting}")


def alter(db: Database, what: str) -> None:
    """On a connection that the settings of the database don't disturb."""
    with closing(db.connect(options="-c default_transaction_read_only=off -c statement_timeout=0")) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"ALTER {what}")


def test_a_name_of_pg_catalog_that_somebody_takes_changes_nothing(db: Database, project: Project) -> None:
    """A function or operator in public that is called like one of PostgreSQL's is not used."""
    db.insert(event())
    project.all()
    before = outputs(project)
    db.run("CREATE FUNCTION public.md5(text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$")
    db.run("CREATE FUNCTION public.date_part(text, timestamp) RETURNS float8 LANGUAGE sql AS $$ SELECT 1::float8 $$")
    db.run(f"ALTER DATABASE {db.name} SET search_path = public, pg_catalog")
    project.refresh(full=True)
    project.paths.extract_report.unlink()
    project.run()
    assert outputs(project) == before


@pytest.mark.parametrize(
    ("said", "again"),
    [
        pytest.param("FATAL:  sorry, too many clients already", True, id="full"),
        pytest.param("FATAL:  tut mir leid, schon zu viele Verbindungen", True, id="full, in German"),
        pytest.param("FATAL:  le système de bases de données se lance", True, id="starting, in French"),
        pytest.param("致命错误:  对不起, 已经有太多的客户", True, id="full, in Chinese"),
        pytest.param('FATAL:  password authentication failed for user "u"', False, id="a wrong password"),
        pytest.param('FATAL:  database "d" does not exist', False, id="no such database"),
        pytest.param("SSL error: certificate verify failed", False, id="what libpq says itself"),
    ],
)
def test_a_refused_login_in_another_language_is_tried_again(said: str, again: bool) -> None:
    """Made up, since no package has a server with other languages: psycopg2 passes on a text and no SQLSTATE."""
    settings = load_params(ROOT / "params.yaml").source
    error = psycopg2.OperationalError(f'connection to server at "h" (192.0.2.1), port 5432 failed: {said}')
    found = explain(error, Target("", (), "h", False, (), settings))
    assert isinstance(found, TransientSourceError) == again


def test_such_a_role_stands_in_no_migration_s_way(db: Database, reader: Project) -> None:
    """One that comes between its two locks waits for the first, and the second for it: a circle that nobody sees."""
    reader.set(source__lock_timeout=30, source__attempts=3)
    with psycopg2.connect(db.url()) as first, first.cursor() as cursor, ThreadPoolExecutor(2) as pool:
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        refreshing = pool.submit(reader.refresh)
        db.wait_for_lock()
        migrating = pool.submit(db.run, "ALTER TABLE behavioral_events ADD COLUMN later int")
        db.wait_for_lock(2)
        first.commit()
        migrating.result(timeout=10)
        refreshing.result(timeout=20)
