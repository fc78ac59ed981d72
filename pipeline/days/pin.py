"""The pins of some days of a table, as PostgreSQL holds them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.core import progress
from pipeline.core.digest import Pin
from pipeline.postgres.statements import day_pins
from pipeline.postgres.target import Relation
from pipeline.postgres.unchanged import Saved, unchanged


class PinTask(NamedTuple):
    """Days to pin, oldest first, and what an earlier refresh found of them."""

    relation: Relation
    days: tuple[date, ...]
    encoding: str  # of the database
    saved: Mapping[date, Saved]


def pin_days(connection: Connection, task: PinTask) -> dict[date, Pin]:
    """The saved pins where nothing changed since, else the pins of the rows as they are."""
    found = unchanged(connection, task.relation, {day: task.saved[day] for day in task.days if day in task.saved})
    rest = [day for day in task.days if day not in found]
    found |= day_pins(connection, task.relation, rest, task.encoding) if rest else {}
    progress.add(len(task.days))
    return found
