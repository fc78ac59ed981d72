"""load: DuckDB holds what PostgreSQL holds, or the difference is named and the old database stays."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import DataError
from pipeline.days.compare import CompareTask, compare_days
from pipeline.files import manifest
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from stages import load
from tests.helpers import COLUMNS, NAMES, TABLE, Database, Project, event, rewrite, rows_of_duckdb


def both(project: Project) -> tuple[Path, Path]:
    """The reports that list the files of data/raw and data/export."""
    return project.paths.extract_report, project.paths.quality_report


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_duckdb_holds_what_postgresql_holds(db: Database, loaded: Project, strategy: str) -> None:
    loaded.set(load__strategy=strategy)
    loaded.load()
    assert rows_of_duckdb(loaded.paths.database) == db.rows()
    with duckdb.connect(str(loaded.paths.database), read_only=True) as connection:
        described = connection.execute("DESCRIBE behavioral_events").fetchall()
        indexes = connection.execute("SELECT index_name FROM duckdb_indexes() ORDER BY 1").fetchall()
    assert [(row[0], row[1]) for row in described] == [(c.name, c.type.duckdb) for c in COLUMNS]
    assert indexes == ([("idx_experiment_phase",), ("idx_user_timestamp",)] if strategy == "table" else [])


def test_the_view_is_the_same_bytes_every_time(loaded: Project) -> None:
    before = loaded.paths.database.read_bytes()
    loaded.load()
    assert loaded.paths.database.read_bytes() == before


def test_a_table_can_be_moved_away_from_the_files(loaded: Project, tmp_path: Path) -> None:
    loaded.set(load__strategy="table")
    loaded.load()
    expected = rows_of_duckdb(loaded.paths.database)
    moved = tmp_path / "elsewhere.duckdb"
    shutil.move(loaded.paths.database, moved)
    shutil.rmtree(loaded.root / "data")
    assert rows_of_duckdb(moved) == expected


def test_a_reader_of_the_old_database_is_not_disturbed(db: Database, loaded: Project) -> None:
    loaded.set(load__strategy="table")
    loaded.load()
    with duckdb.connect(str(loaded.paths.database), read_only=True) as reader:
        before = reader.execute("SELECT count(*) FROM behavioral_events").fetchall()
        db.insert(event())
        loaded.all()
        assert reader.execute("SELECT count(*) FROM behavioral_events").fetchall() == before
    assert len(rows_of_duckdb(loaded.paths.database)) == len(db.rows())
    assert not [p for p in loaded.paths.database.parent.iterdir() if p.name.startswith(".analytics")]


def changed(table: pa.Table, column: str) -> pa.Table:
    """As many rows as before; two of them with each other's value, or one with a value of its own."""
    i = table.schema.get_field_index(column)
    values = table.column(i).to_pylist()
    other = next((n for n, value in enumerate(values) if value != values[0]), None)
    if column == "timestamp":
        values[0] = values[0] + timedelta(milliseconds=1)
    elif other is None:
        values[0] = 7 if column in ("dayOfWeek", "timeOfDay", "randomizationSeed", "sessionPerformanceScore") else "x"
    else:
        values[0], values[other] = values[other], values[0]
    field = table.schema.field(i)
    if isinstance(field.type, pa.BaseExtensionType):
        array = pa.ExtensionArray.from_storage(field.type, pa.array(values, field.type.storage_type))
    else:
        array = pa.array(values, field.type)
    return table.set_column(i, field, array)


@pytest.mark.parametrize("where", ["raw", "exported"])
def test_one_value_that_is_another_is_found_and_its_day_named(loaded: Project, where: str) -> None:
    before = loaded.paths.database.read_bytes()
    path = sorted(getattr(loaded, where).glob("*/*.parquet"))[-1]
    good, table = path.read_bytes(), pq.read_table(path)
    for column in NAMES:
        rewrite(path, changed(table, column))
        loaded.as_if_made(*both(loaded))
        with pytest.raises(DataError, match="2025-10-27: the rows that DuckDB reads are not those of data/raw"):
            loaded.load()
        assert loaded.paths.database.read_bytes() == before
    path.write_bytes(good)
    loaded.as_if_made(*both(loaded))
    loaded.load()


