"""The source against the pins: rows that came, went or were lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.errors import (
    DataError,
    PinError,
    RowsInvalidError,
)
from pipeline.days import copy
from tests.helpers import USER_A, USER_B, Database, Project, event, fails, rows_of_parquet


@pytest.mark.parametrize("sql", ["DELETE FROM behavioral_events WHERE timestamp < '2025-10-27'", "late"])
def test_counts_that_differ_from_the_pin(db: Database, extracted: Project, sql: str) -> None:
    if sql == "late":
        db.insert(event(timestamp="2025-10-26 00:00:00"))
    else:
        db.run(sql)
    fails(extracted, PinError, "2025-10-26: pinned 1, now", "python -m commands.refresh")
    extracted.refresh()
    extracted.extract()
    assert len(rows_of_parquet(extracted.raw)) == len(db.rows())


def test_the_pin_is_checked_with_a_user_filter_too(db: Database, extracted: Project) -> None:
    extracted.set(extract__user_id=USER_A)
    extracted.extract()
    db.insert(event(userId=USER_B))
    fails(extracted, PinError, "2025-10-27: pinned 1, now 2")


def test_an_unpinned_day(extracted: Project) -> None:
    extracted.set(extract__days=3)
    fails(extracted, PinError, "1 of 3 days are not pinned", "--days 3")


def test_rows_lost_on_the_way_are_noticed(db: Database, extracted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no real server does: one message of the COPY goes missing. The only double here is the dropped line."""
    real = copy.copy_rows

    class Leaky:
        def __init__(self, into: Any) -> None:
            self.into, self.lines = into, 0

        def write(self, line: bytes) -> None:
            self.lines += 1
            if self.lines != 2:
                self.into.write(line)

    db.insert(event(), event())
    extracted.refresh()
    monkeypatch.setattr(copy, "copy_rows", lambda c, r, d, u, into: real(c, r, d, u, Leaky(into)))
    fails(extracted, DataError, "2025-10-27: PostgreSQL counted 3 rows and 2 arrived")


@pytest.mark.parametrize("stamp", ["infinity", "-infinity"])
def test_a_row_that_no_window_can_hold_is_named(db: Database, extracted: Project, stamp: str) -> None:
    lost = event(timestamp=stamp)
    db.insert(lost)
    fails(extracted, RowsInvalidError, f"timestamp fails finite: {lost['id']!r} ({stamp})")
    db.run("DELETE FROM behavioral_events WHERE id = %s", [lost["id"]])
    extracted.extract()
