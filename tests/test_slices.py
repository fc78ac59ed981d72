"""A day with many rows is read, checked and exported in slices side by side: the same bytes as in one piece."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checks.pins import pin_portions
from pipeline.core.errors import DataError
from pipeline.days import compare, copy
from pipeline.days.check import check_portions
from pipeline.days.compare import compare_days
from pipeline.days.export import export_day
from pipeline.days.joined import copy_joined
from pipeline.engine import packs
from pipeline.files import writer
from pipeline.files.layout import day_path
from pipeline.files.slices import Pieces, put_together
from pipeline.files.writer import DayWriter
from pipeline.postgres.target import Slice
from schemas.table import Column, Table
from tests.helpers import (
    UNTIL,
    USER_A,
    USER_B,
    Database,
    Project,
    all_outputs,
    event,
    fails,
    outputs,
    rewrite,
    rows_of_parquet,
    use,
)

FEW = 8


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of eight rows."""
    monkeypatch.setattr(writer, "SLICE_ROWS", FEW)
    monkeypatch.setattr(compare, "STRETCH_ROWS", FEW)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Slice | None]:
    """The slices that COPY was asked for, None for a whole day."""
    found: list[Slice | None] = []
    real = copy.copy_rows

    def recorded(connection: Any, relation: Any, *more: Any) -> int:
        found.append(relation.slice)
        return real(connection, relation, *more)

    monkeypatch.setattr(copy, "copy_rows", recorded)
    return found


def at(*seconds: int) -> list[dict[str, Any]]:
    """Events of a day, so many seconds after its begin, in no order and with ids in another."""
    rows = [event(timestamp=f"{datetime(2025, 10, 27) + timedelta(seconds=one)}") for one in seconds]
    for row, number in zip(rows, random.Random(1).sample(range(10**6, 2 * 10**6), len(rows)), strict=True):
        row |= {"id": f"c{number:024}", "userId": USER_A if number % 3 else USER_B}
    random.Random(2).shuffle(rows)
    return rows


MANY = {
    "rows side by side": range(0, 86_400, 1_000),
    "ties at the cuts": [n // 3 * 30 for n in range(70)],
    "one instant": [100] * 60,
    "one instant, and more": [*range(20), *[600] * 40, *range(700, 9_000, 600)],
    "one minute": range(60),
    "just full": range(0, 24 * 120, 120),
}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("seconds", MANY.values(), ids=MANY)
def test_slices_give_the_same_bytes(
    db: Database, project: Project, asked: list[Slice | None], seconds: Sequence[int]
) -> None:
    db.insert(event(timestamp="2025-10-26 12:00:00"), *at(*seconds))
    project.set(extract__workers=1)
    project.refresh()
    project.extract()
    assert asked == [None, None]
    assert rows_of_parquet(project.raw) == db.rows()
    whole = outputs(project)
    shutil.rmtree(project.paths.data)
    asked.clear()
    project.set(extract__workers=3, extract__batch_size=5)
    project.extract()
    assert asked.count(None) == (2 if max(seconds) <= 100 else 1)
    assert outputs(project) == whole
    assert {path.name for path in project.paths.data.iterdir()} == {"raw", "reports"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["timestamp_us", "timestamptz", "date"])
def test_slices_of_every_kind_of_time(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, asked: list[Slice | None], kind: str
) -> None:
    native = "date" if kind == "date" else f"timestamp(6) with{'out' if kind == 'timestamp_us' else ''} time zone"
    columns = (Column("at", kind, "When.", False, native=native), Column("n", "int", "Any."))  # type: ignore[arg-type]
    table = Table("times", "One row is one row.", columns, order=("at", "n"), key="n", time="at")
    use(monkeypatch, table)
    db.run(f"ALTER DATABASE {db.name} SET TimeZone = 'America/New_York'")
    db.run(f"CREATE TABLE times (at {native}, n int)")
    db.run("CREATE INDEX ON times (at)")
    utc = "AT TIME ZONE 'UTC'" if kind == "timestamptz" else ""
    instant = f"(timestamp '2025-10-27' + n * interval '400.000001 s') {utc}"
    db.run(f"INSERT INTO times SELECT {instant}, n FROM generate_series(0, 199) n")
    project.refresh()
    project.extract()
    assert len(asked) == (2 if kind == "date" else 26)
    assert [n for _, n in rows_of_parquet(project.paths.raw / "times")] == list(range(200))
    project.validate()  # that the digest is the pinned one


@pytest.mark.usefixtures("short")
def test_of_some_users_a_day_stays_whole(db: Database, project: Project, asked: list[Slice | None]) -> None:
    db.insert(*at(*range(0, 60_000, 600)))
    project.set(extract__user_id=USER_B)
    project.refresh()
    project.extract()
    assert asked == [None, None]
    assert rows_of_parquet(project.raw) == [row for row in db.rows() if USER_B in row]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "the last one"])
