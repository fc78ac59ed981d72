"""export and load: what is published is typed as the contract says and equal, row by row, in pyarrow and DuckDB."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checks import reconcile
from pipeline.core.errors import DataError, ParamsError
from pipeline.files import manifest as extracted
from pipeline.files.layout import days_in
from pipeline.files.writer import DayWriter
from schemas.contract import COLUMNS, NAMES, arrow_schema
from tests.conftest import USER_B, Database, Work, event, extracted_rows, ready_made, rows_of_duckdb
from tests.nasty import nasty_rows
from tests.test_extract import files


@pytest.fixture
def loaded(db: Database, work: Work) -> Work:
    """A project that ran through, on rows that are hard to carry."""
    more = event(userId=USER_B, experimentPhase="baseline_1", sessionPerformanceScore=50)
    return ready_made("loaded", db, work, [*nasty_rows(), more])


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_duckdb_holds_what_postgresql_holds(db: Database, loaded: Work, strategy: str) -> None:
    loaded.set(load__strategy=strategy)
    loaded.load()
    assert rows_of_duckdb(loaded.database) == db.rows()
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
    expected = rows_of_duckdb(loaded.database)
    moved = tmp_path / "elsewhere.duckdb"
    shutil.move(loaded.database, moved)
    shutil.rmtree(loaded.root / "data")
    assert rows_of_duckdb(moved) == expected


def test_a_reader_of_the_old_database_is_not_disturbed(db: Database, loaded: Work) -> None:
    loaded.set(load__strategy="table")
    loaded.load()
    with duckdb.connect(str(loaded.database), read_only=True) as reader:
        before = reader.execute("SELECT count(*) FROM behavioral_events").fetchall()
        db.insert(event())
        loaded.all()
        assert reader.execute("SELECT count(*) FROM behavioral_events").fetchall() == before
    assert len(rows_of_duckdb(loaded.database)) == len(db.rows())
    assert not [p for p in loaded.database.parent.iterdir() if p.name.startswith(".analytics")]


def rewrite(path: Path, table: pa.Table) -> None:
    """Another content in a file that is whole."""
    with DayWriter(path, table.schema, {}) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write(batch)


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


@pytest.mark.parametrize("where", ["raw", "out"])
def test_one_value_that_is_another_is_found_and_its_day_named(loaded: Work, where: str) -> None:
    before = loaded.database.read_bytes()
    path = sorted(getattr(loaded, where).glob("*/*.parquet"))[-1]
    good, table = path.read_bytes(), pq.read_table(path)
    for column in NAMES:
        rewrite(path, changed(table, column))
        loaded.as_if_extracted()
        with pytest.raises(DataError, match="2025-10-27: the rows that DuckDB reads are not those of data/raw"):
            loaded.load()
        assert loaded.database.read_bytes() == before
    path.write_bytes(good)
    loaded.as_if_extracted()
    loaded.load()


def test_a_row_twice_in_place_of_another_is_found(loaded: Work) -> None:
    path = sorted(loaded.out.glob("*/*.parquet"))[-1]
    table = pq.read_table(path)
    rewrite(path, pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)]))
    with pytest.raises(DataError, match="2025-10-27: the rows that DuckDB reads"):
        loaded.load()


@pytest.mark.parametrize("where", ["raw", "out"])
def test_a_flipped_or_missing_byte_names_the_file(loaded: Work, where: str) -> None:
    path = sorted(getattr(loaded, where).glob("*/*.parquet"))[-1]
    good = path.read_bytes()
    for bad in (good[:900] + bytes([good[900] ^ 1]) + good[901:], good[:-1], good[: len(good) // 2], b""):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"event_date=2025-10-27/part-0.parquet is damaged"):
            loaded.load()


KEY = "k" * 32


def test_pseudonyms(db: Database, loaded: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    db.run('ALTER TABLE behavioral_events DROP CONSTRAINT "behavioral_events_contextMetadataId_fkey"')
    db.insert(event(contextMetadataId="context 1"), event(contextMetadataId="context 1", userId=USER_B))
    plain = {row[0]: row for row in db.rows()}
    loaded.set(export__pseudonymize=True)
    for short in (None, "", "k" * 31):
        monkeypatch.delenv("PSEUDONYM_KEY", raising=False)
        if short is not None:
            monkeypatch.setenv("PSEUDONYM_KEY", short)
        before = files(loaded.out)
        with pytest.raises(ParamsError, match="PSEUDONYM_KEY is") as caught:
            loaded.all()
        assert caught.value.exit_code == 2
        assert files(loaded.out) == before
    monkeypatch.setenv("PSEUDONYM_KEY", KEY)
    loaded.all()
    names: dict[tuple[str, str], set[str]] = {}
    for row in rows_of_duckdb(loaded.database):
        was = plain[row[0]]
        for i, name in ((1, "userId"), (14, "contextMetadataId")):
            if was[i] is None:
                assert row[i] is None
                continue
            assert row[i] == expected_pseudonym(name, was[i])
            names.setdefault((name, was[i]), set()).add(row[i])
        assert [v for i, v in enumerate(row) if i not in (1, 14)] == [v for i, v in enumerate(was) if i not in (1, 14)]
    assert all(len(found) == 1 for found in names.values())
    assert json.loads(loaded.loaded.read_text())["columns_compared"] == 13
    text = b"".join(path.read_bytes() for path in loaded.out.rglob("*.parquet"))
    assert KEY.encode() not in text
    first = files(loaded.out)
    monkeypatch.setenv("PSEUDONYM_KEY", "another key " * 4)
    loaded.export()
    assert files(loaded.out).keys() == first.keys()
    assert all(files(loaded.out)[name] != content for name, content in first.items())


def expected_pseudonym(column: str, value: str) -> str:
    """The definition, written a second time: base 36 of the HMAC, least digit first, 24 digits."""
    number = int(hmac.new(KEY.encode(), f"{column}:{value}".encode(), hashlib.sha256).hexdigest(), 16)
    return "c" + "".join("0123456789abcdefghijklmnopqrstuvwxyz"[number // 36**n % 36] for n in range(24))


@pytest.mark.parametrize("where", ["raw", "out"])
@pytest.mark.parametrize("damage", ["a row less", "a day less", "a row of another day", "two days swapped"])
def test_rows_that_do_not_add_up_fail_and_leave_the_old_database(loaded: Work, where: str, damage: str) -> None:
    before = loaded.database.read_bytes()
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
    if (where, damage) == ("raw", "a day less"):
        words = "the file of 2025-10-26 is missing"
    else:
        words = "rows are missing, too many or not the same"
        loaded.as_if_extracted()
    with pytest.raises(DataError, match=words):
        loaded.load()
    assert json.loads(loaded.loaded.read_text())["equal"] == words.startswith("the file")
    assert loaded.database.read_bytes() == before


def test_rows_that_stand_in_no_file_are_found_though_every_file_was_compared_before(loaded: Work) -> None:
    with duckdb.connect(str(loaded.database)) as connection:
        body = f"SELECT * FROM read_parquet('{loaded.out}/*/*.parquet', hive_partitioning = false)"
        more = f"{body} UNION ALL (SELECT * REPLACE (timestamp - INTERVAL 9 YEAR AS timestamp) FROM ({body}) LIMIT 1)"
        connection.execute(f"CREATE OR REPLACE VIEW behavioral_events AS {more}")
    with duckdb.connect() as connection:
        report, differences = reconcile.reconcile(
            connection,
            loaded.database,
            {str(day): file.rows for day, file in extracted.read(loaded.extracted).items()},
            loaded.raw,
            loaded.quarantine,
            loaded.out,
            NAMES,
            to_compare=[],
            compared=days_in(loaded.raw),
        )
    rows = report["raw"]
    assert differences == [f"DuckDB holds {rows + 1} rows, {rows} of them on the days of the window"]
    assert not report["equal"]


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
    assert len(rows_of_duckdb(work.database)) == 40
