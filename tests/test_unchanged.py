"""A day is hashed again unless its rows are the same for sure: a refresh with the cache equals one without."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import watermark
from pipeline.postgres import unchanged
from pipeline.sample import server as pgserver
from tests.helpers import ROOT, TABLE, UNTIL, USER_A, Database, Project, event

DAYS = [UNTIL - timedelta(days=n) for n in (3, 2, 1)]


def is_true(project: Project) -> None:
    """What is pinned is what a refresh without the cache finds."""
    mine, pins = project.paths.watermark.read_bytes(), watermark.load(project.paths.watermark)
    saved = project.paths.verified("refresh").read_bytes()
    project.paths.verified("refresh").unlink()
    project.refresh(pins.until, len(pins.tables[TABLE]))
    assert project.paths.watermark.read_bytes() == mine
    project.paths.verified("refresh").write_bytes(saved)


def test_only_days_with_newer_rows_are_hashed(db: Database, pinned_days: Project, hashed: list[date]) -> None:
    pinned_days.refresh()
    assert hashed == []
    db.run(f"UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp = '{DAYS[1]} 10:00:00'")
    pinned_days.refresh()
    assert hashed == [DAYS[1]]
    is_true(pinned_days)
    hashed.clear()
    db.run(f"DELETE FROM behavioral_events WHERE timestamp = '{DAYS[0]} 10:00:00'")
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    pinned_days.refresh(UNTIL + timedelta(days=1), days=4)
    assert sorted(hashed) == [DAYS[0], UNTIL]
    is_true(pinned_days)


# What changes rows of a day without a newer row in it, or the other way round.
CHANGES = {
    "moved to another day": "UPDATE behavioral_events SET timestamp = '{1} 12:00:00' WHERE timestamp = '{0} 10:00:00'",
    "two days exchange a row": "UPDATE behavioral_events SET timestamp = CASE WHEN timestamp < '{1}' "
    "THEN timestamp + interval '1 day' ELSE timestamp - interval '1 day' END WHERE timestamp::time = '10:00' "
    "AND timestamp < '{2}'",
    "enum value renamed": "ALTER TYPE \"EventType\" RENAME VALUE 'FLASHCARD_FLIP' TO 'FLIPPED'",
    "column filled without a rewrite": 'ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"; '
    'ALTER TABLE behavioral_events ADD COLUMN "timeOfDay" integer DEFAULT 7',
    "columns exchange their names": 'ALTER TABLE behavioral_events RENAME "timeOfDay" TO x; '
    'ALTER TABLE behavioral_events RENAME "dayOfWeek" TO "timeOfDay"; '
    'ALTER TABLE behavioral_events RENAME x TO "dayOfWeek"',
    "rewritten": "VACUUM FULL behavioral_events",
    "vacuumed and frozen": "VACUUM (FREEZE) behavioral_events",
    "emptied": "TRUNCATE behavioral_events",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_rows_is_noticed(db: Database, pinned_days: Project, change: str) -> None:
    db.run('UPDATE behavioral_events SET "dayOfWeek" = 1, "timeOfDay" = 2')
    pinned_days.refresh()
    for statement in CHANGES[change].format(*DAYS).split("; "):
        db.run(statement)
    pinned_days.refresh()
    is_true(pinned_days)


def other_table(db: Database, name: str = "other") -> None:
    """A table like the app's with as many rows a day, all of them other ones."""
    db.run(f"CREATE TABLE {name} AS SELECT * FROM behavioral_events")
    db.run(f'UPDATE {name} SET "timeOfDay" = 5')


def test_another_table_with_older_rows(db: Database, project: Project, hashed: list[date]) -> None:
    """Exchanged for one whose rows are older than the last refresh, as many each day."""
    for day in DAYS:
        db.insert(event(timestamp=f"{day} 10:00:00"))
    other_table(db)
    project.set(extract__days=3)
    project.refresh()
    hashed.clear()
    db.run("ALTER TABLE behavioral_events RENAME TO old; ALTER TABLE other RENAME TO behavioral_events")
    project.refresh()
    assert sorted(hashed) == DAYS
    is_true(project)


def test_a_row_that_is_frozen_by_force_is_not_taken_for_an_old_one(
    db: Database, pinned_days: Project, hashed: list[date]
) -> None:
    """pg_surgery writes transaction number 2, which has the age of the oldest; so did servers before 9.4."""
    db.run("CREATE EXTENSION pg_surgery")
    db.run(f"UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp = '{DAYS[1]} 10:00:00'")
    db.run("SELECT heap_force_freeze('behavioral_events', array_agg(ctid)) FROM behavioral_events")
    assert set(db.run("SELECT xmin::text FROM behavioral_events")) == {("2",)}
    pinned_days.refresh()
    assert DAYS[1] in hashed
    is_true(pinned_days)


