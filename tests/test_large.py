"""Bodies of tens of megabytes: they pass, and are what PostgreSQL holds."""

from __future__ import annotations

import pytest

from tests.helpers import Database, Project, read_report


@pytest.mark.parametrize(
    ("bodies", "megabytes", "strategy"),
    [
        pytest.param(1, 120, "view", id="one of 120 MB"),
        pytest.param(4, 40, "table", id="four of 40 MB in a table"),
    ],
)
def test_large_bodies_pass(db: Database, project: Project, bodies: int, megabytes: int, strategy: str) -> None:
    db.run(
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
        "SELECT 'c' || lpad(i::text, 24, '0'), 'c' || repeat('a', 24), 'FLASHCARD_FLIP', "
        "jsonb_build_object('text', repeat('QUJDREVGR0hJSktM', %s), 'k', 'some info', 'i', i), '2025-10-26 10:00' "
        "FROM generate_series(1, %s) i",
        [megabytes * 65_536, bodies],
    )
    project.set(load__strategy=strategy)
    project.all()
    report = read_report(project.paths.load_report, "tables")
    assert report["equal"]
    assert report["tables"][0]["duckdb"] == bodies
