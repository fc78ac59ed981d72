"""Every value comes back through all four stages as psycopg2 reads it, row by row."""

from __future__ import annotations

import json
import shutil
from typing import Any

import psycopg2.errors
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError, RowsInvalidError
from tests import nasty
from tests.helpers import Database, Project, event, rewrite, rows_in, rows_of_duckdb, rows_of_parquet


def exported_rows(project: Project) -> list[tuple[Any, ...]]:
    return rows_of_parquet(project.exported)


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_every_value_of_nasty_rows_comes_back(db: Database, project: Project, strategy: str) -> None:
    db.insert(*nasty.nasty_rows())
    everything = db.rows()
    db.insert(*nasty.outside_rows())
    project.set(load__strategy=strategy)
    project.all()
    assert (
        rows_of_parquet(project.raw)
        == rows_of_parquet(project.exported)
        == rows_of_duckdb(project.paths.database)
        == everything
    )
    report = json.loads(project.paths.extract_report.read_text())
    assert rows_in(project.paths.extract_report) == len(everything)
    assert [file["day"] for file in report["files"]] == ["2025-10-26", "2025-10-27"]
    assert sum(file["rows"] for file in report["files"]) == len(everything)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=st.lists(nasty.rows(), min_size=1, max_size=30), batch_size=st.integers(1, 40))
def test_every_value_of_any_rows_comes_back(
    db: Database, project: Project, rows: list[dict[str, Any]], batch_size: int
) -> None:
    db.run("TRUNCATE behavioral_events CASCADE")
    db.insert(*rows)
    project.set(extract__batch_size=batch_size)
    project.all()
    assert (
        rows_of_parquet(project.raw)
        == rows_of_parquet(project.exported)
        == rows_of_duckdb(project.paths.database)
        == db.rows()
    )


@pytest.mark.parametrize("body", ['{"a": "\\u0000"}', '{"a": "\\ud800"}', "{", "NaN", '{"a": 1,}', "\v1"])
def test_what_is_no_jsonb_is_refused_by_postgresql_itself(db: Database, body: str) -> None:
    with pytest.raises((psycopg2.errors.UntranslatableCharacter, psycopg2.errors.InvalidTextRepresentation)):
        db.insert(event(eventData=body))


def test_a_copy_that_is_short_is_no_export(db: Database, project: Project) -> None:
    """A view that gives COPY fewer rows than it counts, as a table with a broken index may."""
    db.insert(*(event(id=f"c{n:024d}") for n in range(40)))
    db.run(
        "ALTER TABLE behavioral_events RENAME TO base; CREATE VIEW behavioral_events AS "
        "SELECT * FROM base WHERE NOT (current_query() LIKE 'COPY%' AND id LIKE '%7')"
    )
    project.refresh()
    with pytest.raises(DataError, match="PostgreSQL counted 40 rows and 36 arrived"):
        project.extract()
    assert not project.raw.exists()


def test_a_file_with_fewer_rows_than_its_pin_is_read_again(db: Database, project: Project) -> None:
    db.insert(event(), event())
    project.refresh()
    project.extract()
    path = sorted(project.raw.glob("*/*.parquet"))[-1]
    rewrite(path, pq.read_table(path).slice(1))
    project.extract()
    assert rows_of_parquet(project.raw) == db.rows()


@pytest.mark.parametrize("view", [False, True])
def test_a_row_without_a_timestamp_is_named(db: Database, project: Project, view: bool) -> None:
    db.insert(event(), event(id="c" + "z" * 24))
    db.run("ALTER TABLE behavioral_events ALTER timestamp DROP NOT NULL")
    project.refresh()
    project.extract()
    db.run("UPDATE behavioral_events SET timestamp = NULL WHERE id = %s", ["c" + "z" * 24])
    if view:
        db.run("ALTER TABLE behavioral_events RENAME TO base; CREATE VIEW behavioral_events AS TABLE base")
    for stage in (project.refresh, lambda: (shutil.rmtree(project.raw), project.extract())):
        with pytest.raises(RowsInvalidError, match=f"timestamp fails finite: 'c{'z' * 24}' \\(NULL\\)"):
            stage()


def test_an_infinite_row_that_comes_later_is_named(db: Database, project: Project) -> None:
    db.insert(event())
    project.all()
    db.insert(event(id="c" + "z" * 24, timestamp="infinity"))
    with pytest.raises(RowsInvalidError, match="infinity"):
        project.refresh()


def test_a_change_of_two_rows_that_are_the_same_is_seen(db: Database, project: Project) -> None:
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    twin = event()
    db.insert(event(), twin, twin)
    project.refresh()
    before = project.paths.watermark.read_bytes()
    db.run("""UPDATE behavioral_events SET "contentType" = 'other' WHERE id = %s""", [twin["id"]])
    project.refresh()
    assert project.paths.watermark.read_bytes() != before
