"""A day's digest: PostgreSQL, DuckDB and Python come to the same; other rows have another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checks import pins
from pipeline.core import watermark
from pipeline.core.errors import DataError
from pipeline.files.layout import day_path
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.helpers import COLUMNS, ROOT, TABLE, UNTIL, USER_B, Database, Project, event
from tests.nasty import nasty_rows, rows

DAYS = [UNTIL - timedelta(days=2), UNTIL - timedelta(days=1)]


def in_python(found: list[tuple[Any, ...]]) -> str:
    """The digest of these rows, after its description: pipeline/core/digest.py."""
    total = 0
    for row in found:
        nulls = sum(1 << n for n, value in enumerate(row) if value is None)
        fixed, texts = [], []
        for column, value in zip(COLUMNS, row, strict=True):
            if value is None:
                continue
            if column.kind == "timestamp":
                value = round(value.replace(tzinfo=UTC).timestamp() * 1000)
            (texts if column.kind in ("text", "enum") else fixed).append(value)
        text = "\x1f".join(map(str, [nulls, *fixed, *(len(text.encode()) for text in texts), *texts]))
        total += int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[16:], 16)
    return f"{total % 2**64:016x}"


def agree(db: Database, project: Project) -> dict[date, str]:
    """The digests of all days, after every way to them led to the same."""
    project.refresh()
    project.extract()
    pinned = watermark.load(project.paths.watermark).tables[TABLE]
    by_duckdb = pins.pins_of(BEHAVIORAL_EVENTS, [day_path(project.raw, day) for day in pinned])
    for day, pin in pinned.items():
        mine = [row for row in db.rows() if row[4].date() == day]
        assert (pin.rows, pin.digest) == (len(mine), in_python(mine))
        assert by_duckdb[day_path(project.raw, day)] == pin
    return {day: pin.digest for day, pin in pinned.items()}


def test_nasty_rows(db: Database, project: Project) -> None:
    db.insert(*nasty_rows())
    agree(db, project)


def test_rows_without_values_and_the_same_row_twice(db: Database, project: Project) -> None:
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    nullable = [column.name for column in COLUMNS if column.name != "timestamp"]
    for name in nullable:
        db.run(f'ALTER TABLE behavioral_events ALTER "{name}" DROP NOT NULL')
    db.insert(*(event(**{name: None}) for name in nullable), event(**dict.fromkeys(nullable)), *[event(id="1")] * 3)
    assert agree(db, project)[DAYS[0]] == "0" * 16


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows(), max_size=8))
def test_any_rows(db: Database, project: Project, some: list[dict[str, Any]]) -> None:
    db.run("TRUNCATE behavioral_events")
    if some:
        db.insert(*some)
    agree(db, project)


NEIGHBOURS = [
    {"contentType": "a", "difficultyLevel": "b\x1fc"},
    {"contentType": "a\x1fb", "difficultyLevel": "c"},
    {"contentType": "ab", "difficultyLevel": "c"},
    {"contentType": None, "difficultyLevel": "a\x1fb\x1fc"},
    {"contentType": "", "difficultyLevel": "a\x1fb\x1fc"},
    {"contentType": None, "difficultyLevel": None},
    {"contentType": "", "difficultyLevel": None},
    {"contentType": None, "difficultyLevel": ""},
    {"dayOfWeek": 1, "timeOfDay": None},
    {"dayOfWeek": None, "timeOfDay": 1},
    {"dayOfWeek": 1, "timeOfDay": 1},
    {"dayOfWeek": 11, "timeOfDay": None},
]


def test_neighbours_pass_nothing_to_each_other_unseen(db: Database, project: Project) -> None:
    seen = set()
    for values in NEIGHBOURS:
        db.run("TRUNCATE behavioral_events")
        db.insert(event(id="c" + "1" * 24, **values))
        seen.add(agree(db, project)[DAYS[1]])
    assert len(seen) == len(NEIGHBOURS)


@pytest.fixture
def encoded(db: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Database]:
    """A database that stores its texts in another encoding."""

    def create(encoding: str) -> Database:
        name = f"{db.name}_{encoding.lower()}"
        db.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        other = Database({**db.where, "client_encoding": "utf8"}, name)
        other.run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
        monkeypatch.setenv("DATABASE_URL", other.url())
        return other

    return create


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        pytest.param("LATIN1", "é ß ÿ", id="LATIN1"),
        pytest.param("EUC_JP", "日本語", id="EUC_JP"),
        pytest.param("SQL_ASCII", "é 日本語 🧠", id="SQL_ASCII"),
    ],
)
def test_a_database_in_another_encoding(
    encoded: Callable[[str], Database], project: Project, encoding: str, text: str
) -> None:
    other = encoded(encoding)
    other.insert(event(contentType=text, eventData=f'{{"{text}": 1}}'), event(userId=USER_B, difficultyLevel=text))
    agree(other, project)
    project.validate()
    assert text in str(other.rows())


def test_bytes_of_no_known_encoding(encoded: Callable[[str], Database], project: Project) -> None:
    other = encoded("SQL_ASCII")
    other.insert(event())
    other.run("UPDATE behavioral_events SET \"contentType\" = E'\\xe9'")
    project.refresh()
    with pytest.raises(DataError, match="can't give a value: invalid byte sequence"):
        project.extract()
