"""validate on rows that a database without constraints let in: exact counts, bounded cases, both modes."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import DataError, RowsInvalidError
from pipeline.files.layout import day_path
from tests.helpers import (
    NAMES,
    TABLE,
    UNTIL,
    Database,
    Project,
    cuid,
    event,
    files,
    rewrite,
    rows_of_parquet,
    run_module,
)

INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"id": "no-cuid"}, "id", "str_matches"),
    ({"id": "C" + "0" * 24}, "id", "str_matches"),
    ({"userId": ""}, "userId", "str_matches"),
    ({"eventType": "NOTE_TAKEN"}, "eventType", "isin"),
    ({"dayOfWeek": 7}, "dayOfWeek", "in_range"),
    ({"dayOfWeek": -1}, "dayOfWeek", "in_range"),
    ({"sessionPerformanceScore": 101}, "sessionPerformanceScore", "in_range"),
    ({"timeOfDay": 24}, "timeOfDay", "in_range"),
    ({"experimentPhase": "baseline_3"}, "experimentPhase", "isin"),
    ({"experimentPhase": ""}, "experimentPhase", "isin"),
    ({"userId": None}, "userId", "not_nullable"),
    ({"eventData": None}, "eventData", "not_nullable"),
    ({"eventType": None}, "eventType", "not_nullable"),
]


def read(path: Any) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def failures(project: Project) -> dict[str, dict[str, int]]:
    """Failing rows by column and check."""
    found: dict[str, dict[str, int]] = {}
    for entry in read(project.paths.validation_report)["failures"]:
        assert entry["table"] == TABLE
        found.setdefault(entry["column"], {})[entry["check"]] = entry["rows"]
    return found


def prepare(project: Project) -> None:
    project.refresh()
    project.extract()


@pytest.mark.parametrize(("values", "column", "check"), INVALID, ids=lambda value: f"{value}"[:40])
def test_each_rule_is_counted_and_its_case_shown(
    lax: Database, project: Project, values: dict[str, Any], column: str, check: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = event(**values)
    lax.insert(event(), bad, event())
    prepare(project)
    with pytest.raises(RowsInvalidError, match=f"1 row of 3 break the contract: {column}.{check} \\(1\\)"):
        project.validate()
    report = read(project.paths.validation_report)
    assert failures(project) == {column: {check: 1}}
    assert report["failed_rows"] == 1
    assert report["tables"] == [{"table": TABLE, "rows": 3, "failed_rows": 1}]
    with project.paths.failures.open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    assert [(case["event_date"], case["id"], case["column"], case["check"]) for case in cases] == [
        ("2025-10-27", bad["id"], column, check)
    ]
    assert cases[0]["value"] == ("" if values[column] is None else str(values[column]))
    said = capsys.readouterr().err
    assert f"{column} fails {check}" in said
    assert str(project.paths.failures) in said


def test_cases_are_read_back_as_they_were(lax: Database, project: Project) -> None:
    """By Python's csv and by pandas, whatever is in a text; NULL and the empty text are two things."""
    values = ["a\rb", "a\nb", 'a"b', "a,b", "", "=1+1", "ä\u2028"]
    lax.insert(*(event(id=cuid(), experimentPhase=value) for value in values), event(userId=None))
    prepare(project)
    with pytest.raises(RowsInvalidError):
        project.validate()
    with project.paths.failures.open(encoding="utf-8", newline="") as file:
        assert sorted(case["value"] for case in csv.DictReader(file)) == sorted([*values, ""])
    lines = project.paths.failures.read_text(encoding="utf-8")
    assert '"not_nullable",\n' in lines
    assert '"isin",""\n' in lines


def test_duplicate_ids_are_seen_across_days_and_batches(lax: Database, project: Project) -> None:
    twice, thrice = cuid(), cuid()
    lax.insert(event(id=twice, timestamp="2025-10-26 00:00:00"), *(event() for _ in range(40)), event(id=twice))
    lax.insert(*(event(id=thrice) for _ in range(3)), event(id=None), event(id=None))
    project.set(extract__batch_size=7, validate__mode="quarantine")
    prepare(project)
    project.validate()
    assert failures(project) == {"id": {"unique": 5, "not_nullable": 2}}
    assert {row["id"] for row in pq.read_table(project.quarantine).to_pylist()} == {twice, thrice, None}


