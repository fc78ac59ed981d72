"""context_metadata beside behavioral_events: the same values everywhere, joins, users, pseudonyms, and one without the
other."""

from __future__ import annotations

import json
import struct
from contextlib import closing
from typing import Any

import duckdb
import psycopg2.extras
import pytest

from pipeline.checks import quality
from pipeline.core.errors import ParamsError, RowsInvalidError
from pipeline.views.views import VIEWS
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.context_metadata import CONTEXT_METADATA
from schemas.tables import TABLES, chosen
from tests.helpers import USER_A, USER_B, Clone, Database, Project, cuid, event, files, read_report, rows_of_parquet

NAMES = CONTEXT_METADATA.names
DAY_BEFORE = "2025-10-26 08:00:00"


def check_in(**values: Any) -> dict[str, Any]:
    """A row that obeys the contract, but for what is asked for."""
    row: dict[str, Any] = dict.fromkeys(NAMES)
    return row | {"id": cuid(), "userId": USER_A, "timestamp": "2025-10-27 08:00:00.001"} | values


def insert(db: Database, *rows: dict[str, Any]) -> None:
    columns = ", ".join(f'"{name}"' for name in NAMES)
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        values = [[row[name] for name in NAMES] for row in rows]
        psycopg2.extras.execute_values(cursor, f"INSERT INTO context_metadata ({columns}) VALUES %s", values)


def refer(db: Database, first: dict[str, Any], *rows: dict[str, Any]) -> None:
    """Check-ins, with an event each that points to it."""
    insert(db, first, *rows)
    db.insert(*(event(userId=row["userId"], contextMetadataId=row["id"]) for row in (first, *rows)))


@pytest.fixture
def both(project: Project) -> Project:
    project.values["tables"] = [table.name for table in TABLES]
    project.set()
    return project


