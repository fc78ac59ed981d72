"""What happens to a run meanwhile: signals, limits of time, backends that die, migrations, writers."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date

import pytest

from pipeline.core.errors import (
    PinError,
    SourceError,
)
from tests.helpers import (
    USER_A,
    Database,
    Project,
    damage,
    environment,
    event,
    fails,
    files,
    rows_in,
    rows_of_parquet,
    start_extract,
)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGHUP, id="SIGHUP"),
    ],
)
def test_a_signal_ends_the_run_with_nothing_published_and_no_connection_left(
    db: Database, extracted: Project, number: signal.Signals
) -> None:
    damage(extracted)
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


def test_a_signal_that_a_library_catches_ends_the_run_before_it_publishes(published: Project) -> None:
    """Libraries have places that catch all exceptions, that of a signal too."""
    code = """
import os, signal, stages.export as s
from pipeline.core.inputs import Inputs
from pipeline.core.process import run_stage
check = Inputs.check
def caught(self):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        check(self)
Inputs.check = caught
run_stage("export", s.export, "")
"""
    shutil.rmtree(published.exported)
    before = files(published.root)
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=published.root, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stderr == "stopped by SIGTERM; nothing was published\n"
    assert files(published.root) == before


def test_a_signal_while_modules_are_imported_is_said(published: Project) -> None:
    # What is started in the background ignores SIGINT.
    own = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{own}import stages; os.kill(os.getpid(), signal.SIGINT)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr == "stopped by SIGINT; nothing was published\n"


def test_a_limit_on_idle_transactions_ends_no_run(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    project.refresh()
    project.extract()
    assert rows_in(project.paths.extract_report) == 60_000
    db.run("DROP OWNED BY impatient; DROP ROLE impatient")


def test_a_backend_terminated_again_and_again(db: Database, large: Project, capfd: pytest.CaptureFixture[str]) -> None:
    process = start_extract(large)
    assert process.stderr is not None
    said = []
    for _ in range(3):
        while not (pids := db.copying()):
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
    assert rows_in(large.paths.extract_report) == 150_000
    assert rows_of_parquet(large.raw) == db.rows()
    assert not list(large.raw.parent.glob(".*"))


def test_a_limit_of_time_and_a_lock_are_said(db: Database, large: Project) -> None:
    large.set(source__lock_timeout=1)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        fails(large, SourceError, "lock timeout", "source.lock_timeout")


def test_a_statement_that_somebody_cancels_is_said(db: Database, large: Project) -> None:
    process = start_extract(large)
    while not (pids := db.copying()):
        assert process.poll() is None
    db.run("SELECT pg_cancel_backend(%s)", [pids[0]])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "somebody ended the statement" in err
    assert "statement_timeout" not in err


def test_fewer_connections_than_workers_are_said(
    db: Database, extracted: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.run("CREATE ROLE few LOGIN CONNECTION LIMIT 2; GRANT SELECT ON behavioral_events TO few")
    monkeypatch.setenv("DATABASE_URL", db.url(user="few"))
    extracted.set(extract__workers=2)
    fails(extracted, SourceError, "PostgreSQL has no connection left", "a smaller extract.workers")
    extracted.set(extract__workers=1)
    extracted.extract()
    assert rows_of_parquet(extracted.raw) == db.rows()


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
    db: Database, project: Project, stage: str, how: str
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
    project.refresh()
    pinned, rows = project.paths.watermark.read_text(), db.rows()
    project.paths.verified("refresh").unlink()
    shutil.rmtree(project.raw, ignore_errors=True)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        blocker.autocommit = False
        cursor.execute(REWRITES[how])
        running = pool.submit(getattr(project, stage))
        db.wait_for_lock()
        blocker.commit()
        running.result(timeout=30)
    assert project.paths.watermark.read_text() == pinned
    project.extract()
    assert rows_of_parquet(project.raw) == rows


def test_a_migration_between_two_connections_does_not_wait_for_both(
    db: Database, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for the first, which waits for the second, which would wait for the migration."""
    db.insert(event())
    project.refresh()
    project.set(source__attempts=5, source__lock_timeout=25)
    with closing(db.connect()) as blocker, blocker.cursor() as cursor, ThreadPoolExecutor(2) as pool:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        extract = pool.submit(project.extract)
        db.wait_for_lock()
        migration = pool.submit(db.run, "ALTER TABLE behavioral_events ADD COLUMN more integer")
        db.wait_for_lock(2)
        blocker.commit()
        extract.result(timeout=60)
        migration.result(timeout=60)
    assert "a migration waits for the table" in capsys.readouterr().err
    assert rows_of_parquet(project.raw) == db.rows()


def test_extracts_while_others_write_as_fast_as_they_can(db: Database, project: Project) -> None:
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
            project.refresh()
            damage(project)
            try:
                project.extract()
            except PinError:
                continue
            good += 1
            rows = rows_of_parquet(project.raw)
            days = [row[4].date() for row in rows]
            assert days.count(date(2025, 10, 26)) == days.count(date(2025, 10, 27)) == len(rows) / 2
            assert len({row[0] for row in rows}) == len(rows)
            assert rows_in(project.paths.extract_report) == len(rows)
        stop.set()
        writer.result()
    project.refresh()
    project.extract()
    assert rows_of_parquet(project.raw) == db.rows()
