"""export and load: what is published is typed as the contract says and equal, row by row, in pyarrow and DuckDB."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.contract import COLUMNS, NAMES, arrow_schema
from stages.shared.errors import DataError
from tests.conftest import USER_B, Database, Work, event
from tests.test_extract import extracted_rows, files, nasty_rows


@pytest.fixture
def loaded(db: Database, work: Work) -> Work:
    """A project that ran through, on rows that are hard to carry."""
    db.insert(*nasty_rows(), event(userId=USER_B, experimentPhase="baseline_1", sessionPerformanceScore=50))
    work.all()
    return work


def duckdb_rows(database: Path) -> list[tuple[Any, ...]]:
    columns = ", ".join(f'"{c.name}"::VARCHAR' if c.kind == "json" else f'"{c.name}"' for c in COLUMNS)
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f"SELECT {columns} FROM behavioral_events ORDER BY timestamp, id").fetchall()


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_duckdb_holds_what_postgresql_holds(db: Database, loaded: Work, strategy: str) -> None:
    loaded.set(load__strategy=strategy)
    loaded.load()
    assert duckdb_rows(loaded.database) == db.rows()
    with duckdb.connect(str(loaded.database), read_only=True) as connection:
        described = connection.execute("DESCRIBE behavioral_events").fetchall()
        indexes = connection.execute("SELECT index_name FROM duckdb_indexes() ORDER BY 1").fetchall()
    assert [(row[0], row[1]) for row in described] == [(c.name, c.types.duckdb) for c in COLUMNS]
    assert indexes == ([("idx_experiment_phase",), ("idx_user_timestamp",)] if strategy == "table" else [])


def test_the_export_is_snappy_and_typed_as_the_contract_says(loaded: Work) -> None:
    for path in loaded.out.glob("*/*.parquet"):
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(arrow_schema("export"))
        assert file.schema.column(3).logical_type.type == "JSON"
        assert not pa.types.is_timestamp(file.schema_arrow.field("timestamp").type) or (
            file.schema_arrow.field("timestamp").type.tz is None
        )
        for group in range(file.metadata.num_row_groups):
            for column in range(len(NAMES)):
                assert file.metadata.row_group(group).column(column).compression == "SNAPPY"


def test_the_export_s_rows_are_the_raw_rows_in_total_order(loaded: Work) -> None:
    exported = [tuple(r.values()) for path in sorted(loaded.out.glob("*/*")) for r in pq.read_table(path).to_pylist()]
    assert exported == extracted_rows(loaded)
    order = [(row[4], row[0]) for row in exported]
    assert order == sorted(order)


@pytest.mark.parametrize("batch_size", [1, 3, 10_000_000])
def test_batch_size_changes_no_byte(loaded: Work, batch_size: int) -> None:
    before = files(loaded.out), loaded.quarantine.read_bytes(), loaded.verdict.read_bytes(), loaded.quality.read_bytes()
    loaded.set(extract__batch_size=batch_size)
    loaded.validate()
    loaded.export()
    after = files(loaded.out), loaded.quarantine.read_bytes(), loaded.verdict.read_bytes(), loaded.quality.read_bytes()
    assert after == before


def test_quality_says_what_an_independent_count_says(db: Database, loaded: Work) -> None:
    quality = json.loads(loaded.quality.read_text())
    paths = list(loaded.out.glob("*/*.parquet"))
    rows = db.rows()
    assert quality["rows"] == len(rows)
    assert quality["users"] == len({row[1] for row in rows})
    assert quality["event_types"] == {"FLASHCARD_FLIP": len(rows)}
    assert quality["phases"] == {"baseline_1": 1, "none": len(rows) - 1}
    assert quality["nulls"] == {name: sum(row[i] is None for row in rows) for i, name in enumerate(NAMES)}
    assert quality["first_timestamp"] == "2025-10-26T00:00:00.000Z"
    assert quality["last_timestamp"] == "2025-10-27T23:59:59.999Z"
    assert (quality["files"], quality["bytes"]) == (2, sum(path.stat().st_size for path in paths))


def test_the_view_is_the_same_bytes_every_time(loaded: Work) -> None:
    before = loaded.database.read_bytes()
    loaded.load()
    assert loaded.database.read_bytes() == before


def test_a_table_can_be_moved_away_from_the_files(loaded: Work, tmp_path: Path) -> None:
    loaded.set(load__strategy="table")
    loaded.load()
    expected = duckdb_rows(loaded.database)
    moved = tmp_path / "elsewhere.duckdb"
    shutil.move(loaded.database, moved)
    shutil.rmtree(loaded.root / "data")
    assert duckdb_rows(moved) == expected


def test_a_reader_of_the_old_database_is_not_disturbed(db: Database, loaded: Work) -> None:
    loaded.set(load__strategy="table")
    loaded.load()
    with duckdb.connect(str(loaded.database), read_only=True) as reader:
        before = reader.execute("SELECT count(*) FROM behavioral_events").fetchall()
        db.insert(event())
        loaded.all()
        assert reader.execute("SELECT count(*) FROM behavioral_events").fetchall() == before
    assert len(duckdb_rows(loaded.database)) == len(db.rows())
    assert not [p for p in loaded.database.parent.iterdir() if p.name.startswith(".analytics")]


@pytest.mark.parametrize("where", ["raw", "out"])
@pytest.mark.parametrize("damage", ["a row less", "a day less", "a row of another day", "two days swapped"])
def test_rows_that_do_not_add_up_fail_and_leave_the_old_database(loaded: Work, where: str, damage: str) -> None:
    before = loaded.database.read_bytes()
    root = getattr(loaded, where)
    first, last = sorted(root.glob("*/*.parquet"))
    if damage == "a row less":
        table = pq.read_table(last)
        pq.write_table(table.slice(1), last)
    elif damage == "a day less":
        shutil.rmtree(first.parent)
    elif damage == "two days swapped":
        first.rename(first.with_suffix(".x"))
        last.rename(first)
        first.with_suffix(".x").rename(last)
    else:
        shutil.copy(last, first)
    with pytest.raises(DataError, match="rows are missing or too many"):
        loaded.load()
    assert not json.loads(loaded.loaded.read_text())["equal"]
    assert loaded.database.read_bytes() == before


@pytest.mark.parametrize("mode", ["strict", "quarantine"])
def test_export_refuses_rows_that_validate_did_not_see(db: Database, loaded: Work, mode: str) -> None:
    """As many rows as before, one of them changed: by hand, since DVC would run validate first."""
    loaded.set(validate__mode=mode)
    loaded.validate()
    before = files(loaded.out)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 99 WHERE "userId" = %s', [USER_B])
    loaded.refresh()
    loaded.extract()
    with pytest.raises(DataError, match="does not vouch"):
        loaded.export()
    loaded.verdict.write_text("[]")
    with pytest.raises(DataError, match="missing or damaged"):
        loaded.export()
    assert files(loaded.out) == before


def test_a_flipped_byte_in_a_raw_file_is_found(loaded: Work) -> None:
    path = sorted(loaded.raw.glob("*/*.parquet"))[-1]
    for position in range(1_000, path.stat().st_size - 12_000, 9_973):
        good = path.read_bytes()
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        with pytest.raises((DataError, OSError, duckdb.Error)):
            loaded.validate()
        path.write_bytes(good)


def test_large_bodies_fit_into_a_table(db: Database, work: Work) -> None:
    db.insert(*(event(eventData=json.dumps({"n": n, "x": "y" * 3_000_000})) for n in range(40)))
    work.set(load__strategy="table")
    work.all()
    assert len(duckdb_rows(work.database)) == 40
