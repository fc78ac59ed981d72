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
from pipeline.files import seal
from pipeline.files.writer import DayWriter
from tests import nasty
from tests.conftest import Database, Work, event, extracted_rows, rows_of_duckdb


def exported_rows(work: Work) -> list[tuple[Any, ...]]:
    return [tuple(r.values()) for path in sorted(work.out.glob("*/*")) for r in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_every_value_of_nasty_rows_comes_back(db: Database, work: Work, strategy: str) -> None:
    db.insert(*nasty.nasty_rows())
    everything = db.rows()
    db.insert(*nasty.outside_rows())
    work.set(load__strategy=strategy)
    work.all()
    assert extracted_rows(work) == exported_rows(work) == rows_of_duckdb(work.database) == everything
    report = json.loads(work.extracted.read_text())
    assert report["rows"] == len(everything)
    assert [day["day"] for day in report["by_day"]] == ["2025-10-26", "2025-10-27"]
    assert sum(day["rows"] for day in report["by_day"]) == len(everything)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=st.lists(nasty.rows(), min_size=1, max_size=30), batch_size=st.integers(1, 40))
def test_every_value_of_any_rows_comes_back(
    db: Database, work: Work, rows: list[dict[str, Any]], batch_size: int
) -> None:
    db.run("TRUNCATE behavioral_events CASCADE")
    db.insert(*rows)
    work.set(extract__batch_size=batch_size)
    work.all()
    assert extracted_rows(work) == exported_rows(work) == rows_of_duckdb(work.database) == db.rows()


@pytest.mark.parametrize("body", ['{"a": "\\u0000"}', '{"a": "\\ud800"}', "{", "NaN", '{"a": 1,}', "\v1"])
def test_what_is_no_jsonb_is_refused_by_postgresql_itself(db: Database, body: str) -> None:
    with pytest.raises((psycopg2.errors.UntranslatableCharacter, psycopg2.errors.InvalidTextRepresentation)):
        db.insert(event(eventData=body))


def test_a_copy_that_is_short_is_no_export(db: Database, work: Work) -> None:
    """A view that gives COPY fewer rows than it counts, as a table with a broken index may."""
    db.insert(*(event(id=f"c{n:024d}") for n in range(40)))
    db.run(
        "ALTER TABLE behavioral_events RENAME TO base; CREATE VIEW behavioral_events AS "
        "SELECT * FROM base WHERE NOT (current_query() LIKE 'COPY%' AND id LIKE '%7')"
    )
    work.refresh()
    with pytest.raises(DataError, match="PostgreSQL counted 40 rows and 36 arrived"):
        work.extract()
    assert not work.raw.exists()


def test_a_file_with_fewer_rows_than_its_pin_is_read_again(db: Database, work: Work) -> None:
    db.insert(event(), event())
    work.refresh()
    work.extract()
    path = sorted(work.raw.glob("*/*.parquet"))[-1]
    sealed = seal.read(path)
    assert sealed is not None
    table = pq.read_table(path)
    facts = {key: value for key, value in sealed.facts.items() if key != seal.CHECKSUM}
    with DayWriter(path, table.schema, facts) as writer:
        writer.write(table.slice(1).to_batches()[0])
    work.extract()
    assert extracted_rows(work) == db.rows()


@pytest.mark.parametrize("view", [False, True])
def test_a_row_without_a_timestamp_is_named(db: Database, work: Work, view: bool) -> None:
    db.insert(event(), event(id="c" + "z" * 24))
    db.run("ALTER TABLE behavioral_events ALTER timestamp DROP NOT NULL")
    work.refresh()
    work.extract()
    db.run("UPDATE behavioral_events SET timestamp = NULL WHERE id = %s", ["c" + "z" * 24])
    if view:
        db.run("ALTER TABLE behavioral_events RENAME TO base; CREATE VIEW behavioral_events AS TABLE base")
    for stage in (work.refresh, lambda: (shutil.rmtree(work.raw), work.extract())):
        with pytest.raises(RowsInvalidError, match=f"timestamp fails finite: 'c{'z' * 24}' \\(NULL\\)"):
            stage()


def test_an_infinite_row_that_comes_later_is_named(db: Database, work: Work) -> None:
    db.insert(event())
    work.all()
    db.insert(event(id="c" + "z" * 24, timestamp="infinity"))
    with pytest.raises(RowsInvalidError, match="infinity"):
        work.refresh()


def test_a_change_of_two_rows_that_are_the_same_is_seen(db: Database, work: Work) -> None:
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    twin = event()
    db.insert(event(), twin, twin)
    work.refresh()
    before = work.watermark.read_bytes()
    db.run("""UPDATE behavioral_events SET "contentType" = 'other' WHERE id = %s""", [twin["id"]])
    work.refresh()
    assert work.watermark.read_bytes() != before
