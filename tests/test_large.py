"""Bodies of tens of megabytes: they pass, and are what PostgreSQL holds."""

from __future__ import annotations

from tests.helpers import Database, Project, read_report


def test_a_body_larger_than_the_limits_of_memory_passes(db: Database, project: Project) -> None:
    """70 MB, also into a table, whose transaction holds it as a whole."""
    db.run(
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) '
        "SELECT 'c' || lpad(i::text, 24, '0'), 'c' || repeat('a', 24), 'FLASHCARD_FLIP', "
        "jsonb_build_object('text', repeat('QUJDREVGR0hJSktM', %s), 'k', 'some info', 'i', i), '2025-10-26 10:00' "
        "FROM generate_series(1, 1) i",
        [70 * 65_536],
    )
    project.set(load__strategy="table")
    project.all()
    report = read_report(project.paths.load_report, "tables")
    assert report["equal"]
    assert report["tables"][0]["duckdb"] == 1
