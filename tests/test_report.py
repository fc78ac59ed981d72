"""The report stage: what it counts is what PostgreSQL holds, and a failed check ends it after all is written."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from pipeline.checks.counted import counted
from pipeline.core import watermark
from pipeline.core.errors import DataError, ParamsError, QualityError
from pipeline.core.reports import read_report
from pipeline.core.watermark import Change
from pipeline.files.layout import day_path
from schemas.behavioral_events import BEHAVIORAL_EVENTS, EXPERIMENT_PHASES
from tests.helpers import UNTIL, USER_A, USER_B, Database, Project, event, files


def checks(project: Project) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in read_report(project.paths.checks_report, "checks")["checks"]}


def series(project: Project, name: str) -> list[dict[str, str]]:
    with open(project.paths.report / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_counted_is_what_postgresql_holds(db: Database, project: Project) -> None:
    """Counted again by SQL in PostgreSQL, on rows with phases that go backwards."""
    project.set(extract__days=10)
    rows = []
    for n in range(60):
        phase = [None, *EXPERIMENT_PHASES][n % 5]
        day = UNTIL - timedelta(days=1 + n % 10)
        rows.append(
            event(
                timestamp=f"{day} {n % 24:02}:{n % 60:02}:00",
                userId=USER_A if n % 3 else USER_B,
                eventType="SESSION_STARTED" if n % 2 else "FLASHCARD_FLIP",
                experimentPhase=phase,
                sessionPerformanceScore=n if n % 4 else None,
            )
        )
    db.insert(*rows)
    project.all()
    project.report()
    table = "behavioral_events"
    found = counted(BEHAVIORAL_EVENTS, [day_path(project.exported, day) for day in pins(project)], EXPERIMENT_PHASES)
    assert found.users == 2
    assert db.run(f"SELECT max(timestamp) FROM {table}") == [(found.last,)]
    by_type = f'SELECT "eventType"::text, timestamp::date, count(*) FROM {table} GROUP BY 1, 2'
    assert {(t, d): n for t, days in found.types.items() for d, n in days.items()} == {
        (t, d): n for t, d, n in db.run(by_type)
    }
    by_hour = (
        f"SELECT extract(isodow FROM timestamp), extract(hour FROM timestamp), count(*) FROM {table} GROUP BY 1, 2"
    )
    assert found.hours == {(int(d), int(h)): n for d, h, n in db.run(by_hour)}
    by_phase = (
        f'SELECT "experimentPhase", count(*), count(DISTINCT "userId"), count("sessionPerformanceScore"), '
        f'coalesce(sum("sessionPerformanceScore"), 0), percentile_disc(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP '
        f'(ORDER BY "sessionPerformanceScore") FROM {table} GROUP BY 1'
    )
    assert {tuple(phase)[:5]: phase.quartiles for phase in found.phases} == {
        row[:5]: tuple(row[5]) for row in db.run(by_phase)
    }
    # One row after the other, as one would by hand.
    highest: Counter[str] = Counter()
    backwards = 0
    for user, phase in db.run(
        f'SELECT "userId", "experimentPhase" FROM {table} WHERE "experimentPhase" IS NOT NULL ORDER BY timestamp'
    ):
        place = EXPERIMENT_PHASES.index(phase) + 1
        backwards += place < highest[user]
        highest[user] = max(highest[user], place)
    assert backwards > 0
    assert found.backwards == backwards == checks(project)["phases_backwards"]["value"]
    assert sum(int(row["rows"]) for row in series(project, "days")) == len(rows)
    assert {row["type"]: int(row["rows"]) for row in series(project, "types")} == dict(
        db.run(f'SELECT "eventType"::text, count(*) FROM {table} GROUP BY 1')
    )


def pins(project: Project) -> list[Any]:
    return list(watermark.load(project.paths.watermark).tables["behavioral_events"])


def test_a_failed_check_ends_the_stage_when_all_is_written(published: Project) -> None:
    published.set(quality__users={"limit": 99, "level": "fail"})
    with pytest.raises(QualityError, match="1 quality check failed: 1 user") as failed:
        published.report()
    assert failed.value.exit_code == 8
    assert checks(published)["users"]["verdict"] == "failed"
    assert "✖ Do not use this snapshot: 1 of" in published.paths.page.read_text(encoding="utf-8")
    published.set(quality__users={"limit": 99, "level": "warn"})
    published.report()
    assert read_report(published.paths.checks_report, "verdict")["verdict"] == "warned"


def test_the_same_rows_give_the_same_page(published: Project) -> None:
    published.report()
    before = files(published.paths.report), published.paths.checks_report.read_bytes()
    published.report()
    assert (files(published.paths.report), published.paths.checks_report.read_bytes()) == before
    assert str(published.root) not in published.paths.page.read_text(encoding="utf-8")


def test_an_empty_snapshot_is_not_usable(db: Database, project: Project) -> None:
    project.all()
    with pytest.raises(QualityError, match="the snapshot has 0 rows"):
        project.report()
    assert "Do not use this snapshot" in project.paths.page.read_text(encoding="utf-8")
    assert series(project, "types") == []


def test_files_that_are_not_those_of_export_are_refused(published: Project) -> None:
    file = day_path(published.exported, pins(published)[0])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="altered"):
        published.report()
    assert not published.paths.page.exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"limit": 5}, "missing key quality.users.level", id="no level"),
        pytest.param({"limit": 5, "level": "red"}, "quality.users.level is 'red'", id="another level"),
        pytest.param({"limit": True, "level": "warn"}, "quality.users.limit is True", id="no number"),
        pytest.param({"limit": -1, "level": "warn"}, "quality.users.limit is -1", id="less than nothing"),
        pytest.param({"limit": 1, "level": "warn", "each": {}}, "unknown key quality.users.each", id="no each"),
        pytest.param(5, "quality.users is 5", id="no threshold"),
    ],
)
def test_thresholds_that_can_not_be_meant_are_named(project: Project, values: object, said: str) -> None:
    project.set(quality__users=values)
    with pytest.raises(ParamsError, match=said):
        _ = project.params


def test_thresholds_of_shares_and_of_each(project: Project) -> None:
    project.set(quality__nulls={"limit": 1.5, "level": "warn"})
    with pytest.raises(ParamsError, match=r"quality\.nulls\.limit is 1\.5"):
        _ = project.params
    project.set(quality__nulls={"limit": 1, "level": "warn", "each": {"userId": {"limit": 2, "level": "fail"}}})
    with pytest.raises(ParamsError, match=r"quality\.nulls\.each\.userId\.limit is 2"):
        _ = project.params


class TestRefresh:
    """What moved is kept in watermark.yaml, and too much of it is refused."""

    @pytest.fixture
    def pinned(self, db: Database, project: Project) -> Project:
        project.set(extract__days=4, quality__shrunk_days={"limit": 0.5, "level": "fail"})
        db.insert(*(event(timestamp=f"2025-10-{day} 10:0{n}:00") for day in (24, 25, 26, 27) for n in range(3)))
        project.refresh()
        return project

    def moved(self, project: Project) -> Any:
        return watermark.load(project.paths.watermark).moved

    def test_days_that_are_other_than_before_are_kept(self, db: Database, pinned: Project) -> None:
        assert self.moved(pinned) is None
        db.run("DELETE FROM behavioral_events WHERE timestamp = '2025-10-24 10:00:00'")
        db.run("UPDATE behavioral_events SET \"contentType\" = 'x' WHERE timestamp = '2025-10-25 10:00:00'")
        db.insert(event(timestamp="2025-10-26 11:00:00"))
        pinned.refresh()
        moved = self.moved(pinned)
        assert (moved.before, moved.accepted) == (UNTIL, ())
        assert {day.day: change for day, change in moved.tables["behavioral_events"].items()} == {
            24: Change(3, 2),
            25: Change(3, 3),
            26: Change(3, 4),
        }
        text = pinned.paths.watermark.read_bytes()
        pinned.refresh()
        assert pinned.paths.watermark.read_bytes() == text
        pinned.run()
        pinned.report()
        assert [(day["day"], day["mark"]) for day in series(pinned, "days") if day["mark"]] == [("2025-10-26", "late")]

    def test_many_days_with_fewer_rows_are_refused_until_they_are_accepted(self, db: Database, pinned: Project) -> None:
        text = pinned.paths.watermark.read_bytes()
        db.run("DELETE FROM behavioral_events WHERE timestamp < '2025-10-27' AND extract(minute FROM timestamp) > 0")
        with pytest.raises(QualityError, match=r"3 days lost rows, 75% .* 2025-10-26 \(3 -> 1\)") as refused:
            pinned.refresh()
        assert "python -m commands.refresh --accept" in str(refused.value)
        assert pinned.paths.watermark.read_bytes() == text
        pinned.refresh(accept=True)
        assert self.moved(pinned).accepted == ("behavioral_events lost rows",)
        pinned.run()
        pinned.report()
        assert checks(pinned)["shrunk_days"]["verdict"] == "warned"
        assert "Accepted: behavioral_events lost rows." in pinned.paths.page.read_text(encoding="utf-8")

    def test_days_that_were_not_pinned_before_dilute_nothing(self, db: Database, pinned: Project) -> None:
        db.run("DELETE FROM behavioral_events WHERE timestamp < '2025-10-27' AND extract(minute FROM timestamp) > 0")
        with pytest.raises(QualityError, match="3 days lost rows, 75%"):
            pinned.refresh(days=60)

    def test_an_empty_database_is_refused(self, db: Database, pinned: Project) -> None:
        db.run("TRUNCATE behavioral_events CASCADE")
        with pytest.raises(QualityError, match="4 days lost rows, 100%"):
            pinned.refresh()

    def test_a_window_that_moves_back_is_said_yes_to(self, pinned: Project) -> None:
        pinned.refresh(until=UNTIL - timedelta(days=1))
        assert self.moved(pinned).accepted == ("the window moved back",)

    @pytest.mark.parametrize("change", ["tables", "before", "rows"])
    def test_a_damaged_entry_is_named(self, db: Database, pinned: Project, change: str) -> None:
        db.insert(event(timestamp="2025-10-26 11:00:00"))
        pinned.refresh()
        broken = {
            "tables": ("    'behavioral_events':\n      '2025", "    'behavioral_events': 7\n  x:\n      '2025"),
            "before": ("  before: '2025-10-28T00:00:00Z'", "  before: 5"),
            "rows": ("rows: 4}", "rows: -4}"),
        }[change]
        text = pinned.paths.watermark.read_text(encoding="utf-8")
        assert broken[0] in text
        pinned.paths.watermark.write_text(text.replace(*broken, 1), encoding="utf-8")
        with pytest.raises(ParamsError, match=r"watermark\.yaml: moved|watermark\.yaml: until"):
            watermark.load(pinned.paths.watermark)


def test_what_the_checks_report_holds(published: Project) -> None:
    published.report()
    content = json.loads(published.paths.checks_report.read_text(encoding="utf-8"))
    assert set(content) == {"verdict", "sentence", "made_from", "judged", "checks"}
    assert all(
        set(one) == {"check", "table", "where", "value", "limit", "verdict", "words"} for one in content["checks"]
    )
    assert content["verdict"] == "warned"  # one user
