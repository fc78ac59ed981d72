"""However a folder came to be, it holds what a run from nothing gives; getting there costs the days that changed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checks import made_from
from pipeline.core.errors import RowsInvalidError
from pipeline.files.layout import day_path, days_in
from stages import export, extract
from tests.helpers import ROOT, UNTIL, USER_A, USER_B, Database, Project, event, files, from_nothing, outputs

YESTERDAY = UNTIL - timedelta(days=1)


def said(capsys: pytest.CaptureFixture[str], stage: str) -> str:
    """The line in which a stage says what it kept."""
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{stage}: kept"))


STEPS = st.sampled_from(
    [
        "insert",
        "update",
        "delete",
        "move",
        "fewer days",
        "more days",
        "filter",
        "damage",
        "cut",
        "lose",
        "copy",
        "mode",
        "files",
    ]
)


def step(name: str, db: Database, project: Project, chance: random.Random) -> None:
    day = UNTIL - timedelta(days=chance.randint(0, 4))
    some = f"(SELECT id FROM behavioral_events ORDER BY md5(id || '{chance.random()}') LIMIT {chance.randint(1, 4)})"
    files = [file for root in (project.raw, project.exported) for file in sorted(root.rglob("part-0.parquet"))]
    if name == "insert":
        users, scores = [USER_A, USER_B], [50, 50, 50, 999]  # 999 goes to quarantine
        stamps = [f"{day} {chance.randint(0, 23):02}:00:00.{chance.randint(0, 999):03}" for _ in range(5)]
        db.insert(
            *(
                event(timestamp=stamp, userId=chance.choice(users), sessionPerformanceScore=chance.choice(scores))
                for stamp in stamps
            )
        )
    elif name == "update":
        db.run(f'UPDATE behavioral_events SET "timeOfDay" = {chance.randint(0, 23)} WHERE id IN {some}')
    elif name == "delete":
        db.run(f"DELETE FROM behavioral_events WHERE id IN {some}")
    elif name == "move":
        project.refresh(day + timedelta(days=1))
        return
    elif name in ("fewer days", "more days"):
        project.set(extract__days=chance.randint(1, 2) if name == "fewer days" else chance.randint(3, 5))
    elif name == "filter":
        project.set(extract__user_id=chance.choice([None, USER_A, [USER_A, USER_B]]))
    elif name == "files":
        project.set(extract__files=chance.choice(["day", "month"]))
    elif name == "mode":
        project.set(validate__failure_cases=chance.randint(0, 3))
    elif files:
        file = chance.choice(files)
        if name == "damage":
            content = bytearray(file.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
        elif name == "cut":
            file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])
        elif name == "lose":
            shutil.rmtree(file.parent)
        elif name == "copy":  # another day's file, or a copy beside the right one
            others = [other for other in files if other != file]
            shutil.copyfile(file, chance.choice([*others[:1], file.with_name("part-1.parquet")]))
    if name in ("insert", "update", "delete", "more days"):
        project.refresh(work_until(project))


def work_until(project: Project) -> date:
    text = project.paths.watermark.read_text(encoding="utf-8")
    return date.fromisoformat(text.split("until: '")[1][:10])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(STEPS, min_size=1, max_size=3), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_every_way_of_getting_there_gives_the_same_bytes(
    db: Database, tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]], seed: int
) -> None:
    chance = random.Random(seed)
    db.run("TRUNCATE behavioral_events")
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00") for n in range(20)))
    project = Project(tmp_path_factory.mktemp("kept"))
    project.set(extract__days=3, validate__mode="quarantine")
    project.refresh(days=10)
    project.run()
    for steps in rounds:
        for name in steps:
            step(name, db, project, chance)
        if len(set(days_of(project))) < project.values["extract"]["days"]:
            project.refresh(work_until(project), days=10)
        project.run()
        assert outputs(project) == outputs(from_nothing(project)), (steps, seed)


def days_of(project: Project) -> list[str]:
    return [line for line in project.paths.watermark.read_text(encoding="utf-8").splitlines() if "digest:" in line]


@contextmanager
def unmoved(project: Project, *but: date) -> Iterator[None]:
    """Inside, no file of another day than `but` is touched."""

    def marks() -> dict[Path, tuple[int, int]]:
        kept = [
            day_path(root, day) for root in (project.raw, project.exported) for day in days_in(root) if day not in but
        ]
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in kept}

    before = marks()
    yield
    after = marks()
    assert after.items() >= {file: mark for file, mark in before.items() if file in after}.items()
    assert before


@pytest.mark.parametrize(
    "sql",
    [
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) SELECT \'late\', '
        '"userId", "eventType", "eventData", timestamp + interval \'1 s\' FROM behavioral_events '
        "WHERE timestamp::date = '2025-10-25' LIMIT 1",
        "UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp::date = '2025-10-25'",
        "DELETE FROM behavioral_events WHERE id = "
        "(SELECT min(id) FROM behavioral_events WHERE timestamp::date = '2025-10-25')",
    ],
    ids=["a late row", "an update in place", "a delete"],
)
def test_a_change_of_one_day_costs_one_day(
    db: Database, published: Project, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    published.set(validate__mode="quarantine")
    before = days_of(published)
    db.run(sql)
    capsys.readouterr()
    published.refresh()
    changed = [line for line in days_of(published) if line not in before]
    assert len(changed) == 1
    assert "2025-10-25" in changed[0]
    with unmoved(published, date(2025, 10, 25)):
        capsys.readouterr()
        published.extract()
        assert said(capsys, "extract") == "extract: kept 4, read 1, dropped 0"
        published.validate()
        assert "4 days had passed before" in capsys.readouterr().out
        published.export()
        assert said(capsys, "export") == "export: kept 4, wrote 1"
        published.load()
    assert outputs(published) == outputs(from_nothing(published))


@pytest.mark.parametrize("invalid", [0, 1])
def test_two_changed_days_with_others_between_them(
    db: Database, published: Project, invalid: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when a day between them has a row in quarantine."""
    published.set(validate__mode="quarantine")
    db.run(
        'UPDATE behavioral_events SET "sessionPerformanceScore" = 101 WHERE id IN '
        "(SELECT id FROM behavioral_events WHERE timestamp::date = '2025-10-25' LIMIT %s)",
        [invalid],
    )
    published.refresh()
    published.run()
    db.run("UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp::date IN ('2025-10-24', '2025-10-27')")
    published.refresh()
    published.run()
    assert "the content of 3 days had been compared before" in capsys.readouterr().out
    assert json.loads(published.paths.load_report.read_text())["tables"][0]["quarantine"] == invalid
    assert outputs(published) == outputs(from_nothing(published))


