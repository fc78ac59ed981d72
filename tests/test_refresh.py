"""refresh: what it pins, what it says has moved, and that it leaves a file alone that is still true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline.core import watermark
from pipeline.core.digest import Pin
from pipeline.core.errors import ContractError
from tests.helpers import NAMES, TABLE, UNTIL, USER_A, USER_B, Database, Project, event

CONTEXT = "c" + "9" * 24


@pytest.fixture
def pinned(db: Database, project: Project) -> Project:
    db.insert(event(id="c" + "1" * 24, timestamp="2025-10-26 23:59:59.999"), event(id="c" + "2" * 24), event())
    project.refresh()
    return project


def pins(project: Project) -> dict[date, Pin]:
    return dict(watermark.load(project.paths.watermark).tables[TABLE])


def test_every_day_of_the_window_is_pinned(pinned: Project) -> None:
    assert watermark.load(pinned.paths.watermark).until == UNTIL
    assert [(day, pin.rows) for day, pin in pins(pinned).items()] == [(date(2025, 10, 26), 1), (date(2025, 10, 27), 2)]


def test_nothing_moved(pinned: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = pinned.paths.watermark.stat().st_mtime_ns, pinned.paths.watermark.read_bytes()
    pinned.set(extract__workers=5)
    pinned.refresh()
    assert (pinned.paths.watermark.stat().st_mtime_ns, pinned.paths.watermark.read_bytes()) == before
    assert "nothing moved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda db: db.insert(event()), "1 day with more rows: 2025-10-27 (2 -> 3)", id="a row more"),
        pytest.param(
            lambda db: db.run("DELETE FROM behavioral_events WHERE timestamp > '2025-10-27'"),
            "fewer rows: 2025-10-27",
            id="rows less",
        ),
        pytest.param(
            lambda db: db.run('UPDATE behavioral_events SET "timeOfDay" = 3'),
            "2 days with changed rows",
            id="a number in every row",
        ),
        pytest.param(
            lambda db: db.run("""UPDATE behavioral_events SET "eventData" = '{"a": 1.0}'"""),
            "2 days with changed rows",
            id="a body in every row",
        ),
        pytest.param(
            lambda db: db.run("UPDATE behavioral_events SET \"contentType\" = ''"),
            "2 days with changed rows",
            id="an empty text in every row",
        ),
        pytest.param(
            lambda db: db.run(
                "UPDATE behavioral_events SET \"engagementLevel\" = 'LOW' WHERE timestamp < '2025-10-27'"
            ),
            "1 day with changed rows: 2025-10-26",
            id="one day's rows",
        ),
    ],
)
def test_what_moved_is_said_and_pinned(
    db: Database, pinned: Project, change: Callable[[Database], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pins(pinned)
    change(db)
    capsys.readouterr()
    pinned.refresh()
    assert said in capsys.readouterr().out
    assert pins(pinned) != before


def test_one_changed_row_changes_one_day(db: Database, pinned: Project) -> None:
    before = pins(pinned)
    db.run("UPDATE behavioral_events SET \"contentType\" = 'x' WHERE id = %s", ["c" + "2" * 24])
    pinned.refresh()
    after = pins(pinned)
    assert [day for day in after if after[day] != before[day]] == [date(2025, 10, 27)]


# Two values for each column but id, whose exchange gives the same set of rows in another order.
EXCHANGED = {
    "userId": (USER_A, USER_B),
    "eventType": ("FLASHCARD_FLIP", "SEARCH_PERFORMED"),
    "eventData": ('{"a": 1}', '{"a": 2}'),
    "timestamp": ("2025-10-27 08:00:00.001", "2025-10-27 09:00:00"),
    "completionQuality": ("RUSHED", None),
    "contentType": ("a", "b"),
    "dayOfWeek": (0, 1),
    "difficultyLevel": ("", None),
    "engagementLevel": ("LOW", "HIGH"),
    "sessionPerformanceScore": (7, 17),
    "timeOfDay": (0, 23),
    "experimentPhase": ("baseline_1", "baseline_2"),
    "randomizationSeed": (1, -1),
    "contextMetadataId": (None, CONTEXT),
}


def test_two_rows_that_exchange_a_value_are_a_change(db: Database, pinned: Project) -> None:
    assert set(EXCHANGED) == set(NAMES) - {"id"}
    db.run('INSERT INTO context_metadata (id, "userId") VALUES (%s, %s)', [CONTEXT, USER_A])
    first, second = (event(**{name: values[n] for name, values in EXCHANGED.items()}) for n in (0, 1))
    seen = set()
    for name in [None, *EXCHANGED]:
        change = {} if name is None else {name: second[name]}, {} if name is None else {name: first[name]}
        db.run("TRUNCATE behavioral_events")
        db.insert(first | change[0], second | change[1])
        pinned.refresh()
        seen.add(pins(pinned)[date(2025, 10, 27)].digest)
    assert len(seen) == len(NAMES)


def test_spelling_of_json_numbers_counts_as_content(db: Database, pinned: Project) -> None:
    """jsonb takes 1.0 and 1.00 for equal, but they are different text, and so different bytes of the export."""
    seen = set()
    for body in ('{"a": 1.0}', '{"a": 1.00}'):
        db.run('UPDATE behavioral_events SET "eventData" = %s', [body])
        pinned.refresh()
        seen.add(pins(pinned)[date(2025, 10, 27)].digest)
    assert len(seen) == 2


def test_digests_are_equal_on_a_copy_with_other_oids_and_order(db: Database, pinned: Project) -> None:
    before = pinned.paths.watermark.read_bytes()
    db.run("CREATE SCHEMA copy")
    db.run("""CREATE TYPE copy."EventType" AS ENUM ('GRAPH_VIEWED', 'FLASHCARD_FLIP')""")
    db.run("CREATE TABLE copy.behavioral_events AS SELECT * FROM behavioral_events ORDER BY id DESC")
    to_other_enum = 'TYPE copy."EventType" USING "eventType"::text::copy."EventType"'
    db.run(f'ALTER TABLE copy.behavioral_events ALTER "eventType" {to_other_enum}')
    db.run("DROP TABLE behavioral_events; ALTER TABLE copy.behavioral_events SET SCHEMA public")
    pinned.refresh()
    assert pinned.paths.watermark.read_bytes() == before


def test_a_later_end_moves_the_window(pinned: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    pinned.refresh(until=UNTIL + timedelta(days=1))
    said = capsys.readouterr().out
    assert "until: 2025-10-28 -> 2025-10-29" in said
    assert "1 day new: 2025-10-28 (0)" in said
    assert "1 day left the window: 2025-10-26" in said


def test_the_default_end_is_today_s_midnight_in_utc(pinned: Project) -> None:
    before = datetime.now(UTC).date()
    pinned.refresh(until=None)
    assert watermark.load(pinned.paths.watermark).until in (before, datetime.now(UTC).date())


def test_more_days_than_the_params_ask_for(pinned: Project) -> None:
    pinned.refresh(days=400)
    assert len(pins(pinned)) == 400


def test_a_changed_table_is_refused_before_anything_is_pinned(db: Database, pinned: Project) -> None:
    before = pinned.paths.watermark.read_bytes()
    db.run('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"')
    with pytest.raises(ContractError, match="timeOfDay"):
        pinned.refresh()
    assert pinned.paths.watermark.read_bytes() == before
