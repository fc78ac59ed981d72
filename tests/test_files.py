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
from pipeline.files import writer
from pipeline.files.layout import day_path, days_in, replacing, replacing_days, replacing_files
from pipeline.files.writer import DayWriter, batches, open_file
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.helpers import NAMES, TABLE

DAY = date(2025, 10, 27)


RAW = BEHAVIORAL_EVENTS.arrow_schema("raw")


def rows(n: int, body: int = 20) -> pa.RecordBatch:
    columns = {name: [None] * n for name in NAMES} | {
        "id": [f"c{i:024d}" for i in range(n)],
        "eventType": ["FLASHCARD_FLIP", "GRAPH_VIEWED", None, "SESSION_ENDED"] * (n // 4) + ["X"] * (n % 4),
        "eventData": [f"{{{'x' * (i * 7 % (body + 1))}}}" for i in range(n)],
        "timestamp": list(range(n)),
    }
    return pa.RecordBatch.from_pydict(columns, schema=RAW)


def write(path: Path, batch: pa.RecordBatch, cuts: list[int]) -> str:
    with DayWriter(path, RAW, BEHAVIORAL_EVENTS.distinct) as file:
        begin = 0
        for end in [*sorted(cuts), batch.num_rows]:
            file.write(batch.slice(begin, end - begin))
            begin = end
    assert (file.rows, file.sha256) == (batch.num_rows, hashlib.sha256(path.read_bytes()).hexdigest())
    return file.sha256


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
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 2_000)
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
    file = open_file(day_path(tmp_path, DAY), RAW)
    assert file.metadata.num_rows == 0
    assert list(batches(file, 10)) == []
    assert days_in(tmp_path) == [DAY]


def test_damage_is_named(tmp_path: Path) -> None:
    path = day_path(tmp_path, DAY)
    with pytest.raises(DataError, match="is missing"):
        open_file(day_path(tmp_path, DAY), RAW)
    write(path, rows(100), [])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        open_file(day_path(tmp_path, DAY), RAW)
    write(path, rows(1), [])
    with pytest.raises(DataError, match="other columns"):
        open_file(day_path(tmp_path, DAY), BEHAVIORAL_EVENTS.arrow_schema("export"))


def test_strangers_among_the_days_are_named(tmp_path: Path) -> None:
    write(day_path(tmp_path, DAY), rows(1), [])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        days_in(tmp_path)


def put(staging: Path, days: list[int]) -> None:
    for day in days:
        write(day_path(staging / TABLE, date(2025, 10, day)), rows(day), [])


def test_replacing_publishes_all_days_or_leaves_all_as_they_were(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    with replacing_days(root, {TABLE: ()}) as new:
        put(new, [1, 2])
    with pytest.raises(RuntimeError), replacing_days(root, {TABLE: ()}) as new:
        put(new, [2, 3])
        raise RuntimeError
    assert [day.day for day in days_in(root / TABLE)] == [1, 2]
    (tmp_path / ".raw.k1ll3d_0").mkdir()
    with replacing_days(root, {TABLE: ()}) as new:
        put(new, [2, 3])
    assert [day.day for day in days_in(root / TABLE)] == [2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


def test_replacing_keeps_days_and_removes_what_is_of_no_table(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    with replacing_days(root, {TABLE: ()}) as new:
        put(new, [1, 2, 3])
    kept = day_path(root / TABLE, date(2025, 10, 2))
    before = kept.stat()
    (kept.parent / "part-1.parquet").write_text("a copy would double its rows")
    (root / "a table that is gone").mkdir()
    with replacing_days(root, {TABLE: [date(2025, 10, 2)]}) as new:
        put(new, [3])
    assert [day.day for day in days_in(root / TABLE)] == [2, 3]
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [entry.name for entry in root.iterdir()] == [TABLE]


def test_replacing_files_replaces_all_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    for names in (["a", "b"], ["b", "c"]):
        with replacing_files(folder) as new:
            (new / "spill").mkdir()
            for name in names:
                (new / name).write_text(f"{name} of {names}")
        assert {file.name: file.read_text() for file in folder.iterdir()} == {n: f"{n} of {names}" for n in names}
    with pytest.raises(RuntimeError), replacing_files(folder) as new:
        (new / "d").write_text("half")
        raise RuntimeError
    assert sorted(file.name for file in folder.iterdir()) == ["b", "c"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["quarantine"]


def test_replacing_a_file_leaves_readers_of_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as new:
            new.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), replacing(path) as new:
        new.write_text("half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
