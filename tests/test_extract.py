"""extract against a real PostgreSQL: every value as psycopg2 reads it, or a clear error with data/ as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest

from pipeline.core.errors import (
    ContractError,
    DataError,
    ParamsError,
    PinError,
    PipelineError,
    RowsInvalidError,
    SourceError,
)
from schemas.contract import COLUMNS, NAMES
from tests.conftest import ROOT, USER_A, USER_B, USER_C, Database, Work, event, extracted_rows, start_extract
from tests.nasty import nasty_rows


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_no_zone_of_server_role_session_or_client_moves_a_time(
    db: Database, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.insert(*(event(timestamp=f"2025-10-26 0{hour}:30:00.001") for hour in range(5)))
    work.refresh()
    work.extract()
    before = files(work.raw)
    db.run(f"ALTER DATABASE {db.name} SET timezone = 'America/New_York'")
    db.run(f"ALTER DATABASE {db.name} SET datestyle = 'German, DMY'")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PGTZ", "Pacific/Chatham")
    monkeypatch.setenv("PGDATESTYLE", "SQL")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    work.extract()
    assert files(work.raw) == before


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (7, 3), (10_000_000, 8)])
def test_batch_size_and_workers_change_no_byte(db: Database, work: Work, batch_size: int, workers: int) -> None:
    db.insert(*nasty_rows())
    work.refresh()
    work.extract()
    before = files(work.raw)
    report = work.extracted.read_text()
    work.set(extract__batch_size=batch_size, extract__workers=workers)
    work.extract()
    assert files(work.raw) == before
    assert work.extracted.read_text() == report


def test_the_physical_order_of_rows_changes_no_byte(db: Database, work: Work) -> None:
    db.insert(*(event(id=f"c{c}" + "0" * 23) for c in "abz019"))
    work.refresh()
    work.extract()
    before = files(work.raw)
    pins = work.watermark.read_text()
    db.run("CREATE TABLE shuffled AS SELECT * FROM behavioral_events ORDER BY md5(id)")
    db.run("TRUNCATE behavioral_events")
    db.run("INSERT INTO behavioral_events SELECT * FROM shuffled")
    work.refresh()
    work.extract()
    assert files(work.raw) == before
    assert work.watermark.read_text() == pins


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_rows_that_share_a_time_are_in_the_order_of_their_ids(db: Database, work: Work, batch_size: int) -> None:
    times = (
        ["2025-10-26 00:00:00"] * 9
        + ["2025-10-26 00:00:01"] * 2
        + ["2025-10-26 00:00:02"]
        + ["2025-10-27 23:59:59.999"] * 5
    )
    ids = [f"c{n * 7919 % 100:024d}" for n in range(len(times))]
    db.insert(*(event(id=id_, timestamp=time) for id_, time in zip(ids, times, strict=True)))
    work.set(extract__batch_size=batch_size)
    work.refresh()
    work.extract()
    assert extracted_rows(work) == db.rows()


def test_the_order_is_total_without_a_primary_key(db: Database, work: Work) -> None:
    """Rows that share time and id: their other columns decide, whatever the order in which the table holds them."""
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    same = [
        event(id=USER_A, contentType=text, timeOfDay=n, eventData=f"{n}") for n in (1, 2) for text in ("a", "b", None)
    ]
    db.insert(*same)
    work.refresh()
    work.extract()
    before = files(work.raw)
    db.run("TRUNCATE behavioral_events")
    db.insert(*reversed(same))
    work.extract()
    assert files(work.raw) == before


def test_another_major_version_gives_the_same_bytes(
    db: Database, other_major: Database, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = nasty_rows()
    db.insert(*rows)
    work.refresh()
    work.extract()
    before = files(work.raw), work.watermark.read_bytes(), work.extracted.read_bytes()
    other_major.run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
    other_major.insert(*reversed(rows))
    monkeypatch.setenv("DATABASE_URL", other_major.url())
    shutil.rmtree(work.root / "data")
    work.refresh()
    work.extract()
    assert (files(work.raw), work.watermark.read_bytes(), work.extracted.read_bytes()) == before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (USER_A, [USER_A]),
        ([USER_A, USER_C], [USER_A, USER_C]),
        (USER_B, [USER_B]),
        ([USER_C], [USER_C]),
        ("c" + "9" * 24, []),
    ],
)
def test_user_filter(db: Database, work: Work, wanted: object, expected: list[str]) -> None:
    db.insert(*(event(userId=user) for user in (USER_A, USER_B, USER_C, USER_A)))
    work.refresh()
    work.set(extract__user_id=wanted)
    work.extract()
    rows = extracted_rows(work)
    assert [row[0] for row in rows] == [row[0] for row in db.rows() if row[1] in expected]
    assert json.loads(work.extracted.read_text())["rows"] == len(rows)


def test_an_empty_window_gives_files_without_rows_and_a_notice(
    db: Database, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    work.all()
    assert extracted_rows(work) == []
    assert len(list(work.raw.glob("*/*.parquet"))) == len(list(work.out.glob("*/*.parquet"))) == 2
    assert "the window holds no rows" in capsys.readouterr().err


def test_the_schema_of_the_url_is_where_the_table_is(db: Database, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    db.insert(event())
    db.run("""CREATE SCHEMA "The :App's 100%"; ALTER TABLE behavioral_events SET SCHEMA "The :App's 100%" """)
    with pytest.raises(ContractError, match="no table behavioral_events in schema public"):
        work.refresh()
    monkeypatch.setenv(
        "DATABASE_URL", db.url(schema="The%20%3AApp%27s%20100%25", connection_limit="1", pgbouncer="true")
    )
    work.refresh()
    work.extract()
    assert len(extracted_rows(work)) == 1


def stale(work: Work) -> dict[str, bytes]:
    """Damage every raw file, so that all days have to be read again; returns what they held."""
    good = files(work.raw)
    for file in work.raw.glob("*/*.parquet"):
        file.write_bytes(file.read_bytes() + b"damage")
    return good


def fails(work: Work, kind: type[PipelineError], *said: str) -> None:
    """extract fails with a message that says all of this, and everything in data/ is as it was."""
    stale(work)
    before = files(work.root)
    with pytest.raises(kind) as caught:
        work.extract()
    message = str(caught.value)
    assert [word for word in (*said, "where:", "expected:", "next:") if word not in message] == []
    assert files(work.root) == before


@pytest.fixture
def extracted(db: Database, work: Work) -> Work:
    """A project with a good extract of two rows."""
    db.insert(event(timestamp="2025-10-26 12:00:00"), event())
    work.refresh()
    work.extract()
    return work


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"', ["timeOfDay", "no such column", "integer"]),
        ('ALTER TABLE behavioral_events RENAME "timeOfDay" TO "hour"', ["timeOfDay", "no such column"]),
        ('ALTER TABLE behavioral_events ALTER "timeOfDay" TYPE bigint', ["timeOfDay", "integer", "bigint"]),
        (
            "ALTER TABLE behavioral_events ALTER timestamp TYPE timestamptz",
            ["timestamp(3) without time zone", "timestamp with time zone"],
        ),
        ("ALTER TABLE behavioral_events ALTER timestamp TYPE timestamp(6)", ["timestamp(3)", "timestamp(6)"]),
        ('ALTER TABLE behavioral_events ALTER "eventData" TYPE json', ["eventData", "jsonb", "json"]),
        ('ALTER TABLE behavioral_events ALTER "eventType" TYPE text', ["eventType", 'enum "EventType"', "text"]),
        ("DROP TABLE behavioral_events", ["no table behavioral_events"]),
    ],
)
def test_drift_is_named_with_both_types(db: Database, extracted: Work, change: str, said: list[str]) -> None:
    db.run(change)
    fails(extracted, ContractError, *said)


def test_all_differences_are_listed_at_once(db: Database, extracted: Work) -> None:
    db.run('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay", ALTER "dayOfWeek" TYPE text')
    fails(extracted, ContractError, "timeOfDay", "dayOfWeek")


def test_what_only_the_database_knows_is_a_notice(
    db: Database, extracted: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    db.run('ALTER TABLE behavioral_events ADD COLUMN "streak" int DEFAULT 7')
    db.run("""ALTER TYPE "EventType" ADD VALUE 'NOTE_TAKEN'""")
    before = stale(extracted)
    extracted.extract()
    said = capsys.readouterr().err
    assert "streak" in said
    assert "NOTE_TAKEN" in said
    assert files(extracted.raw) == before


def test_views_and_partitioned_tables_are_read_like_tables(db: Database, extracted: Work) -> None:
    before = stale(extracted)
    db.run("ALTER TABLE behavioral_events RENAME TO stored; CREATE VIEW behavioral_events AS SELECT * FROM stored")
    extracted.extract()
    assert files(extracted.raw) == before
    db.run("DROP VIEW behavioral_events; CREATE TABLE behavioral_events (LIKE stored) PARTITION BY RANGE (timestamp)")
    db.run("CREATE TABLE p PARTITION OF behavioral_events DEFAULT")
    db.run("INSERT INTO behavioral_events SELECT * FROM stored")
    stale(extracted)
    extracted.extract()
    assert files(extracted.raw) == before


@pytest.mark.parametrize("sql", ["DELETE FROM behavioral_events WHERE timestamp < '2025-10-27'", "late"])
def test_counts_that_differ_from_the_pin(db: Database, extracted: Work, sql: str) -> None:
    if sql == "late":
        db.insert(event(timestamp="2025-10-26 00:00:00"))
    else:
        db.run(sql)
    fails(extracted, PinError, "2025-10-26: pinned 1, now", "python -m commands.refresh")
    extracted.refresh()
    extracted.extract()
    assert len(extracted_rows(extracted)) == len(db.rows())


def test_the_pin_is_checked_with_a_user_filter_too(db: Database, extracted: Work) -> None:
    extracted.set(extract__user_id=USER_A)
    extracted.extract()
    db.insert(event(userId=USER_B))
    fails(extracted, PinError, "2025-10-27: pinned 1, now 2")


def test_an_unpinned_day(extracted: Work) -> None:
    extracted.set(extract__days=3)
    fails(extracted, PinError, "1 of 3 days are not pinned", "--days 3")


def test_rows_lost_on_the_way_are_noticed(db: Database, extracted: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no real server does: one message of the COPY goes missing. The only double here is the dropped line."""
    from pipeline.postgres import statements as events

    real = events.copy_day

    class Leaky:
        def __init__(self, into: Any) -> None:
            self.into, self.lines = into, 0

        def write(self, line: bytes) -> None:
            self.lines += 1
            if self.lines != 2:
                self.into.write(line)

    db.insert(event(), event())
    extracted.refresh()
    monkeypatch.setattr(events, "copy_day", lambda c, s, d, u, into: real(c, s, d, u, Leaky(into)))
    fails(extracted, DataError, "2025-10-27: PostgreSQL counted 3 rows and 2 arrived")


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("postgresql://u:secret-word@127.0.0.1:1/d", SourceError, "Connection refused"),
        ("postgresql://u:secret-word@host.invalid/d", SourceError, "host.invalid"),
        ("LOCKED", SourceError, "password authentication failed"),
        ("NO_DATABASE", SourceError, "does not exist"),
        ("NO_TLS", SourceError, "SSL"),
        ("mysql://u:secret-word@h/d", ParamsError, "postgresql://"),
    ],
)
def test_a_source_that_can_not_be_read(
    db: Database, extracted: Work, monkeypatch: pytest.MonkeyPatch, url: str, kind: type[PipelineError], said: str
) -> None:
    urls = {
        "LOCKED": db.url(user="locked", password="secret-word"),
        "NO_DATABASE": db.url(password="secret-word").replace(f"/{db.name}?", "/no_such_database?"),
        "NO_TLS": f"postgresql://postgres:secret-word@127.0.0.1:{db.where['port']}/{db.name}?sslmode=require",
    }
    monkeypatch.setenv("DATABASE_URL", urls.get(url, url))
    stale(extracted)
    before = files(extracted.root)
    with pytest.raises(kind) as caught:
        extracted.extract()
    assert said in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert files(extracted.root) == before


