"""The live table against the contract: every difference is named, with both types."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pipeline.core.errors import (
    ContractError,
)
from tests.helpers import ROOT, Database, Project, damage, fails, files


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            'ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"',
            ["timeOfDay", "no such column", "integer"],
            id="column gone",
        ),
        pytest.param(
            'ALTER TABLE behavioral_events RENAME "timeOfDay" TO "hour"',
            ["timeOfDay", "no such column"],
            id="column renamed",
        ),
        pytest.param(
            'ALTER TABLE behavioral_events ALTER "timeOfDay" TYPE bigint',
            ["timeOfDay", "integer", "bigint"],
            id="another integer",
        ),
        pytest.param(
            "ALTER TABLE behavioral_events ALTER timestamp TYPE timestamptz",
            ["timestamp(3) without time zone", "timestamp with time zone"],
            id="with a time zone",
        ),
        pytest.param(
            "ALTER TABLE behavioral_events ALTER timestamp TYPE timestamp(6)",
            ["timestamp(3)", "timestamp(6)"],
            id="microseconds",
        ),
        pytest.param(
            'ALTER TABLE behavioral_events ALTER "eventData" TYPE json',
            ["eventData", "jsonb", "json"],
            id="json for jsonb",
        ),
        pytest.param(
            'ALTER TABLE behavioral_events ALTER "eventType" TYPE text',
            ["eventType", 'enum "EventType"', "text"],
            id="text for an enum",
        ),
        pytest.param("DROP TABLE behavioral_events", ["no table behavioral_events"], id="table gone"),
    ],
)
def test_drift_is_named_with_both_types(db: Database, extracted: Project, change: str, said: list[str]) -> None:
    db.run(change)
    fails(extracted, ContractError, *said)


def test_all_differences_are_listed_at_once(db: Database, extracted: Project) -> None:
    db.run('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay", ALTER "dayOfWeek" TYPE text')
    fails(extracted, ContractError, "timeOfDay", "dayOfWeek")


def test_what_only_the_database_knows_is_a_notice(
    db: Database, extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    db.run('ALTER TABLE behavioral_events ADD COLUMN "streak" int DEFAULT 7')
    db.run("""ALTER TYPE "EventType" ADD VALUE 'NOTE_TAKEN'""")
    before = damage(extracted)
    extracted.extract()
    said = capsys.readouterr().err
    assert "streak" in said
    assert "NOTE_TAKEN" in said
    assert files(extracted.raw) == before


def test_views_and_partitioned_tables_are_read_like_tables(db: Database, extracted: Project) -> None:
    before = damage(extracted)
    db.run("ALTER TABLE behavioral_events RENAME TO stored; CREATE VIEW behavioral_events AS SELECT * FROM stored")
    extracted.extract()
    assert files(extracted.raw) == before
    db.run("DROP VIEW behavioral_events; CREATE TABLE behavioral_events (LIKE stored) PARTITION BY RANGE (timestamp)")
    db.run("CREATE TABLE p PARTITION OF behavioral_events DEFAULT")
    db.run("INSERT INTO behavioral_events SELECT * FROM stored")
    damage(extracted)
    extracted.extract()
    assert files(extracted.raw) == before


def test_check_compares_only_the_contract(db: Database, extracted: Project) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages.extract", "--check"]
        return subprocess.run(command, cwd=extracted.root, env=env, capture_output=True, text=True, check=False)

    before = files(extracted.raw)
    assert "is what the contract describes" in check().stdout
    db.run('ALTER TABLE behavioral_events ALTER "timeOfDay" TYPE bigint')
    db.run('ALTER TABLE behavioral_events RENAME "contentType" TO "kind"')
    done = check()
    assert done.returncode == 4
    assert re.search(r"column +contract +database\n", done.stderr)
    assert re.search(r"timeOfDay +integer +bigint\n", done.stderr)
    assert re.search(r"contentType +text +no such column\n", done.stderr)
    assert re.search(r"kind +no such column +text\n", done.stderr)
    assert files(extracted.raw) == before


def test_a_table_in_another_schema_is_pointed_to(db: Database, extracted: Project) -> None:
    db.run("CREATE SCHEMA app; ALTER TABLE behavioral_events SET SCHEMA app")
    fails(
        extracted, ContractError, "no table behavioral_events in schema public; there is one in schema app", "?schema="
    )


def test_a_nullable_column_and_a_renamed_enum_value_are_notices(
    db: Database, extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    db.run('ALTER TABLE behavioral_events ALTER "userId" DROP NOT NULL')
    db.run("""ALTER TYPE "EngagementLevel" RENAME VALUE 'LOW' TO 'SMALL'""")
    damage(extracted)
    extracted.extract()
    said = capsys.readouterr().err
    assert "userId: may be NULL in the database" in said
    assert "engagementLevel: values that only the database knows: SMALL" in said
    assert "engagementLevel: values that only the contract knows: LOW" in said


def test_names_from_the_database_do_not_reach_the_terminal_as_they_are(
    db: Database, extracted: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "x\nrefresh: nothing moved; all is well\x1b[2J\x07"
    db.run('ALTER TYPE "EventType" ADD VALUE %s', [forged])
    db.run(f'ALTER TABLE behavioral_events ADD COLUMN "{forged}" int')
    damage(extracted)
    extracted.extract()
    said = capsys.readouterr()
    assert not any(line.startswith("refresh: nothing moved") for line in (said.out + said.err).splitlines())
    assert "\x1b" not in said.out + said.err
    assert r"x\nrefresh: nothing moved; all is well\x1b[2J\x07" in said.err
    db.run(f'ALTER TABLE behavioral_events RENAME "timeOfDay" TO "{forged}2"')
    with pytest.raises(ContractError) as refused:
        extracted.refresh()
    assert "\x1b" not in str(refused.value)
