"""Every value comes back through all four stages as psycopg2 reads it, row by row."""

from __future__ import annotations

import json
from typing import Any

import psycopg2.errors
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    max_examples=15,
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