def test_row_level_security_is_an_error_and_never_a_shorter_export(
    db: Database, extracted: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.run("CREATE ROLE reader_rls LOGIN; GRANT SELECT ON behavioral_events TO reader_rls")
    db.run("ALTER TABLE behavioral_events ENABLE ROW LEVEL SECURITY")
    db.run(f"CREATE POLICY own ON behavioral_events USING (\"userId\" = '{USER_B}')")
    monkeypatch.setenv("DATABASE_URL", db.url(user="reader_rls"))
    fails(extracted, SourceError, "row-level security", "BYPASSRLS")
    db.run("ALTER ROLE reader_rls BYPASSRLS")
    extracted.extract()
    assert len(extracted_rows(extracted)) == 2
    db.run(
        "ALTER TABLE behavioral_events DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON behavioral_events FROM reader_rls"
    )
    fails(extracted, SourceError, "permission denied", "GRANT SELECT")
    db.run("DROP ROLE reader_rls")


def test_a_data_folder_that_can_not_be_written(extracted: Work) -> None:
    (extracted.root / "blocked").write_text("a file, no folder")
    done = run_extract(extracted, "blocked/raw")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr


def run_extract(work: Work, out: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.extract", "--out", out],
        cwd=work.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_with_nothing_published_and_no_connection_left(
    db: Database, extracted: Work, number: signal.Signals
) -> None:
    stale(extracted)
    before = files(extracted.raw)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        # The COPY waits for this lock, so the signal arrives in the middle of the run.
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        process = start_extract(extracted)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        while process.poll() is None and db.run(waiting, [db.name]) == [(0,)]:
            pass
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert "nothing was published" in err
    assert "Traceback" not in err
    assert files(extracted.raw) == before
    assert not list(extracted.raw.parent.glob(".*"))
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    while db.run(others, [db.name]) != [(0,)]:
        pass


def test_a_limit_on_idle_transactions_ends_no_run(db: Database, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers set one; the connection that exports the snapshot idles while the others copy."""
    db.run(
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
        f"SELECT 'c' || lpad(i::text, 24, '0'), '{USER_A}', 'FLASHCARD_FLIP', '{{}}', '2025-10-26' "
        "FROM generate_series(1, 60000) i"
    )
    db.run("CREATE ROLE impatient LOGIN; GRANT SELECT ON behavioral_events TO impatient")
    for limit in ("idle_in_transaction_session_timeout", "transaction_timeout", "statement_timeout"):
        db.run(f"ALTER ROLE impatient SET {limit} = '60ms'")
    monkeypatch.setenv("DATABASE_URL", db.url(user="impatient"))
    work.refresh()
    work.extract()
    assert json.loads(work.extracted.read_text())["rows"] == 60_000
    db.run("DROP OWNED BY impatient; DROP ROLE impatient")


def test_columns_are_selected_by_name_not_by_position(db: Database, extracted: Work) -> None:
    before = files(extracted.raw)
    order = ", ".join(f'"{name}"' for name in reversed(NAMES))
    db.run(f"CREATE TABLE turned AS SELECT {order} FROM behavioral_events; DROP TABLE behavioral_events")
    db.run("ALTER TABLE turned RENAME TO behavioral_events")
    for column in COLUMNS:
        if column.kind == "timestamp":
            db.run("ALTER TABLE behavioral_events ALTER timestamp TYPE timestamp(3)")
    extracted.extract()
    assert files(extracted.raw) == before


@pytest.mark.parametrize("stamp", ["infinity", "-infinity"])
def test_a_row_that_no_window_can_hold_is_named(db: Database, extracted: Work, stamp: str) -> None:
    lost = event(timestamp=stamp)
    db.insert(lost)
    fails(extracted, RowsInvalidError, f"timestamp fails finite: {lost['id']!r} ({stamp})")
    db.run("DELETE FROM behavioral_events WHERE id = %s", [lost["id"]])
    extracted.extract()


def test_check_compares_only_the_contract(db: Database, extracted: Work) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.extract", "--check"]
        return subprocess.run(command, cwd=extracted.root, env=env, capture_output=True, text=True, check=False)

    before = files(extracted.raw)
    assert "is what the contract describes" in check().stdout
    db.run('ALTER TABLE behavioral_events ALTER "timeOfDay" TYPE bigint')
    db.run('ALTER TABLE behavioral_events RENAME "contentType" TO "kind"')
    done = check()
    assert done.returncode == 4
    assert re.search(r"column +contract +database\n", done.stderr)
    assert re.search(r"timeOfDay +integer +bigint\n", done.stderr)
    assert re.search(r"contentType +text +no such column\n", done.stderr)
    assert re.search(r"kind +no such column +text\n", done.stderr)
    assert files(extracted.raw) == before


def test_a_table_in_another_schema_is_pointed_to(db: Database, extracted: Work) -> None:
    db.run("CREATE SCHEMA app; ALTER TABLE behavioral_events SET SCHEMA app")
    fails(
        extracted, ContractError, "no table behavioral_events in schema public; there is one in schema app", "?schema="
    )


def test_a_nullable_column_and_a_renamed_enum_value_are_notices(
    db: Database, extracted: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    db.run('ALTER TABLE behavioral_events ALTER "userId" DROP NOT NULL')
    db.run("""ALTER TYPE "EngagementLevel" RENAME VALUE 'LOW' TO 'SMALL'""")
    stale(extracted)
    extracted.extract()
    said = capsys.readouterr().err
    assert "userId: may be NULL in the database" in said
    assert "engagementLevel: values that only the database knows: SMALL" in said
    assert "engagementLevel: values that only the contract knows: LOW" in said


def role_of_readme(password: str) -> str:
    """The SQL of README for a role that can do this job and no more."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sql = re.search(r"```sql\n(CREATE ROLE reader.*?)```", text, re.DOTALL)
    assert sql
    return sql[1].replace("'...'", f"'{password}'")


def test_the_role_of_the_readme_can_do_the_job_and_write_nothing(
    db: Database, work: Work, monkeypatch: pytest.MonkeyPatch, server: dict[str, str]
) -> None:
    db.insert(event(), event(userId=USER_B))
    name = f"reader_{db.name}"
    db.run(re.sub(r"\breader\b", name, role_of_readme("secret-word")))
    monkeypatch.setenv("DATABASE_URL", db.url(user=name))
    work.all()
    assert len(extracted_rows(work)) == 2
    for sql in (
        "INSERT INTO behavioral_events SELECT * FROM behavioral_events",
        'UPDATE behavioral_events SET "timeOfDay" = 1',
        "DELETE FROM behavioral_events",
        "TRUNCATE behavioral_events",
        "DROP TABLE behavioral_events",
        "CREATE TABLE public.own (n int)",
        "SELECT * FROM context_metadata",
    ):
        with (
            closing(db.connect(user=name)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(sql)
    db.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def copying(db: Database) -> list[int]:
    rows = db.run(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%' AND state = 'active'", [db.name]
    )
    return [row[0] for row in rows]


@pytest.fixture
def many(db: Database, work: Work) -> Work:
    """Enough rows that a COPY can be caught in the act."""
    db.run(
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
        f"SELECT 'c' || lpad(i::text, 24, '0'), '{USER_A}', 'FLASHCARD_FLIP', to_jsonb(repeat('x', 200)), "
        "timestamp '2025-10-26' + i * interval '1 s' FROM generate_series(1, 150000) i"
    )
    work.set(source__attempts=5)
    work.refresh()
    return work


def test_a_backend_terminated_again_and_again(db: Database, many: Work, capfd: pytest.CaptureFixture[str]) -> None:
    process = start_extract(many)
    assert process.stderr is not None
    said = []
    for _ in range(3):
        while not (pids := copying(db)):
            assert process.poll() is None
        db.run("SELECT pg_terminate_backend(%s)", [pids[0]])
        said.append(process.stderr.readline())
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [re.findall(r"attempt (\d) of 5 in .* s, from the beginning", line) for line in said] == [
        ["2"],
        ["3"],
        ["4"],
    ]
    assert err == ""
    assert json.loads(many.extracted.read_text())["rows"] == 150_000
    assert extracted_rows(many) == db.rows()
    assert not list(many.raw.parent.glob(".*"))


def test_what_does_not_pass_is_not_tried_again(
    db: Database, extracted: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extracted.set(source__attempts=5)
    monkeypatch.setenv("DATABASE_URL", db.url(user="locked", password="wrong"))
    fails(extracted, SourceError, "password authentication failed")
    assert "attempt" not in capsys.readouterr().err


def test_a_limit_of_time_and_a_lock_are_said(db: Database, many: Work) -> None:
    many.set(source__lock_timeout=1)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        fails(many, SourceError, "lock timeout", "source.lock_timeout")


def until_one_waits(db: Database, waiters: int = 1) -> None:
    """Return when so many connections to the database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    while db.run(waiting, [db.name]) < [(waiters,)]:
        pass


REWRITES = {
    "truncate": "CREATE TEMP TABLE kept AS TABLE behavioral_events; TRUNCATE behavioral_events; "
    "INSERT INTO behavioral_events TABLE kept",
    "rewrite": 'ALTER TABLE behavioral_events ALTER "dayOfWeek" TYPE bigint; '
    'ALTER TABLE behavioral_events ALTER "dayOfWeek" TYPE integer',
    "exchange": "CREATE TABLE other AS TABLE behavioral_events; ALTER TABLE behavioral_events RENAME TO older; "
    "ALTER TABLE other RENAME TO behavioral_events",
    "partition": "CREATE TEMP TABLE kept AS TABLE part; TRUNCATE part; INSERT INTO part TABLE kept",
}


@pytest.mark.parametrize("how", REWRITES)
@pytest.mark.parametrize("stage", ["refresh", "extract"])
def test_a_table_that_is_written_anew_meanwhile_is_never_seen_empty(
    db: Database, work: Work, stage: str, how: str
) -> None:
    """At every instant the table has the same rows, for who does not take the snapshot before the lock."""
    if how == "partition":
        db.run(
            "CREATE TABLE whole (LIKE behavioral_events) PARTITION BY RANGE (timestamp); "
            "CREATE TABLE part PARTITION OF whole FOR VALUES FROM ('2025-10-01') TO ('2025-11-01'); "
            "CREATE TABLE rest PARTITION OF whole DEFAULT; "
            "INSERT INTO whole TABLE behavioral_events; DROP TABLE behavioral_events; "
            "ALTER TABLE whole RENAME TO behavioral_events"
        )
    db.insert(*(event() for _ in range(20)))
    work.refresh()
    pinned, rows = work.watermark.read_text(), db.rows()
    work.looked.unlink()
    shutil.rmtree(work.raw, ignore_errors=True)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        blocker.autocommit = False
        cursor.execute(REWRITES[how])
        running = pool.submit(getattr(work, stage))
        until_one_waits(db)
        blocker.commit()
        running.result(timeout=30)
    assert work.watermark.read_text() == pinned
    work.extract()
    assert extracted_rows(work) == rows


def test_a_migration_between_two_connections_does_not_wait_for_both(
    db: Database, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for the first, which waits for the second, which would wait for the migration."""
    db.insert(event())
    work.refresh()
    work.set(source__attempts=5, source__lock_timeout=25)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor, ThreadPoolExecutor(2) as pool:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        extract = pool.submit(work.extract)
        until_one_waits(db)
        migration = pool.submit(db.run, "ALTER TABLE behavioral_events ADD COLUMN more integer")
        until_one_waits(db, 2)
        blocker.commit()
        extract.result(timeout=60)
        migration.result(timeout=60)
    assert "a migration waits for the table" in capsys.readouterr().err
    assert extracted_rows(work) == db.rows()


def test_extracts_while_others_write_as_fast_as_they_can(db: Database, work: Work) -> None:
    """Every transaction of the writer keeps the two days equal, so a mixture of two snapshots would show."""
    for day in (26, 27):
        db.insert(*(event(timestamp=f"2025-10-{day} 10:00:00", timeOfDay=0) for _ in range(50)))
    stop = threading.Event()
    written = [0]

    def write() -> None:
        with closing(db.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = False
            while not stop.is_set():
                twins = [event(timestamp=f"2025-10-{day} 11:00:00") for day in (26, 27)]
                for row in twins:
                    cursor.execute(
                        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp, "timeOfDay")'
                        " VALUES (%s, %s, %s, %s, %s, 0)",
                        [row[name] for name in ("id", "userId", "eventType", "eventData", "timestamp")],
                    )
                cursor.execute('UPDATE behavioral_events SET "timeOfDay" = ("timeOfDay" + 1) % 24')
                if written[0] % 3 == 0:
                    cursor.execute(
                        "DELETE FROM behavioral_events WHERE id IN (SELECT max(id) FROM behavioral_events "
                        "GROUP BY timestamp::date)"
                    )
                connection.commit()
                written[0] += 1

    good = 0
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while not written[0]:
            assert not writer.done()
        for _ in range(10):
            work.refresh()
            stale(work)
            try:
                work.extract()
            except PinError:
                continue
            good += 1
            rows = extracted_rows(work)
            days = [row[4].date() for row in rows]
            assert days.count(date(2025, 10, 26)) == days.count(date(2025, 10, 27)) == len(rows) / 2
            assert len({row[0] for row in rows}) == len(rows)
            assert json.loads(work.extracted.read_text())["rows"] == len(rows)
        stop.set()
        writer.result()
    work.refresh()
    work.extract()
    assert extracted_rows(work) == db.rows()
