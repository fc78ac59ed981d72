"""The contract against schema.prisma and the tables made by migration.sql, and Pandera's schema on ordinary frames."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaErrors, SchemaWarning
from sqlalchemy.dialects import postgresql

from schemas.behavioral_events import validate_behavioral_events
from schemas.rules import json_valid
from schemas.table import Table
from schemas.tables import TABLES
from schemas.types import TYPES
from tests.helpers import ROOT, Database

PRISMA = (ROOT / "schemas/app/schema.prisma").read_text(encoding="utf-8")


def prisma_fields(table: Table) -> dict[str, tuple[str, bool]]:
    (body,) = re.findall(rf'model \w+ \{{((?:(?!\n\}}).)*@@map\("{table.name}"\))', PRISMA, re.S)
    fields = re.findall(r"^  (\w+)\s+(\w+)(\?|\[\])?", body, re.M)
    models = re.findall(r"^model (\w+)", PRISMA, re.M)
    return {name: (type_, optional == "?") for name, type_, optional in fields if type_ not in models}


def prisma_enums() -> dict[str, tuple[str, ...]]:
    return {name: tuple(body.split()) for name, body in re.findall(r"enum (\w+) \{(.*?)\}", PRISMA, re.S)}


every_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@every_table
def test_columns_are_those_of_schema_prisma(table: Table) -> None:
    expected = {
        column.name: (column.enum if column.kind == "enum" else TYPES[column.kind].prisma, column.nullable)
        for column in table.columns
    }
    assert list(prisma_fields(table).items()) == list(expected.items())


@every_table
def test_enum_values_are_those_of_schema_prisma(table: Table) -> None:
    for column in table.columns:
        if column.kind == "enum":
            assert column.enum is not None
            assert column.values == prisma_enums()[column.enum]


@every_table
def test_the_tables_that_prisma_makes_are_those_of_the_contract(db: Database, table: Table) -> None:
    engine = sa.create_engine("postgresql+psycopg2://", creator=db.connect, poolclass=sa.NullPool)
    found = {column["name"]: column for column in sa.inspect(engine).get_columns(table.name)}
    assert list(found) == list(table.names)
    for column in table.columns:
        there = found[column.name]["type"]
        assert found[column.name]["nullable"] == column.nullable
        if isinstance(there, postgresql.ENUM):
            assert (column.kind, column.enum, column.values) == ("enum", there.name, tuple(there.enums))
        else:
            names = {"timestamp": "TIMESTAMP(3) WITHOUT TIME ZONE", "json": "JSONB", "int": "INTEGER", "text": "TEXT"}
            names["float"] = "DOUBLE PRECISION"
            assert there.compile(dialect=engine.dialect) == names[column.kind]


def frame(**changed: Any) -> pd.DataFrame:
    row = {
        "id": "c" + "a" * 24,
        "userId": "c" + "u" * 24,
        "eventType": "FLASHCARD_FLIP",
        "eventData": {"action": "flip", "duration_ms": 150},
        "timestamp": pd.Timestamp("2025-10-27 10:00:00"),
        "completionQuality": None,
        "experimentPhase": "baseline_1",
        "sessionPerformanceScore": 85,
        "contextMetadataId": None,
    }
    return pd.DataFrame({key: [value] for key, value in (row | changed).items()})


TOMORROW = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="as documented"),
        pytest.param({"eventData": '{"a": [1, 2]}'}, id="JSON as text"),
        pytest.param({"eventData": '["NaN", ",]"]'}, id="JSON with NaN inside a string"),
        pytest.param({"eventData": "1" * 300}, id="a number of 300 digits"),
        pytest.param(
            {"eventData": '{"s": "x,]", "n": 1e5000, "m": ' + "9" * 5000 + "}"}, id="numbers beyond any float"
        ),
        pytest.param(
            {"eventData": '["NaN", "\\"inf,]", ' + "[" * 3000 + "]" * 3000 + "]"}, id="deep, with NaN in a string"
        ),
        pytest.param({"eventData": ["a", None, "ü"]}, id="JSON as a list"),
        pytest.param({"eventData": "null"}, id="JSON null is a value"),
        pytest.param({"sessionPerformanceScore": 100.0}, id="whole numbers as float"),
        pytest.param({"dayOfWeek": 0, "timeOfDay": 23}, id="both ends of the ranges"),
        pytest.param({"contentType": ""}, id="empty text"),
        pytest.param({"experimentPhase": None}, id="outside an experiment"),
        pytest.param({"timestamp": pd.Timestamp("2025-10-27 10:00:00.123456")}, id="microseconds"),
    ],
)
def test_legal_frames_pass_and_come_back_as_given(changed: dict[str, Any]) -> None:
    given = frame(**changed)
    assert validate_behavioral_events(given) is given


@pytest.mark.parametrize(
    ("changed", "column", "check"),
    [
        pytest.param({"id": "invalid_cuid"}, "id", "str_matches", id="id no cuid"),
        pytest.param({"id": "c" + "a" * 24 + "\n"}, "id", "str_matches", id="id with a newline"),
        pytest.param({"userId": "C" + "a" * 24}, "userId", "str_matches", id="user in capitals"),
        pytest.param({"timestamp": TOMORROW}, "timestamp", "timestamp_not_future", id="tomorrow"),
        pytest.param({"timestamp": pd.Timestamp("2001-01-01")}, "timestamp", "timestamp_not_old", id="decades ago"),
        pytest.param({"timestamp": None}, "timestamp", "not_nullable", id="no time"),
        pytest.param(
            {"timestamp": pd.Timestamp("2025-10-27", tz="Europe/Berlin")}, "timestamp", "dtype", id="a time zone"
        ),
        pytest.param({"eventType": "INVALID_EVENT"}, "eventType", "isin", id="unknown event type"),
        pytest.param({"completionQuality": "SLOW"}, "completionQuality", "isin", id="unknown quality"),
        pytest.param({"engagementLevel": "low"}, "engagementLevel", "isin", id="level in small letters"),
        pytest.param({"experimentPhase": "baseline_3"}, "experimentPhase", "isin", id="unknown phase"),
        pytest.param({"eventData": None}, "eventData", "not_nullable", id="no body"),
        pytest.param({"eventData": "{a: 1}"}, "eventData", "json_valid", id="no JSON"),
        pytest.param({"eventData": "[NaN]"}, "eventData", "json_valid", id="NaN"),
        pytest.param({"eventData": '{"a": nan}'}, "eventData", "json_valid", id="nan in an object"),
        pytest.param({"eventData": '{"a\\"b": -inf}'}, "eventData", "json_valid", id="inf after an escaped quote"),
        pytest.param({"eventData": "[1,]"}, "eventData", "json_valid", id="comma before a bracket"),
        pytest.param({"dayOfWeek": 7}, "dayOfWeek", "in_range", id="day 7"),
        pytest.param({"timeOfDay": -1}, "timeOfDay", "in_range", id="hour -1"),
        pytest.param({"sessionPerformanceScore": 101}, "sessionPerformanceScore", "in_range", id="score 101"),
        pytest.param({"dayOfWeek": 1.5}, "dayOfWeek", "dtype", id="half a day"),
        pytest.param({"dayOfWeek": True}, "dayOfWeek", "dtype", id="a flag for a day"),
        pytest.param({"contentType": 5}, "contentType", "dtype", id="a number for a text"),
        pytest.param({"randomizationSeed": 2**31}, "randomizationSeed", "dtype", id="seed beyond 32 bits"),
        pytest.param({"colour": "red"}, "colour", "column_in_schema", id="unknown column"),
    ],
)
def test_illegal_frames_raise_pandera_s_error_with_column_and_check(
    changed: dict[str, Any], column: str, check: str
) -> None:
    with pytest.raises(SchemaErrors) as caught:
        validate_behavioral_events(frame(**changed))
    assert column in str(caught.value)
    assert check in str(caught.value)
    if check != "dtype":  # of a wrong type the other checks may fail as well
        assert len(caught.value.schema_errors) == 1


def test_everything_is_checked_before_it_fails() -> None:
    with pytest.raises(SchemaErrors) as caught:
        validate_behavioral_events(frame(id="x", eventType="y", dayOfWeek=9))
    assert all(word in str(caught.value) for word in ("str_matches", "isin", "in_range"))


def test_duplicate_ids_fail_and_no_rows_pass() -> None:
    twice = pd.concat([frame(), frame()])
    with pytest.raises(SchemaErrors, match="unique"):
        validate_behavioral_events(twice)
    validate_behavioral_events(frame().iloc[:0])


def test_required_columns_may_not_be_absent_and_others_may() -> None:
    validate_behavioral_events(frame()[["id", "userId", "eventType", "eventData", "timestamp"]])
    with pytest.raises(SchemaErrors, match="column_in_dataframe"):
        validate_behavioral_events(frame().drop(columns="eventType"))


def test_strict_and_raise_on_error_can_be_turned_off() -> None:
    validate_behavioral_events(frame(colour="red"), strict=False)
    with pytest.warns(SchemaWarning, match="isin"):
        validate_behavioral_events(frame(eventType="y"), raise_on_error=False)


def test_until_and_phases_are_arguments() -> None:
    with pytest.raises(SchemaErrors, match="timestamp_not_future"):
        validate_behavioral_events(frame(), until=datetime(2025, 10, 27))
    validate_behavioral_events(frame(), until=datetime(2025, 10, 27, 12, tzinfo=UTC))
    validate_behavioral_events(frame(experimentPhase="washout"), phases=["washout"])


def test_json_valid_looks_at_every_row() -> None:
    given = pd.Series(
        ["{}", "{", None, '{"a": Infinity}', '"Infinity"'], dtype="string[pyarrow]", index=[3, 1, 4, 1, 5]
    )
    answer = json_valid(given)
    assert answer.tolist()[:2] == [True, False]
    assert answer.tolist()[3:] == [False, True]
    assert list(answer.index) == [3, 1, 4, 1, 5]


TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"nan"',
    '"a"',
    "NaN",
    "1",
    "-Infinity",
    '" ,]"',
    '"\\""',
    '"x\\\\"',
    "null",
    '"inf',
]


@given(tokens=st.lists(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8).map("".join), min_size=1, max_size=50))
def test_json_valid_agrees_with_python_s_parser(tokens: list[str]) -> None:
    assert json_valid(pd.Series(tokens)).tolist() == [strict(text) for text in tokens]


def strict(text: str) -> bool:
    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def refuse(name: str) -> None:
    raise ValueError(name)


def test_a_large_body_with_a_doubtful_word_takes_little_memory() -> None:
    """20 MB, of which a backtracking regular expression would remember every character."""
    code = (
        "import json, resource, pandas; from schemas.rules import json_valid; "
        "text = json.dumps({'x': 'QUJDREVGR0hJSktM' * 1_250_000, 'k': 'some info'}); "
        "assert json_valid(pandas.Series([text])).all(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 1200  # it takes 800; backtracking took 2,400
