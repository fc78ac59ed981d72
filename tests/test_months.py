"""Files of months hold what files of days hold, and say which days these are."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.checks.current import differences
from pipeline.core.days import DAYS, Month, days_of, ends, parse_day, parse_part
from pipeline.core.errors import DataError, PinError
from pipeline.days import copy
from pipeline.files import writer
from schemas.rules import unique
from schemas.table import Column, Table
from stages import extract, load
from tests.helpers import (
    UNTIL,
    USER_A,
    USER_B,
    Database,
    Project,
    event,
    files,
    from_nothing,
    outputs,
    rewrite,
    rows_in,
    rows_of_duckdb,
    rows_of_parquet,
    use,
)

WINDOW = 60  # days: three of August, September, 27 of October
MONTHS = ["event_month=2025-08", "event_month=2025-09", "event_month=2025-10"]
FIRST = UNTIL - timedelta(days=WINDOW)


def fill(db: Database) -> None:
    """Rows on four of five days of the window, some of them out of bounds, and one on either side of it."""
    stamps = [FIRST + timedelta(days=n) for n in range(-1, WINDOW + 1) if n % 5]
    db.insert(
        *(
            event(
                timestamp=f"{day} {hour}",
                userId=(USER_A, USER_B)[n % 2],
                sessionPerformanceScore=999 if n % 17 == 3 else n % 100,
            )
            for n, day in enumerate(stamps)
            for hour in ("00:00:00", "23:59:59.999")
        )
    )


@pytest.fixture
def filled(db: Database) -> Database:
    fill(db)
    return db


def project(folder: Path, kind: str, **more: Any) -> Project:
    folder.mkdir(exist_ok=True)
    made_ = Project(folder)
    made_.set(extract__days=WINDOW, extract__files=kind, validate__mode="quarantine", **more)
    made_.set(**{f"quality__{name}": {"limit": 0, "level": "off"} for name in ("rows", "quarantined")})
    made_.refresh()
    return made_


def test_months_hold_what_days_hold(filled: Database, tmp_path: Path) -> None:
    days, months = (project(tmp_path / kind, kind) for kind in ("day", "month"))
    for one in (days, months):
        one.run()
        one.report()
    assert [path.name for path in sorted(months.raw.iterdir())] == MONTHS
    assert [path.name for path in sorted(months.exported.iterdir())] == MONTHS
    for layer in ("raw", "exported"):
        assert rows_of_parquet(getattr(months, layer)) == rows_of_parquet(getattr(days, layer)) != []
    assert rows_of_duckdb(months.paths.database) == rows_of_duckdb(days.paths.database)
    assert rows_in(months.paths.extract_report) == rows_in(days.paths.extract_report)
    # The series of the page have each day of the window, with rows or without.
    assert files(months.paths.report).keys() == files(days.paths.report).keys()
    for name in files(days.paths.report).keys() - {"quality.html"}:
        assert (months.paths.report / name).read_bytes() == (days.paths.report / name).read_bytes()
    of_days = (days.paths.report / "days.csv").read_text()
    assert len(list(csv.DictReader(of_days.splitlines()))) == WINDOW


@pytest.mark.parametrize("more", [{}, {"export__pseudonymize": True}], ids=["as they are", "written anew"])
def test_a_month_in_slices_has_the_same_bytes(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 40)
    monkeypatch.setattr(writer, "SLICE_ROWS", 8)
    one = project(tmp_path / "one", "month", extract__workers=1, **more)
    one.run()
    whole = outputs(one)
    shutil.rmtree(one.paths.data)
    one.set(extract__workers=3)
    one.run()
    assert outputs(one) == whole
    assert pq.read_metadata(one.raw / MONTHS[1] / "part-0.parquet").num_row_groups > 3


def test_rows_in_quarantine_say_their_own_day(filled: Database, tmp_path: Path) -> None:
    days, months = (project(tmp_path / kind, kind) for kind in ("day", "month"))
    found = []
    for one in (days, months):
        one.run()
        rows = pq.read_table(one.quarantine).to_pylist()
        found.append([(row["id"], row["event_date"]) for row in rows])
        assert all(row["timestamp"].date() == row["event_date"] for row in rows)
        listed = csv.DictReader(one.paths.failures.read_text().splitlines())
        assert sorted((row["id"], row["event_date"]) for row in listed) == sorted((i, str(day)) for i, day in found[-1])
    assert found[0] == found[1] != []
    for row in pq.read_table(months.quarantine).to_pylist():
        month = months.raw / f"event_month={row['event_date']:%Y-%m}" / "part-0.parquet"
        assert pq.read_table(month).column("id")[row["row_number"]].as_py() == row["id"]


@pytest.mark.parametrize("nights", [1, 5], ids=["within a month", "into another month"])
def test_a_night_makes_the_last_month_and_the_first(filled: Database, tmp_path: Path, nights: int) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    before = files(months.exported)
    filled.insert(event(timestamp=f"{UNTIL + timedelta(days=nights - 1)} 12:00:00"))
    months.refresh(UNTIL + timedelta(days=nights))
    months.run()
    after = files(months.exported)
    assert outputs(months) == outputs(from_nothing(months))
    kept = [name for name in after if before.get(name) == after[name]]
    assert kept == (["event_month=2025-09/part-0.parquet"] if nights == 1 else [])
    assert len(after) == 3


def test_the_footer_says_which_days(db: Database, tmp_path: Path) -> None:
    """Also where the day that left the window had no rows, so that the rows are the same."""
    db.insert(event(timestamp="2025-09-10 12:00:00"))
    months = project(tmp_path / "months", "month")
    for until in (UNTIL, UNTIL + timedelta(days=1)):
        months.refresh(until)
        months.run()
        told = [pq.read_metadata(path).metadata[DAYS.encode()].decode() for path in sorted(months.raw.glob("*/*"))]
        first = until - timedelta(days=WINDOW)
        assert told == [f"{first}/2025-08-31", "2025-09-01/2025-09-30", f"2025-10-01/{until - timedelta(days=1)}"]
        with duckdb.connect(config={"file_search_path": str(months.root)}) as connection:
            connection.execute(f"ATTACH '{months.paths.database}' AS a (READ_ONLY)")
            asked = "SELECT min(event_date), max(event_date), count(*), count(DISTINCT event_date) FROM a.event_days"
            found = connection.execute(asked).fetchall()
        assert found == [(first, until - timedelta(days=1), WINDOW, WINDOW)]


def test_days_that_are_not_the_windows_are_an_error(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    real = load.views.days_of_months
    monkeypatch.setattr(load.views, "days_of_months", lambda files: f"{real(files)} LIMIT 7")
    with pytest.raises(DataError, match="event_days has 7 days from 2025-08-29"):
        months.load()


def test_the_database_is_the_same_each_night(filled: Database, tmp_path: Path) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    before = months.paths.database.read_bytes()
    months.refresh(UNTIL + timedelta(days=1))
    months.run()
    assert months.paths.database.read_bytes() == before


@pytest.mark.parametrize("more", [{"extract__user_id": [USER_B]}, {"export__pseudonymize": True}], ids=["user", "key"])
def test_users_and_pseudonyms(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 40)
    found = []
    for kind in ("day", "month"):
        one = project(tmp_path / kind, kind, **more)
        one.run()
        found.append(rows_of_parquet(one.exported))
        assert all(DAYS.encode() in pq.read_metadata(path).metadata for path in one.exported.glob("event_month=*/*"))
    assert found[0] == found[1] != []


def test_the_whole_months_of_a_switch_back(
    filled: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the other kind stays, and what is told of the files is told of these."""
    one = project(tmp_path / "one", "day")
    one.run()
    first = outputs(one)
    one.set(extract__files="month")
    wrong = dict(differences(one.paths, one.params, 1))
    assert wrong == {"extract": "it wrote files of a day, and extract.files says month"}
    one.run()
    assert f"read 3, dropped {WINDOW}" in capsys.readouterr().out
    assert outputs(one) == outputs(from_nothing(one))
    one.set(extract__days=WINDOW - 1)  # of as many months
    wrong = dict(differences(one.paths, one.params, 1))
    assert wrong == {"extract": f"it read {WINDOW} days, and extract.days says {WINDOW - 1}"}
    one.set(extract__days=WINDOW, extract__files="day")
    one.run()
    assert outputs(one) == first