@pytest.mark.parametrize("kind", ["partitioned", "inherited"])
def test_another_part_of_the_table_with_older_rows(
    db: Database, project: Project, hashed: list[date], kind: str
) -> None:
    for day in DAYS:
        db.insert(event(timestamp=f"{day} 10:00:00"))
    other_table(db, "one")
    other_table(db, "two")
    db.run('UPDATE two SET "timeOfDay" = 6')
    db.run("ALTER TABLE behavioral_events RENAME TO old")
    by = "PARTITION BY RANGE (timestamp)" if kind == "partitioned" else ""
    db.run(f"CREATE TABLE behavioral_events (LIKE old INCLUDING DEFAULTS) {by}")
    for name in ("one", "two"):
        for column in ("id", '"userId"', '"eventType"', '"eventData"', "timestamp"):
            db.run(f"ALTER TABLE {name} ALTER {column} SET NOT NULL")
    if kind == "partitioned":
        attach = "ALTER TABLE behavioral_events ATTACH PARTITION {} FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')"
        detach = "ALTER TABLE behavioral_events DETACH PARTITION {}"
    else:
        attach = "ALTER TABLE {} INHERIT behavioral_events"
        detach = "ALTER TABLE {} NO INHERIT behavioral_events"
    db.run(attach.format("one"))
    project.set(extract__days=3)
    project.refresh()
    hashed.clear()
    project.refresh()
    assert hashed == []  # it is a table of which something can be said
    db.run(detach.format("one"))
    db.run(attach.format("two"))
    project.refresh()
    assert sorted(hashed) == DAYS
    is_true(project)


def test_of_a_view_nothing_is_said(db: Database, pinned_days: Project, hashed: list[date]) -> None:
    db.run("ALTER TABLE behavioral_events RENAME TO old; CREATE VIEW behavioral_events AS SELECT * FROM old")
    for _ in range(2):
        hashed.clear()
        pinned_days.refresh()
        assert sorted(hashed) == DAYS


