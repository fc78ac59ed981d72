"""extract against a real PostgreSQL: every value as psycopg2 reads it, or a clear error with data/ as it was."""

from __future__ import annotations

import shutil

import pytest

from pipeline.core.errors import (
    ContractError,
)
from tests.helpers import (
    COLUMNS,
    NAMES,
    ROOT,
    USER_A,
    USER_B,
    USER_C,
    Database,
    Project,
    event,
    files,
    rows_in,
    rows_of_parquet,
)
from tests.nasty import nasty_rows


def test_no_zone_of_server_role_session_or_client_moves_a_time(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.insert(*(event(timestamp=f"2025-10-26 0{hour}:30:00.001") for hour in range(5)))
    project.refresh()
    project.extract()
    before = files(project.raw)
    db.run(f"ALTER DATABASE {db.name} SET timezone = 'America/New_York'")
    db.run(f"ALTER DATABASE {db.name} SET datestyle = 'German, DMY'")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PGTZ", "Pacific/Chatham")
    monkeypatch.setenv("PGDATESTYLE", "SQL")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    project.extract()
    assert files(project.raw) == before


@pytest.mark.parametrize(
    ("batch_size", "workers"),
    [
        pytest.param(1, 1, id="one and one"),
        pytest.param(7, 3, id="7 rows, 3 workers"),
        pytest.param(10_000_000, 8, id="all at once, 8 workers"),
    ],
)
def test_batch_size_and_workers_change_no_byte(db: Database, project: Project, batch_size: int, workers: int) -> None:
    db.insert(*nasty_rows())
    project.refresh()
    project.extract()
    before = files(project.raw)
    report = project.paths.extract_report.read_text()
    project.set(extract__batch_size=batch_size, extract__workers=workers)
    project.extract()
    assert files(project.raw) == before
    assert project.paths.extract_report.read_text() == report


def test_the_physical_order_of_rows_changes_no_byte(db: Database, project: Project) -> None:
    db.insert(*(event(id=f"c{c}" + "0" * 23) for c in "abz019"))
    project.refresh()
    project.extract()
    before = files(project.raw)
    pins = project.paths.watermark.read_text()
    db.run("CREATE TABLE shuffled AS SELECT * FROM behavioral_events ORDER BY md5(id)")
    db.run("TRUNCATE behavioral_events")
    db.run("INSERT INTO behavioral_events SELECT * FROM shuffled")
    project.refresh()
    project.extract()
    assert files(project.raw) == before
    assert project.paths.watermark.read_text() == pins


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_rows_that_share_a_time_are_in_the_order_of_their_ids(db: Database, project: Project, batch_size: int) -> None:
    times = (
        ["2025-10-26 00:00:00"] * 9
        + ["2025-10-26 00:00:01"] * 2
        + ["2025-10-26 00:00:02"]
        + ["2025-10-27 23:59:59.999"] * 5
    )
    ids = [f"c{n * 7919 % 100:024d}" for n in range(len(times))]
    db.insert(*(event(id=id_, timestamp=time) for id_, time in zip(ids, times, strict=True)))
    project.set(extract__batch_size=batch_size)
    project.refresh()
    project.extract()
    assert rows_of_parquet(project.raw) == db.rows()


def test_the_order_is_total_without_a_primary_key(db: Database, project: Project) -> None:
    """Rows that share time and id: their other columns decide, whatever the order in which the table holds them."""
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    same = [
        event(id=USER_A, contentType=text, timeOfDay=n, eventData=f"{n}") for n in (1, 2) for text in ("a", "b", None)
    ]
    db.insert(*same)
    project.refresh()
    project.extract()
    before = files(project.raw)
    db.run("TRUNCATE behavioral_events")
    db.insert(*reversed(same))
    project.extract()
    assert files(project.raw) == before


def test_another_major_version_gives_the_same_bytes(
    db: Database, other_major: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = nasty_rows()
    db.insert(*rows)
    project.refresh()
    project.extract()
    before = files(project.raw), project.paths.watermark.read_bytes(), project.paths.extract_report.read_bytes()
    other_major.run((ROOT / "schemas/app/migration.sql").read_text(encoding="utf-8"))
    other_major.insert(*reversed(rows))
    monkeypatch.setenv("DATABASE_URL", other_major.url())
    shutil.rmtree(project.root / "data")
    project.refresh()
    project.extract()
    assert (
        files(project.raw),
        project.paths.watermark.read_bytes(),
        project.paths.extract_report.read_bytes(),
    ) == before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(USER_A, [USER_A], id="one user"),
        pytest.param([USER_A, USER_C], [USER_A, USER_C], id="two users"),
        pytest.param(USER_B, [USER_B], id="another user"),
        pytest.param([USER_C], [USER_C], id="a list of one"),
        pytest.param("c" + "9" * 24, [], id="a user without rows"),
    ],
)
def test_user_filter(db: Database, project: Project, wanted: object, expected: list[str]) -> None:
    db.insert(*(event(userId=user) for user in (USER_A, USER_B, USER_C, USER_A)))
    project.refresh()
    project.set(extract__user_id=wanted)
    project.extract()
    rows = rows_of_parquet(project.raw)
    assert [row[0] for row in rows] == [row[0] for row in db.rows() if row[1] in expected]
    assert rows_in(project.paths.extract_report) == len(rows)


def test_an_empty_window_gives_files_without_rows_and_a_notice(
    db: Database, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.all()
    assert rows_of_parquet(project.raw) == []
    assert len(list(project.raw.glob("*/*.parquet"))) == len(list(project.exported.glob("*/*.parquet"))) == 2
    assert "the window holds no rows" in capsys.readouterr().err


def test_the_schema_of_the_url_is_where_the_table_is(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.insert(event())
    db.run("""CREATE SCHEMA "The :App's 100%"; ALTER TABLE behavioral_events SET SCHEMA "The :App's 100%" """)
    with pytest.raises(ContractError, match="no table behavioral_events in schema public"):
        project.refresh()
    monkeypatch.setenv(
        "DATABASE_URL", db.url(schema="The%20%3AApp%27s%20100%25", connection_limit="1", pgbouncer="true")
    )
    project.refresh()
    project.extract()
    assert len(rows_of_parquet(project.raw)) == 1


def test_columns_are_selected_by_name_not_by_position(db: Database, extracted: Project) -> None:
    before = files(extracted.raw)
    order = ", ".join(f'"{name}"' for name in reversed(NAMES))
    db.run(f"CREATE TABLE turned AS SELECT {order} FROM behavioral_events; DROP TABLE behavioral_events")
    db.run("ALTER TABLE turned RENAME TO behavioral_events")
    for column in COLUMNS:
        if column.kind == "timestamp":
            db.run("ALTER TABLE behavioral_events ALTER timestamp TYPE timestamp(3)")
    extracted.extract()
    assert files(extracted.raw) == before