def test_a_slice_that_is_short_is_an_error(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    db.insert(*at(*range(0, 60_000, 600)))
    project.refresh()
    project.extract()
    real = copy.copy_rows

    def lost(connection: Any, relation: Any, *more: Any) -> int:
        part = relation.slice
        if part and part.begin and (part.end is None) is last:
            relation = relation._replace(slice=part._replace(rows=FEW - 5))
        return real(connection, relation, *more)

    monkeypatch.setattr(copy, "copy_rows", lost)
    counted = "100 rows and 99 arrived" if last else "8 rows and 3 arrived"
    fails(project, DataError, f"2025-10-27: PostgreSQL counted {counted}")


@pytest.mark.usefixtures("short")
def test_all_stages_give_the_same_side_by_side(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Also where rows are in quarantine, where findings are more than are listed, and with pseudonyms."""
    rows = at(*[n // 3 * 90 for n in range(150)])
    for row in rows[::4]:
        row |= {"sessionPerformanceScore": 500}
    for row in rows[::7]:
        row |= {"timeOfDay": 99}
    db.insert(event(timestamp="2025-10-26 12:00:00", timeOfDay=99), *rows)
    project.set(extract__workers=1, validate__mode="quarantine", validate__failure_cases=20)
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 40)
    project.refresh()
    plain = all_outputs(project)
    project.set(export__pseudonymize=True)
    pseudonymous = all_outputs(project)
    shutil.rmtree(project.paths.data)
    monkeypatch.setattr(packs, "LEAST", 1)
    monkeypatch.setattr(packs, "OF_A_FILE", 0)
    recording = request.getfixturevalue("recording")
    project.set(extract__workers=2, export__pseudonymize=False)
    assert all_outputs(project) == plain
    worked = [pickle.loads(sent)[1][0] for sent in recording.sent]
    for work in (copy_joined, check_portions, pin_portions, export_day, compare_days):
        assert sum(len(pack.items) for pack in worked if pack.work is work) >= 10, work
    assert sum(pack.work is put_together for pack in worked) == 2  # of data/raw, and of data/export without some rows
    project.set(export__pseudonymize=True)
    assert all_outputs(project) == pseudonymous
    assert sorted(path.name for path in project.paths.data.glob(".*")) == [".verified"]
    path = day_path(project.exported, UNTIL - timedelta(days=1))
    table = pq.read_table(path)
    values = table["dayOfWeek"].to_pylist()
    values[77] = 6
    place = table.column_names.index("dayOfWeek")
    rewrite(path, table.set_column(place, "dayOfWeek", pa.array(values, pa.int32())))
    project.as_if_made(project.paths.quality_report)
    with pytest.raises(DataError, match="not the same: 2025-10-27: the rows that DuckDB reads"):
        project.load()


EVERY = pa.schema(
    [
        ("text", pa.string()),
        ("again", pa.string()),
        ("bytes", pa.binary()),
        ("json", pa.json_()),
        ("flag", pa.bool_()),
        ("small", pa.int16()),
        ("wide", pa.int64()),
        ("single", pa.float32()),
        ("double", pa.float64()),
        ("money", pa.decimal128(14, 4)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def rows(number: int, schema: pa.Schema) -> pa.RecordBatch:
    chance = random.Random(number)
    values = [chance.choice([None, *range(9)]) for _ in range(number)]
    texts = pa.array([None if one is None else f"{one}ä" for one in values], pa.string())
    arrays = [
        pa.ExtensionArray.from_storage(of, texts)
        if isinstance(of, pa.BaseExtensionType)
        else texts.cast(of)
        if pa.types.is_string(of) or pa.types.is_binary(of)
        else pa.array([None if one is None else one > 4 for one in values] if pa.types.is_boolean(of) else values, of)
        for of in schema.types
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def write(path: Path, batch: pa.RecordBatch, facts: dict[str, str]) -> str:
    with DayWriter(path, batch.schema, ["text"], facts) as made:
        made.write(batch)
    return made.sha256


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("number", [0, 1, FEW, FEW + 1, 5 * FEW, 14 * FEW, 15 * FEW, 20 * FEW + 3], ids=str)
@pytest.mark.parametrize("facts", [{}, {"key": "value"}], ids=["plain", "with facts"])
def test_slices_put_together_are_the_file(tmp_path: Path, number: int, facts: dict[str, str]) -> None:
    batch = rows(number, EVERY)
    begins = range(0, max(number, 1), FEW)
    slices = [tmp_path / f"{begin}" for begin in begins]
    for path, begin in zip(slices, begins, strict=True):
        write(path, batch.slice(begin, FEW), facts)
    sha256 = write(tmp_path / "whole", batch, facts)
    assert put_together(Pieces(tuple(slices), tmp_path / "made")) == (number, sha256)
    assert (tmp_path / "made").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("size", [0, 3, 8, 12, 700, -1, -8], ids=str)
def test_a_slice_that_is_damaged_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path / "slice", rows(10, EVERY), {})
    content = (tmp_path / "slice").read_bytes()
    (tmp_path / "slice").write_bytes(content[:size])
    with pytest.raises(DataError, match="is damaged"):
        put_together(Pieces((tmp_path / "slice",), tmp_path / "made"))
    assert not (tmp_path / "made").exists()