@pytest.mark.parametrize(
    ("module", "words"),
    [(extract, "extract: kept 0, read 5"), (export, "export: kept 0, wrote 5")],
    ids=["extract", "export"],
)
def test_other_code_makes_every_file_anew(
    published: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    module: ModuleType,
    words: str,
) -> None:
    """A mistake that was in a file's making, and is mended, does not stay in it. Where the code gives the same bytes,
    they are the same: what made a file stands in the report, not in the file."""
    edited = tmp_path / "edited.py"
    edited.write_text("# a comment")
    before = files(published.raw) | files(published.exported)
    report = published.paths.extract_report.read_text()
    name = "RAW" if module is extract else "EXPORTED"
    monkeypatch.setattr(made_from, name, (*getattr(made_from, name), str(edited)))
    published.run()
    assert words in capsys.readouterr().out
    assert files(published.raw) | files(published.exported) == before
    assert (published.paths.extract_report.read_text() == report) == (module is export)


def test_the_code_that_decides_bytes_is_what_writes_them() -> None:
    """Everything that extract and export import of these rooms, but for what only finds files or says things."""
    both = {f"pipeline/{name}.py" for name in ("core/days", "files/slices", "files/writer")}
    both |= {"schemas/table.py", "schemas/types.py"}
    assert set(made_from.RAW) == both | {
        f"pipeline/{name}.py" for name in ("days/copy", "days/slices", "postgres/statements", "postgres/copy")
    }
    assert set(made_from.EXPORTED) == both | {"pipeline/days/export.py", "pipeline/files/pseudonyms.py"}