def test_of_a_table_whose_rows_are_elsewhere_nothing_is_said(
    pinned_days: Project, hashed: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any extension stands for those that keep rows elsewhere, which are not here."""
    monkeypatch.setattr(unchanged, "ELSEWHERE", ("plpgsql",))
    pinned_days.refresh()
    assert sorted(hashed) == DAYS


def test_a_role_that_may_not_see_the_statistics(
    db: Database, pinned_days: Project, hashed: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"narrow_{db.name}"
    db.run(f"REVOKE SELECT ON pg_stat_bgwriter FROM PUBLIC; CREATE ROLE {role} LOGIN")
    db.run(f"GRANT SELECT ON behavioral_events TO {role}")
    monkeypatch.setenv("DATABASE_URL", db.url(role))
    before = pinned_days.paths.watermark.read_bytes()
    pinned_days.refresh()
    assert sorted(hashed) == DAYS
    assert pinned_days.paths.watermark.read_bytes() == before


def test_a_generated_column_is_not_told_by_its_row(db: Database, pinned_days: Project, hashed: list[date]) -> None:
    db.run('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"')
    db.run('ALTER TABLE behavioral_events ADD COLUMN "timeOfDay" integer GENERATED ALWAYS AS ("dayOfWeek") VIRTUAL')
    for _ in range(2):
        hashed.clear()
        pinned_days.refresh()
        assert sorted(hashed) == DAYS


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK", "ROLLBACK TO inner_; COMMIT"])
def test_a_transaction_that_was_open_during_the_look(db: Database, pinned_days: Project, ending: str) -> None:
    """Also when others began and ended after it, so that its number is far below the newest."""
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"DELETE FROM behavioral_events WHERE timestamp = '{DAYS[0]} 10:00:00'")
        cursor.execute("SAVEPOINT inner_")
        cursor.execute(
            'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
            "SELECT 'c' || repeat('z', 24), \"userId\", \"eventType\", \"eventData\", timestamp + interval '1 s' "
            f"FROM behavioral_events WHERE timestamp = '{DAYS[0]} 11:00:00'"
        )
        for _ in range(5):
            db.insert(event(timestamp=f"{DAYS[2]} 12:00:00"))
        pinned_days.refresh()
        is_true(pinned_days)
        for statement in ending.split("; "):
            cursor.execute(statement)
    pinned_days.refresh()
    is_true(pinned_days)


def saved_days(content: dict[str, Any]) -> dict[str, Any]:
    return content["tables"][0]["days"]


def all_days(content: dict[str, Any], key: str, change: Callable[[int], object]) -> str:
    for day in saved_days(content).values():
        day[key] = change(day[key])
    return json.dumps(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: "", id="empty"),
        pytest.param(lambda content: "[]", id="a list"),
        pytest.param(lambda content: '{"tables": 1}', id="no tables"),
        pytest.param(lambda content: all_days(content, "rows", str), id="values of another type"),
        pytest.param(lambda content: all_days(content, "digest", lambda _: "x"), id="no digest"),
        pytest.param(lambda content: all_days(content, "xmin", lambda n: n + 10**6), id="a snapshot that is to come"),
        pytest.param(
            lambda content: all_days(content, "xmin", lambda n: n - unchanged.MAX_TRANSACTIONS), id="one of long ago"
        ),
    ],
)
def test_a_cache_that_says_nothing(
    pinned_days: Project, hashed: list[date], damage: Callable[[dict[str, Any]], str]
) -> None:
    file = pinned_days.paths.verified("refresh")
    before = file.read_text()
    hashed.clear()
    file.write_text(damage(json.loads(before)))
    assert file.read_text() != before
    pinned_days.refresh()
    assert sorted(hashed) == DAYS


def test_full_hashes_every_day(pinned_days: Project, hashed: list[date]) -> None:
    pinned_days.refresh(full=True)
    assert sorted(hashed) == DAYS


STEPS: dict[str, Callable[[random.Random], str]] = {
    "insert": lambda chance: (
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
        f"VALUES ('c{chance.randrange(10**20):024d}', '{USER_A}', 'FLASHCARD_FLIP', '{{}}', '{some_day(chance)} 1:00')"
    ),
    "update": lambda chance: f'UPDATE behavioral_events SET "timeOfDay" = {chance.randrange(24)} WHERE {some(chance)}',
    "move": lambda chance: f"UPDATE behavioral_events SET timestamp = '{some_day(chance)}' WHERE {some(chance)}",
    "delete": lambda chance: f"DELETE FROM behavioral_events WHERE {some(chance)}",
    "vacuum": lambda chance: f"VACUUM ({chance.choice(['FREEZE', 'FULL', 'ANALYZE'])}) behavioral_events",
}


def some_day(chance: random.Random) -> date:
    return chance.choice(DAYS)


def some(chance: random.Random) -> str:
    """A condition that is true of some rows."""
    return f"id IN (SELECT id FROM behavioral_events ORDER BY md5(id || {chance.random()}) LIMIT 2)"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rounds=st.lists(st.lists(st.sampled_from([*STEPS, "open", "close"]), max_size=4), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_any_history(db: Database, project: Project, rounds: list[list[str]], seed: int) -> None:
    """Transactions stay open over any number of refreshes, then end either way."""
    chance = random.Random(seed)
    db.run("TRUNCATE behavioral_events")
    db.insert(*(event(timestamp=f"{day} 10:00:00") for day in DAYS for _ in range(3)))
    project.set(extract__days=3)
    project.refresh()
    held: list[psycopg2.extensions.connection] = []
    try:
        for steps in rounds:
            for name in steps:
                if name == "open":
                    connection = db.connect()
                    held.append(connection)
                    connection.autocommit = False
                    connection.cursor().execute(STEPS["insert"](chance))
                elif name == "close" and held:
                    connection = held.pop(chance.randrange(len(held)))
                    chance.choice([connection.commit, connection.rollback])()
                    connection.close()
                elif name in STEPS and not (name == "vacuum" and held):  # it would wait for them
                    db.run(STEPS[name](chance))
            project.refresh()
            is_true(project)
    finally:
        for connection in held:
            connection.close()


@pytest.fixture
def own(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Database]]:
    """A server that may be killed, and its database with the app's tables."""
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    home = pgserver.private_folder("killed")
    with pgserver.running(home, os.urandom(4).hex(), lambda where: None) as where:
        db = Database(where, "postgres")
        db.run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
        monkeypatch.setenv("DATABASE_URL", db.url())
        yield home, db


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_after_a_restart_or_a_crash_every_day_is_hashed(
    own: tuple[Path, Database], project: Project, hashed: list[date], how: str
) -> None:
    """After which numbers of transactions may have been given again."""
    home, db = own
    db.insert(*(event(timestamp=f"{day} 10:00:00") for day in DAYS))
    project.set(extract__days=3)
    for _ in range(2):
        hashed.clear()
        project.refresh()
    assert hashed == []
    started = db.run("SELECT pg_postmaster_start_time()")
    if how == "restart":
        pgserver.stop(pgserver.binaries(home), home / "data")
        pgserver.start(pgserver.binaries(home), home / "data", home / "log")
    else:
        db.run("CHECKPOINT")
        with closing(db.connect()) as other, other.cursor() as cursor, pytest.raises(psycopg2.DatabaseError):
            with closing(db.connect()) as connection:
                os.kill(connection.info.backend_pid, signal.SIGKILL)
            while True:  # until the postmaster has noticed, and ended all others
                cursor.execute("SELECT 1")
        wait_for(db)
        assert db.run("SELECT pg_postmaster_start_time()") == started
    project.refresh()
    assert sorted(hashed) == DAYS


def wait_for(db: Database) -> None:
    """Until the server answers again, in a minute at most."""
    end = time.monotonic() + 60
    while True:
        try:
            db.run("SELECT 1")
            return
        except psycopg2.Error:
            assert time.monotonic() < end
            time.sleep(0.02)
