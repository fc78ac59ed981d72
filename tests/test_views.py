"""The views for research, against the same said in plain Python over the rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import duckdb
import pytest

from pipeline.views.views import DAYS, KEPT, OF, VIEWS, create, days_between
from tests.helpers import UNTIL, Project

pytestmark = pytest.mark.xdist_group("views")  # whose rows are put into DuckDB once for all tests of a worker

FIRST, LAST = date(2025, 10, 1), date(2025, 10, 10)
PHASES = ("baseline_1", "intervention_A_1", "baseline_2", "intervention_A_2")

Row = dict[str, Any]


def row(user: str, at: str, **more: Any) -> Row:
    base = {"userId": user, "timestamp": datetime.fromisoformat(at), "eventType": "FLASHCARD_FLIP"}
    return {**base, "eventData": "{}", "sessionPerformanceScore": None, "experimentPhase": None, **more}


def numbered(number: int) -> str:
    return json.dumps({"session": number})


def random_rows(seed: int) -> list[Row]:
    rng = Random(seed)
    rows = []
    for _ in range(rng.randrange(1, 200)):
        at = datetime(2025, 10, 1) + timedelta(minutes=rng.randrange(10 * 24 * 60) // rng.choice((1, 60)))
        user = rng.choice("abc")
        number = rng.choice((None, rng.randrange(6))) if user == "b" else rng.randrange(6) if user == "c" else None
        phase = PHASES[min(3, (at.day - 1) // 3)] if user != "a" else None
        rows.append(
            row(
                user,
                at.isoformat(),
                eventType=rng.choice(("SESSION_STARTED", "FLASHCARD_FLIP", "SESSION_ENDED")),
                eventData="{}" if number is None else numbered(number),
                sessionPerformanceScore=rng.choice((None, rng.randrange(101))),
                experimentPhase=phase,
            )
        )
    return rows


CASES = {
    "none": [],
    "one user, one event": [row("a", "2025-10-03 10:00", sessionPerformanceScore=50)],
    "half an hour": [row("a", f"2025-10-03 {time}") for time in ("10:00", "10:30", "11:00:01", "11:02")],
    "numbers that are none": [
        row("a", f"2025-10-03 {hour}:00", eventData=json.dumps({"session": number}))
        for hour, number in enumerate((1.5, 1.5, -1, "x", "7", True, None, 10**18, 10**400, {"n": 1}), 10)
    ],
    "a start and another event at the same time": [
        row("a", "2025-10-03 10:00"),
        row("a", "2025-10-03 10:00", eventType="SESSION_STARTED"),
        row("a", "2025-10-03 10:05"),
        row("b", "2025-10-03 10:00", eventType="SESSION_STARTED"),
        row("b", "2025-10-03 10:00"),
    ],
    "two open at once": [
        row("a", "2025-10-03 10:00", eventData=numbered(1), sessionPerformanceScore=10),
        row("a", "2025-10-03 10:01", eventData=numbered(2), sessionPerformanceScore=90),
        row("a", "2025-10-03 10:02", eventData=numbered(1), sessionPerformanceScore=20),
    ],
    "into the next phase": [
        row("a", "2025-10-03 23:59", eventData=numbered(1), sessionPerformanceScore=10, experimentPhase=PHASES[0]),
        row("a", "2025-10-04 00:01", eventData=numbered(1), sessionPerformanceScore=90, experimentPhase=PHASES[1]),
    ],
    **{f"random {seed}": random_rows(seed) for seed in range(20)},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def rows(request: pytest.FixtureRequest) -> list[Row]:
    return list(request.param)


@pytest.fixture(scope="module")
def views(rows: list[Row]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE behavioral_events (userId VARCHAR, timestamp TIMESTAMP, eventType VARCHAR, eventData JSON, "
            "sessionPerformanceScore INTEGER, experimentPhase VARCHAR)"
        )
        if rows:
            connection.executemany(
                "INSERT INTO behavioral_events VALUES (?, ?, ?, ?, ?, ?)", [list(one.values()) for one in rows]
            )
        for statement in create(days_between(FIRST, LAST), ["behavioral_events"]):
            connection.execute(statement)
        yield connection


def fetch(views: duckdb.DuckDBPyConnection, name: str) -> list[Row]:
    found = views.execute(f"SELECT * FROM {name} ORDER BY ALL")
    columns = [column[0] for column in found.description or ()]
    return [dict(zip(columns, values, strict=True)) for values in found.fetchall()]


def told(one: Row) -> int | None:
    """The number of the session as the app wrote it."""
    number = json.loads(one["eventData"]).get("session")
    return number if type(number) is int and 0 <= number < 10**18 else None


def sessions_of(rows: list[Row]) -> dict[str, list[list[Row]]]:
    """The sessions of each user, in order: by number, else by a start or half an hour of silence."""
    found: dict[str, list[list[Row]]] = {}
    for user in sorted({one["userId"] for one in rows}):
        own = [one for one in rows if one["userId"] == user]
        by_number: dict[int, list[Row]] = defaultdict(list)
        guessed: list[list[Row]] = []
        for one in sorted(own, key=lambda r: (r["timestamp"], r["eventType"] != "SESSION_STARTED")):
            number = told(one)
            if number is not None:
                by_number[number].append(one)
                continue
            silent = not guessed or one["timestamp"] - guessed[-1][-1]["timestamp"] > timedelta(minutes=30)
            if silent or one["eventType"] == "SESSION_STARTED":
                guessed.append([])
            guessed[-1].append(one)
        all_ = [(group[0]["timestamp"], number, group) for number, group in by_number.items()]
        all_ += [(group[0]["timestamp"], 10**9 + place, group) for place, group in enumerate(guessed)]
        found[user] = [group for _, _, group in sorted(all_, key=lambda entry: entry[:2])]
    return found


def scores(rows: list[Row]) -> list[int]:
    return [one["sessionPerformanceScore"] for one in rows if one["sessionPerformanceScore"] is not None]


def mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def test_sessions(rows: list[Row], views: duckdb.DuckDBPyConnection) -> None:
    wanted = []
    for user, sessions in sessions_of(rows).items():
        for number, session in enumerate(sessions, 1):
            began = [one for one in session if one["timestamp"] == session[0]["timestamp"]]
            phases = {one["experimentPhase"] for one in began}
            assert len(phases) == 1
            phase = phases.pop()
            own = scores([one for one in session if one["experimentPhase"] == phase])
            wanted.append(
                {
                    "userId": user,
                    "session_number": number,
                    "app_session": told(session[0]),
                    "started": session[0]["timestamp"],
                    "ended": max(one["timestamp"] for one in session),
                    "events": len(session),
                    "scored_events": len(scores(session)),
                    "mean_score": mean(scores(session)),
                    "phase": phase,
                    "phase_scored_events": len(own),
                    "phase_score": mean(own),
                }
            )
    assert fetch(views, "sessions") == wanted


def test_abab_sessions(rows: list[Row], views: duckdb.DuckDBPyConnection) -> None:
    wanted = []
    for user, sessions in sessions_of(rows).items():
        inside = [session for session in sessions if session[0]["experimentPhase"] is not None]
        seen: dict[str, int] = defaultdict(int)
        for number, session in enumerate(inside, 1):
            phase = session[0]["experimentPhase"]
            seen[phase] += 1
            own = scores([one for one in session if one["experimentPhase"] == phase])
            day = session[0]["timestamp"].date()
            wanted.append((user, number, phase, seen[phase], day, len(own), mean(own)))
    assert [tuple(one.values()) for one in fetch(views, "abab_sessions")] == wanted


def test_daily_activity(rows: list[Row], views: duckdb.DuckDBPyConnection) -> None:
    sessions = sessions_of(rows)
    wanted = []
    for user, started in sessions.items():
        own = [one for one in rows if one["userId"] == user]
        day = min(one["timestamp"] for one in own).date()
        while day <= LAST:
            events = [one for one in own if one["timestamp"].date() == day]
            begun = sum(session[0]["timestamp"].date() == day for session in started)
            minutes = {one["timestamp"].replace(second=0, microsecond=0) for one in events}
            of_day = scores(events)
            wanted.append((user, day, len(events), begun, len(of_day), mean(of_day), sum(of_day), len(minutes)))
            day += timedelta(days=1)
    assert [tuple(one.values()) for one in fetch(views, "daily_activity")] == wanted


def test_its_series(rows: list[Row], views: duckdb.DuckDBPyConnection) -> None:
    wanted = []
    for outcome in ("events", "mean_score", "users"):
        for number in range((LAST - FIRST).days + 1):
            day = FIRST + timedelta(days=number)
            events = [one for one in rows if one["timestamp"].date() == day]
            value = {
                "events": len(events),
                "users": len({one["userId"] for one in events}),
                "mean_score": mean(scores(events)),
            }[outcome]
            n = len(scores(events)) if outcome == "mean_score" else len(events)
            wanted.append((outcome, day, number, value, n))
    assert [tuple(one.values()) for one in fetch(views, "its_series")] == wanted


def test_phase_summary(rows: list[Row], views: duckdb.DuckDBPyConnection) -> None:
    wanted = []
    for phase in sorted({one["experimentPhase"] for one in rows} - {None}):
        own = [one for one in rows if one["experimentPhase"] == phase]
        values = scores(own)
        centre = mean(values)
        spread = None
        if centre is not None and len(values) > 1:
            spread = (sum((value - centre) ** 2 for value in values) / (len(values) - 1)) ** 0.5
        days = [one["timestamp"].date() for one in own]
        users = len({one["userId"] for one in own})
        wanted.append((phase, users, len(own), len(values), centre, pytest.approx(spread), min(days), max(days)))
    assert [tuple(one.values()) for one in fetch(views, "phase_summary")] == wanted


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_each_view_and_column_says_what_it_is(loaded: Project, strategy: str) -> None:
    loaded.set(load__strategy=strategy)
    loaded.load()
    with duckdb.connect(str(loaded.paths.database), read_only=True) as connection:
        columns = connection.execute("SELECT table_name, column_name, comment FROM duckdb_columns()").fetchall()
        named = connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
        tables = dict(connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        alone = [view for view in VIEWS if view.needs == (OF,)]
        for view in (DAYS, *alone):
            connection.execute(f"SELECT * FROM {view.name}").fetchall()
            assert [(name, words) for of, name, words in columns if of == view.name] == list(view.columns.items())
    kept = {name: tables[name] for name in KEPT if strategy == "table"}
    assert {view.name: view.description for view in alone}.items() <= (dict(named) | kept).items()
    assert ("sessions" in tables) == (strategy == "table")
    assert all(words for of, _, words in columns if of == "behavioral_events")
    assert all(words for _, words in named)


def test_every_day_of_the_window_is_there_in_both_strategies(published: Project) -> None:
    for strategy in ("view", "table"):
        published.set(load__strategy=strategy)
        published.load()
        with duckdb.connect(str(published.paths.database), read_only=True) as connection:
            days = connection.execute("SELECT event_date FROM event_days ORDER BY 1").fetchall()
        assert [day for (day,) in days] == [UNTIL - timedelta(days=n) for n in range(5, 0, -1)]