def test_counts_are_exact_where_cases_are_bounded(
    lax: Database, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    lax.insert(*(event(dayOfWeek=9, timeOfDay=99) for _ in range(250)), event())
    project.set(validate__failure_cases=20, extract__batch_size=100)
    prepare(project)
    with pytest.raises(RowsInvalidError):
        project.validate()
    assert failures(project) == {
        "dayOfWeek": {"in_range": 250},
        "timeOfDay": {"in_range": 250},
    }
    assert read(project.paths.validation_report)["failed_rows"] == 250
    assert len(project.paths.failures.read_text().splitlines()) == 1 + 2 * 20
    assert capsys.readouterr().err.count(" fails in_range") == 10


def test_strict_leaves_the_last_export_and_database_as_they_were(lax: Database, project: Project) -> None:
    lax.insert(event())
    project.all()
    before = files(project.exported), project.paths.database.read_bytes()
    lax.insert(event(dayOfWeek=9))
    prepare(project)
    with pytest.raises(RowsInvalidError, match=r"validate\.mode"):
        project.validate()
    with pytest.raises(DataError, match="does not vouch"):
        project.export()
    assert (files(project.exported), project.paths.database.read_bytes()) == before


def test_quarantine_moves_whole_rows_and_every_count_adds_up(lax: Database, project: Project) -> None:
    bad = [event(**values) for values, _, _ in INVALID]
    good = [event(eventData='{"n": 1}') for _ in range(30)]
    both = event(dayOfWeek=8, timeOfDay=77)
    lax.insert(*good[:10], *bad, *good[10:], both)
    project.set(validate__mode="quarantine", extract__batch_size=5)
    project.all()
    everything = {row[0]: row for row in rows_of_parquet(project.raw)}
    kept = pq.read_table(project.quarantine).to_pylist()
    assert {row["id"] for row in kept} == {row["id"] for row in [*bad, both]}
    for row in kept:
        assert tuple(row[name] for name in NAMES) == everything[row["id"]]
    assert next(row["failed_checks"] for row in kept if row["id"] == both["id"]) == (
        "dayOfWeek.in_range, timeOfDay.in_range"
    )
    exported = [
        tuple(r.values()) for path in sorted(project.exported.glob("*/*")) for r in pq.read_table(path).to_pylist()
    ]
    assert exported == [row for row in rows_of_parquet(project.raw) if row[0] in {row["id"] for row in good}]
    loaded = read(project.paths.load_report)["tables"][0]
    assert (loaded["postgres"], loaded["raw"], loaded["quarantine"], loaded["export"], loaded["duckdb"]) == (
        len(everything),
        len(everything),
        len(bad) + 1,
        30,
        30,
    )
    assert read(project.paths.validation_report)["failed_rows"] == len(bad) + 1


def test_an_emptied_quarantine_after_the_rows_were_mended(lax: Database, project: Project) -> None:
    lax.insert(event(dayOfWeek=9))
    project.set(validate__mode="quarantine")
    project.all()
    lax.run('UPDATE behavioral_events SET "dayOfWeek" = 3')
    project.all()
    assert pq.read_table(project.quarantine).num_rows == 0
    assert read(project.paths.validation_report)["failed_rows"] == 0
    assert read(project.paths.load_report)["tables"][0]["export"] == 1


def test_phases_are_a_param(db: Database, project: Project) -> None:
    db.insert(event(experimentPhase="washout"))
    prepare(project)
    with pytest.raises(RowsInvalidError, match=r"experimentPhase\.isin"):
        project.validate()
    project.set(validate__experiment_phases=["washout"])
    project.validate()


def test_json_that_no_database_would_give_is_found(db: Database, project: Project) -> None:
    """The type is right, the text is no JSON, and PostgreSQL is said to have held it."""
    db.insert(event(), event())
    prepare(project)
    path = sorted(project.raw.glob("*/*.parquet"))[-1]
    table = pq.read_table(path)
    broken = table.set_column(3, table.schema.field(3), [["{", "[1,]"]])
    rewrite(path, broken)
    project.as_if_made(pinned=True)
    with pytest.raises(RowsInvalidError, match=r"eventData\.json_valid \(2\)"):
        project.validate()


@pytest.mark.parametrize("stage", ["validate", "load"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param("altered", "the file of 2025-10-27 is altered", id="altered"),
        pytest.param("one missing", "the file of 2025-10-26 is missing; 1 of 2 files are there", id="one missing"),
        pytest.param("all missing", "the file of 2025-10-26 is missing; 0 of 2 files are there", id="all missing"),
        pytest.param(
            "one more", "the file of 2025-10-28 is of no day in the window; 3 of 2 files are there", id="one more"
        ),
    ],
)
def test_files_that_extract_did_not_write_are_refused(
    db: Database, project: Project, stage: str, damage: str, words: str
) -> None:
    """Whole and valid, each of them: DVC runs extract first, unless it is told not to."""
    db.insert(event(), event())
    project.all()
    before, database = files(project.exported), project.paths.database.read_bytes()
    newest = day_path(project.raw, UNTIL - timedelta(days=1))
    if damage == "altered":
        rewrite(newest, pq.read_table(newest).slice(1))
    elif damage == "one missing":
        shutil.rmtree(day_path(project.raw, UNTIL - timedelta(days=2)).parent)
    elif damage == "all missing":
        shutil.rmtree(project.raw)
    else:
        shutil.copytree(newest.parent, day_path(project.raw, UNTIL).parent)
    with pytest.raises(DataError, match=f"is not what extract wrote: {words}"):
        getattr(project, stage)()
    assert (files(project.exported), project.paths.database.read_bytes()) == (before, database)


def test_pandera_s_variables_of_the_environment_switch_nothing_off(db: Database, project: Project) -> None:
    db.insert(event(timeOfDay=99))
    project.refresh()
    project.extract()
    for variables in ({"PANDERA_VALIDATION_ENABLED": "False"}, {"PANDERA_VALIDATION_DEPTH": "SCHEMA_ONLY"}):
        done = run_module(project, "stages.validate", **variables)
        assert done.returncode == 5
        assert "timeOfDay.in_range (1)" in done.stderr


@pytest.mark.parametrize("content", [pytest.param("[" * 200_000, id="unreadable"), pytest.param(None, id="unwritable")])
def test_a_cache_that_can_not_be_read_or_written_is_no_error(
    db: Database, project: Project, content: str | None
) -> None:
    db.insert(event())
    project.all()
    for file in (project.paths.verified("validate"), project.paths.verified("load")):
        file.unlink()
        if content is None:
            file.mkdir()
        else:
            file.write_text(content)
    project.all()


def test_an_id_that_is_no_cuid_is_silenced_too(db: Database, project: Project) -> None:
    db.insert(event(id="secret@example.org"))
    project.set(validate__report_values=False)
    project.refresh()
    project.extract()
    done = run_module(project, "stages.validate")
    assert done.returncode == 5
    assert "secret@example.org" not in done.stderr + project.paths.failures.read_text()