def test_a_row_of_a_month_that_is_another_is_found(filled: Database, tmp_path: Path) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    filled.run("UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp::date = '2025-09-12'")
    shutil.rmtree(months.raw / MONTHS[1])
    months.extract()
    with pytest.raises(PinError, match=r"the rows of 1 month are as many .* 2025-09"):
        months.validate()
    filled.run("DELETE FROM behavioral_events WHERE timestamp::date = '2025-09-12'")
    shutil.rmtree(months.raw / MONTHS[1])
    with pytest.raises(PinError, match="2025-09-12: pinned 2, now 0"):
        months.extract()


def test_what_was_verified_is_told_by_months(
    filled: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    capsys.readouterr()
    months.run()
    assert "the content of 3 months had been compared before" in capsys.readouterr().out


def test_a_day_beside_months_is_refused(filled: Database, tmp_path: Path) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    stray = months.exported / "event_date=2025-10-01" / "part-0.parquet"
    stray.parent.mkdir()
    shutil.copy(months.exported / MONTHS[2] / "part-0.parquet", stray)
    with pytest.raises(DataError, match="the file of 2025-10-01 is beside files of months; 4 of 3 files are there"):
        months.load()


def test_one_value_is_compared(filled: Database, tmp_path: Path) -> None:
    months = project(tmp_path / "months", "month")
    months.run()
    path = months.exported / MONTHS[1] / "part-0.parquet"
    table = pq.read_table(path)
    numbers = table.column("timeOfDay").to_pylist()
    numbers[3] = 7
    place = table.schema.get_field_index("timeOfDay")
    rewrite(path, table.set_column(place, table.schema.field(place), pa.array(numbers, pa.int32())))
    months.as_if_made(months.paths.quality_report)
    with pytest.raises(DataError, match="2025-09: the rows that DuckDB reads are not those of data/raw"):
        months.load()


def test_without_an_index_one_copy_is_cut_into_months(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = (Column("id", "bigint", "The row.", False, (unique(),)), Column("at", "date", "When.", False))
    table = Table(name="loose", description="One row is one.", columns=columns, order=("id",), key="id", time="at")
    whole = Table(name="whole", description="One row is one.", columns=columns[:1], order=("id",), key="id", time=None)
    db.run("CREATE TABLE loose (id bigint, at date); CREATE TABLE whole (id bigint)")
    db.run(f"INSERT INTO loose SELECT n, date '{FIRST}' - 2 + n * 7 % {WINDOW + 4} FROM generate_series(1, 500) n")
    db.run("INSERT INTO whole SELECT generate_series(1, 10)")
    use(monkeypatch, table, whole)
    batches: list[int] = []
    arrived = copy.Files.write
    monkeypatch.setattr(copy.Files, "write", lambda self, batch: batches.append(1) or arrived(self, batch))
    found = []
    for kind in ("day", "month"):
        one = project(tmp_path / kind, kind, extract__batch_size=50)
        one.run()
        found.append(rows_of_parquet(one.paths.export / "loose"))
        assert [path.name for path in (one.paths.export / "whole").iterdir()] == ["event_date=whole"]
    assert found[0] == found[1]
    assert Counter(at for _, at in found[1]) == Counter(
        dict(db.run(f"SELECT at, count(*) FROM loose WHERE at >= '{FIRST}' AND at < '{UNTIL}' GROUP BY 1"))
    )
    assert len(batches) > 10


def test_many_files_of_few_rows_are_told_of(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extract, "MANY_FILES", WINDOW - 1)
    one = project(tmp_path / "one", "day")
    one.extract()
    notice = f"notice: {WINDOW} files of few rows; with extract.files: month in params.yaml all is quicker"
    assert notice in capsys.readouterr().out
    one.set(extract__files="month")
    one.extract()
    assert "notice" not in capsys.readouterr().out


def test_readers_find_the_month_and_no_date(filled: Database, tmp_path: Path) -> None:
    """So that a condition on event_date, which months have not, is an error and no empty answer."""
    months = project(tmp_path / "months", "month")
    months.run()
    rows = sum(json.loads(months.paths.quality_report.read_text())["tables"][0][key] for key in ["rows"])
    folder = str(months.exported)
    ((some,),) = filled.run(
        "SELECT count(*) FROM behavioral_events WHERE timestamp >= '2025-09-01' AND timestamp < %s "
        'AND "sessionPerformanceScore" < 101',
        [UNTIL],
    )
    arrow = ds.dataset(folder, partitioning="hive")
    assert "event_date" not in arrow.schema.names
    assert arrow.count_rows() == rows
    assert arrow.filter(ds.field("event_month") >= "2025-09").count_rows() == some
    rows_of = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect() as connection:
        for condition in ("event_month >= '2025-09'", "timestamp >= '2025-09-01'"):
            assert connection.execute(f"SELECT count(*) FROM {rows_of} WHERE {condition}").fetchall() == [(some,)]
        with pytest.raises(duckdb.BinderException):
            connection.execute(f"SELECT count(*) FROM {rows_of} WHERE event_date >= '2025-09-01'")


def test_the_names_of_parts() -> None:
    assert str(parse_part("2025-10")) == "2025-10"
    assert parse_part("2025-10") == Month(2025, 10, 1) != date(2025, 10, 1) == parse_part("2025-10-01")
    assert {Month(2025, 10, 1): 1}.get(date(2025, 10, 1)) is None
    assert ends(Month(2024, 2, 1)) == (date(2024, 2, 1), date(2024, 3, 1))
    assert ends(Month(2024, 12, 1)) == (date(2024, 12, 1), date(2025, 1, 1))
    assert ends(date(2024, 12, 31)) == (date(2024, 12, 31), date(2025, 1, 1))
    assert len(days_of([Month(2024, 2, 1), date(2024, 3, 1), date(2024, 2, 29)])) == 30
    for text in ("2025-13", "2025-1", "2025", "2025-10-", "202510"):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_part(text)
    with pytest.raises(ValueError, match="2025-10"):
        parse_day("2025-10")  # what is pinned is a day
