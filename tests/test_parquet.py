"""A day's file: the same bytes however its rows arrive, and row groups that end where they should."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.files import writer as parquet
from pipeline.files.layout import day_path, days_in, replacing, replacing_file
from pipeline.files.writer import DayWriter, batches, open_day
from schemas.contract import NAMES, arrow_schema

DAY = date(2025, 10, 27)
RAW = arrow_schema("raw")


def rows(n: int, body: int = 20) -> pa.RecordBatch:
    columns = {name: [None] * n for name in NAMES} | {
        "id": [f"c{i:024d}" for i in range(n)],
        "eventType": ["FLASHCARD_FLIP", "GRAPH_VIEWED", None, "SESSION_ENDED"] * (n // 4) + ["X"] * (n % 4),
        "eventData": [f"{{{'x' * (i * 7 % (body + 1))}}}" for i in range(n)],
        "timestamp": list(range(n)),
    }
    return pa.RecordBatch.from_pydict(columns, schema=RAW)


def write(path: Path, batch: pa.RecordBatch, cuts: list[int]) -> str:
    with DayWriter(path, RAW) as writer:
        begin = 0
        for end in [*sorted(cuts), batch.num_rows]:
            writer.write(batch.slice(begin, end - begin))
            begin = end
    assert writer.rows == batch.num_rows
    return hashlib.sha256(path.read_bytes()).hexdigest()


BATCH = rows(40_000)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=30))
def test_the_bytes_do_not_depend_on_how_rows_arrive(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("split")
    assert write(folder / "a", BATCH, []) == write(folder / "b", BATCH, cuts)
    assert pq.read_table(folder / "b").equals(pa.Table.from_batches([BATCH]))


def test_row_groups_end_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "rows", BATCH, [])
    meta = pq.ParquetFile(tmp_path / "rows").metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [16_384, 16_384, 7_232]
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 2_000)
    small = rows(200, body=3_000)
    assert write(tmp_path / "a", small, []) == write(tmp_path / "b", small, list(range(0, 200, 7)))
    file = pq.ParquetFile(tmp_path / "a")
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        size = sum(len(v or "") for name in ("id", "eventType", "eventData") for v in table.column(name).to_pylist())
        assert size <= 2_000 or table.num_rows == 1


def test_the_footer_holds_no_pandas_metadata(tmp_path: Path) -> None:
    write(tmp_path / "a", rows(3), [])
    assert set(pq.ParquetFile(tmp_path / "a").metadata.metadata or {}) <= {b"ARROW:schema"}


def test_a_day_without_rows_is_a_file_with_the_columns(tmp_path: Path) -> None:
    write(day_path(tmp_path, DAY), rows(0), [])
    file = open_day(tmp_path, DAY, RAW)
    assert file.metadata.num_rows == 0
    assert list(batches(file, 10)) == []
    assert days_in(tmp_path) == [DAY]


def test_damage_is_named(tmp_path: Path) -> None:
    path = day_path(tmp_path, DAY)
    with pytest.raises(DataError, match="is missing"):
        open_day(tmp_path, DAY, RAW)
    write(path, rows(100), [])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        open_day(tmp_path, DAY, RAW)
    write(path, rows(1), [])
    with pytest.raises(DataError, match="other columns"):
        open_day(tmp_path, DAY, arrow_schema("export"))


def test_strangers_among_the_days_are_named(tmp_path: Path) -> None:
    write(day_path(tmp_path, DAY), rows(1), [])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        days_in(tmp_path)


def put(root: Path, days: list[int]) -> None:
    for day in days:
        write(day_path(root, date(2025, 10, day)), rows(day), [])


def test_replacing_publishes_all_days_or_leaves_all_as_they_were(tmp_path: Path) -> None:
    root = tmp_path / "days"
    with replacing(root) as new:
        put(new, [1, 2])
    with pytest.raises(RuntimeError), replacing(root) as new:
        put(new, [2, 3])
        raise RuntimeError
    assert [day.day for day in days_in(root)] == [1, 2]
    (tmp_path / ".days.left-by-a-killed-run").mkdir()
    with replacing(root) as new:
        put(new, [2, 3])
    assert [day.day for day in days_in(root)] == [2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["days"]


def test_replacing_a_file_leaves_readers_of_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        with replacing_file(path) as new:
            new.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), replacing_file(path) as new:
        new.write_text("half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