def test_a_row_twice_in_place_of_another_is_found(loaded: Project) -> None:
    path = sorted(loaded.exported.glob("*/*.parquet"))[-1]
    table = pq.read_table(path)
    rewrite(path, pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)]))
    loaded.as_if_made(*both(loaded))
    with pytest.raises(DataError, match="2025-10-27: the rows that DuckDB reads"):
        loaded.load()


@pytest.mark.parametrize("where", ["raw", "exported"])
def test_a_flipped_or_missing_byte_names_the_file(loaded: Project, where: str) -> None:
    path = sorted(getattr(loaded, where).glob("*/*.parquet"))[-1]
    good = path.read_bytes()
    for bad in (good[:900] + bytes([good[900] ^ 1]) + good[901:], good[:-1], good[: len(good) // 2], b""):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="the file of 2025-10-27 is altered"):
            loaded.load()


@pytest.mark.parametrize("where", ["raw", "exported"])
@pytest.mark.parametrize("damage", ["a row less", "a day less", "a row of another day", "two days swapped"])
def test_rows_that_do_not_add_up_fail_and_leave_the_old_database(loaded: Project, where: str, damage: str) -> None:
    before = loaded.paths.database.read_bytes()
    root = getattr(loaded, where)
    first, last = sorted(root.glob("*/*.parquet"))
    if damage == "a row less":
        rewrite(last, pq.read_table(last).slice(1))
    elif damage == "a day less":
        shutil.rmtree(first.parent)
    elif damage == "two days swapped":
        first.rename(first.with_suffix(".x"))
        last.rename(first)
        first.with_suffix(".x").rename(last)
    else:
        shutil.copy(last, first)
    if damage == "a day less":
        words = "the file of 2025-10-26 is missing"
    else:
        words = "rows are missing, too many or not the same"
        loaded.as_if_made(*both(loaded))
    with pytest.raises(DataError, match=words):
        loaded.load()
    assert json.loads(loaded.paths.load_report.read_text())["equal"] == words.startswith("the file")
    assert loaded.paths.database.read_bytes() == before


def test_rows_that_stand_in_no_file_are_found_though_every_file_was_compared_before(loaded: Project) -> None:
    with duckdb.connect(str(loaded.paths.database)) as connection:
        body = f"SELECT * FROM read_parquet('{loaded.exported}/*/*.parquet', hive_partitioning = false)"
        more = f"{body} UNION ALL (SELECT * REPLACE (timestamp - INTERVAL 9 YEAR AS timestamp) FROM ({body}) LIMIT 1)"
        connection.execute(f"CREATE OR REPLACE VIEW behavioral_events AS {more}")
    raw, exported = (manifest.read(report, [BEHAVIORAL_EVENTS])[TABLE] for report in both(loaded))
    places = (loaded.raw, loaded.quarantine, loaded.exported, loaded.paths.database)
    task = CompareTask(BEHAVIORAL_EVENTS, (), (), "", "", *places, NAMES)
    job = load.Job(BEHAVIORAL_EVENTS, raw, exported, NAMES, "view")
    totals, differences = load.judge(job, raw.keys(), compare_days(task))
    rows = totals["raw"]
    assert differences == [f"DuckDB holds {rows + 1} rows, {rows} of them on the days of the window"]


def test_a_flipped_byte_in_a_raw_file_is_found(loaded: Project) -> None:
    path = sorted(loaded.raw.glob("*/*.parquet"))[-1]
    for position in range(1_000, path.stat().st_size - 12_000, 9_973):
        good = path.read_bytes()
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        with pytest.raises((DataError, OSError, duckdb.Error)):
            loaded.validate()
        path.write_bytes(good)


@pytest.mark.long
def test_large_bodies_fit_into_a_table(db: Database, project: Project) -> None:
    db.insert(*(event(eventData=json.dumps({"n": n, "x": "y" * 3_000_000})) for n in range(40)))
    project.set(load__strategy="table")
    project.all()
    assert len(rows_of_duckdb(project.paths.database)) == 40