@pytest.mark.parametrize("stage", ["extract", "validate", "export", "load"])
def test_what_a_report_is_made_from_is_what_dvc_runs_its_stage_for(stage: str) -> None:
    """Else a change would be in the report of a clone and not in that of who made it."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    names = {"extract": "RAW", "validate": "CHECKED", "export": "EXPORTED", "load": "LOADED"}
    for place in getattr(made_from, names[stage]):
        assert any(place == dep or place.startswith(f"{dep}/") for dep in deps), place
        assert (ROOT / place).exists()


def test_the_night_after(db: Database, published: Project, capsys: pytest.CaptureFixture[str]) -> None:
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    published.refresh(UNTIL + timedelta(days=1))
    capsys.readouterr()
    published.extract()
    assert said(capsys, "extract") == "extract: kept 4, read 1, dropped 1"
    published.validate()
    published.export()
    published.load()
    assert "the content of 4 days had been compared before" in capsys.readouterr().out
    published.set(load__strategy="table")
    published.load()  # which makes all rows anew
    assert "compared before" not in capsys.readouterr().out
    published.set(load__strategy="view")
    published.load()
    assert outputs(published) == outputs(from_nothing(published))


def test_no_database_is_needed_when_no_day_has_to_be_read(published: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    published.set(extract__batch_size=7)
    with unmoved(published):
        published.extract()


def test_a_kept_day_whose_row_has_a_new_twin_is_checked_again(db: Database, published: Project) -> None:
    twin = db.run("SELECT id FROM behavioral_events WHERE timestamp::date = '2025-10-25' LIMIT 1")[0][0]
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    db.insert(event(id=twin, timestamp=f"{YESTERDAY} 12:00:00"))
    published.refresh()
    published.extract()
    with pytest.raises(RowsInvalidError, match=r"id.unique \(2\)"):
        published.validate()


def test_rules_that_changed_are_applied_to_all_days(db: Database, published: Project) -> None:
    db.run("UPDATE behavioral_events SET \"experimentPhase\" = 'baseline_1' WHERE timestamp::date = '2025-10-25'")
    published.refresh()
    published.extract()
    published.validate()
    published.set(validate__experiment_phases=["baseline_2"])
    with pytest.raises(RowsInvalidError, match=r"experimentPhase.isin \(3\)"):
        published.validate()


def test_a_day_that_grew_too_old_is_checked_again(db: Database, project: Project) -> None:
    """The five years count from `until`, which moves while the file stays; their first instant belongs to them."""
    first = date(2020, 10, 28)
    db.insert(*(event(timestamp=f"2020-10-{stamp}") for stamp in ("28 00:00:00", "28 23:59:59.999", "29 00:00:00")))
    project.set(extract__days=(UNTIL - first).days)
    project.refresh()
    project.extract()
    project.validate()
    project.set(extract__days=(UNTIL - first).days + 1)
    project.refresh(UNTIL + timedelta(days=1))
    project.extract()
    with pytest.raises(RowsInvalidError, match=r"2 rows of 3 .* timestamp\.timestamp_not_old \(2\)"):
        project.validate()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rules": 1}', None])
def test_without_the_cache_of_what_passed_everything_is_checked(
    published: Project, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(published)
    published.paths.verified("validate").unlink()
    if content is not None:
        published.paths.verified("validate").write_text(content)
    published.validate()
    assert "had passed before" not in capsys.readouterr().out
    assert outputs(published) == before


def test_a_failing_day_is_not_taken_for_one_that_passed(db: Database, published: Project) -> None:
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00", dayOfWeek=9))
    published.refresh()
    published.extract()
    for _ in range(2):
        with pytest.raises(RowsInvalidError, match=r"1 row of 16 .* dayOfWeek.in_range \(1\)"):
            published.validate()