def bits(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Floats by their bits: -0.0 is not 0.0, and the last place counts."""
    return [tuple(struct.pack("d", v) if isinstance(v, float) else v for v in row) for row in rows]


UGLY_FLOATS = [0.1, 1 / 3, 5e-324, -0.0, 24.0, 2.2250738585072014e-308, 7.000000000000001, None]


def test_every_value_arrives_in_the_files_and_in_duckdb(db: Database, both: Project) -> None:
    notes = ["", "tab\there, line\nhere, \\N and 'quotes'", "🧠 ÄÖ \x01", "NULL", None]
    insert(
        db,
        *(check_in(sleepHours=value, activityStrain=value and min(value, 21.0)) for value in UGLY_FLOATS),
        *(check_in(notes=text, timestamp=DAY_BEFORE, mood="VERY_HIGH", location="CAFE") for text in notes),
        check_in(energyLevel=0, stressLevel=10, sleepQuality=10, hrvScore=300, restingHeartRate=20, recoveryScore=100),
    )
    both.all()
    columns = ", ".join(f'"{c.name}"::text' if c.kind == "enum" else f'"{c.name}"' for c in CONTEXT_METADATA.columns)
    wanted = db.run(f'SELECT {columns} FROM context_metadata ORDER BY timestamp, id COLLATE "C"')
    assert len(wanted) == len(UGLY_FLOATS) + len(notes) + 1
    for folder in (both.paths.raw, both.paths.export):
        assert bits(rows_of_parquet(folder / "context_metadata")) == bits(wanted)
    with duckdb.connect(str(both.paths.database), read_only=True) as connection:
        assert bits(connection.execute("FROM context_metadata ORDER BY timestamp, id").fetchall()) == bits(wanted)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sleepHours", 24.000001),
        ("sleepHours", -0.5),
        ("sleepHours", float("nan")),
        ("activityStrain", float("inf")),
        ("activityStrain", 21.1),
        ("energyLevel", 11),
        ("stressLevel", -1),
        ("sleepQuality", 11),
        ("hrvScore", 301),
        ("restingHeartRate", 19),
        ("restingHeartRate", 221),
        ("recoveryScore", 101),
        ("userId", "somebody"),
        ("id", "7"),
    ],
    ids=str,
)
def test_what_can_not_be_is_found(db: Database, both: Project, column: str, value: object) -> None:
    insert(db, check_in(**{column: value}), check_in())
    both.refresh()
    both.extract()
    with pytest.raises(RowsInvalidError) as caught:
        both.validate()
    assert f"context_metadata.{column}." in str(caught.value)
    assert read_report(both.paths.validation_report)["failed_rows"] == 1


def test_a_filter_of_users_holds_for_both(db: Database, both: Project) -> None:
    refer(db, check_in(), check_in(userId=USER_B), check_in(userId=USER_B))
    both.set(extract__user_id=USER_B)
    both.all()
    for table, place in ((BEHAVIORAL_EVENTS, "behavioral_events"), (CONTEXT_METADATA, "context_metadata")):
        user = table.names.index("userId")
        assert [row[user] for row in rows_of_parquet(both.paths.export / place)] == [USER_B] * 2


def test_pseudonyms_can_be_joined_and_name_nobody(db: Database, both: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    check_ins = [check_in(sleepHours=float(n), userId=(USER_A, USER_B)[n % 2]) for n in range(6)]
    refer(db, *check_ins)
    wanted = db.run(
        'SELECT "sleepHours", e.timestamp FROM behavioral_events e JOIN context_metadata c '
        'ON c.id = "contextMetadataId" AND c."userId" = e."userId" ORDER BY 1'
    )
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 32)
    both.set(export__pseudonymize=True)
    both.all()
    with duckdb.connect(str(both.paths.database), read_only=True) as connection:
        joined = (
            "SELECT sleepHours, e.timestamp FROM behavioral_events e JOIN context_metadata c "
            "ON c.id = e.contextMetadataId AND c.userId = e.userId ORDER BY 1"
        )
        assert connection.execute(joined).fetchall() == wanted
    ids = [USER_A, USER_B, *(str(row["id"]) for row in check_ins)]
    held = files(both.paths.export)
    assert sum(path.endswith(".parquet") for path in held) == 4
    assert not [name for name, content in held.items() for one in ids if one.encode() in content]
    assert [one["missing"] for one in read_report(both.paths.load_report)["references"]] == [0]


def test_events_whose_check_in_is_on_no_exported_day_are_counted(
    db: Database, both: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    refer(db, check_in(), check_in(timestamp=DAY_BEFORE))
    both.all()
    assert "point to no row" not in capsys.readouterr().out
    refer(db, check_in(timestamp="2025-10-20 08:00:00"), check_in(timestamp="2025-10-01 08:00:00"))
    db.insert(event())
    both.all()
    assert (
        "load: notice: 2 of 4 rows of behavioral_events with a contextMetadataId point to no row of context_metadata"
        in capsys.readouterr().out
    )
    assert read_report(both.paths.load_report)["references"] == [
        {"table": "behavioral_events", "column": "contextMetadataId", "to": "context_metadata", "rows": 4, "missing": 2}
    ]


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_the_view_joins_each_event_to_its_check_in(db: Database, both: Project, strategy: str) -> None:
    refer(db, check_in(mood="LOW", sleepHours=7.5, notes="no column of the view"), check_in(timestamp=DAY_BEFORE))
    db.insert(event())
    both.set(load__strategy=strategy)
    both.all()
    wanted = db.run(
        'SELECT e.id, c.timestamp, mood::text, "sleepHours" FROM behavioral_events e LEFT JOIN context_metadata c '
        'ON c.id = e."contextMetadataId" ORDER BY e.id COLLATE "C"'
    )
    (view,) = (one for one in VIEWS if one.name == "events_with_context")
    with duckdb.connect(str(both.paths.database), read_only=True) as connection:
        asked = "SELECT id, context_timestamp, mood, sleepHours FROM events_with_context ORDER BY id"
        assert connection.execute(asked).fetchall() == wanted
        described = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'events_with_context'"
        assert connection.execute(described).fetchall() == list(view.columns.items())


def test_a_table_that_is_left_out_changes_nothing_of_the_other(db: Database, both: Project) -> None:
    refer(db, check_in(), check_in(timestamp=DAY_BEFORE))
    both.all()
    whole = files(both.paths.data)
    for name in ("behavioral_events", "context_metadata"):
        both.values["tables"] = [name]
        both.set()
        both.run()
        now = {path: content for path, content in files(both.paths.data).items() if path.endswith(".parquet")}
        assert now == {path: whole[path] for path in whole if path.endswith(".parquet") and name in path}
    both.values["tables"] = ["behavioral_events", "context_metadata"]
    both.set()
    both.run()
    again = files(both.paths.data)
    assert {path for path in whole if whole[path] != again[path]} <= {"analytics.duckdb"}


def test_days_without_check_ins_are_nothing_wrong(db: Database, both: Project) -> None:
    db.insert(event(), event(timestamp="2025-10-26 12:00:00"))
    both.all()
    both.report()
    checks = json.loads(both.paths.checks_report.read_text())["checks"]
    judged = {one["check"] for one in checks if one["table"] == "context_metadata" and one["verdict"] != "not judged"}
    assert not judged & {*quality.OF_DAYS, "users", "nulls"}
    assert {one["verdict"] for one in checks if one["table"] == "context_metadata"} <= {"passed", "not judged"}


@pytest.mark.parametrize("names", [[], ["measures"], "behavioral_events", None, [1]], ids=str)
def test_other_tables_than_there_are_can_not_be_asked_for(both: Project, names: object) -> None:
    both.values["tables"] = names
    both.set()
    with pytest.raises(ParamsError, match="params: tables is ") as caught:
        _ = both.params
    assert "behavioral_events, context_metadata" in str(caught.value)


def test_tables_stand_in_their_own_order() -> None:
    assert chosen(TABLES, ["context_metadata", "behavioral_events"]) == (BEHAVIORAL_EVENTS, CONTEXT_METADATA)


@pytest.mark.long
@pytest.mark.xdist_group("clones")
def test_queries_that_need_a_table_that_is_left_out_say_so(clone: Clone) -> None:
    clone.change(("tables: [behavioral_events, context_metadata]", "tables: [behavioral_events]"))
    said = clone.run("dvc", "repro").stdout
    assert "extract: kept 90, read 0, dropped 0" in said
    printed = clone.run("python", "-m", "commands.query").stdout
    assert "score_by_mood.sql" in printed
    assert "not asked: the snapshot has no context_metadata" in printed
    clone.change(("tables: [behavioral_events]", "tables: [behavioral_events, context_metadata]"))
    assert "extract: kept 90, read 90, dropped 0" in clone.run("dvc", "repro").stdout
    assert "up to date" in clone.run("dvc", "repro").stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""
