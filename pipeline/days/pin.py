"""The pin of one day of a table, as PostgreSQL holds it."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.core import progress
from pipeline.core.digest import Pin
from pipeline.postgres.statements import day_pin
from pipeline.postgres.target import Relation
from pipeline.postgres.unchanged import Saved, is_unchanged


class PinTask(NamedTuple):
    """A day to pin, and what an earlier refresh found of it."""

    relation: Relation
    day: date
    encoding: str  # of the database
    saved: Saved | None


def pin_day(connection: Connection, task: PinTask) -> Pin:
    """The saved pin where nothing changed since, else the pin of the rows as they are."""
    if task.saved is not None and is_unchanged(connection, task.relation, task.day, task.saved):
        found = task.saved.pin
    else:
        found = day_pin(connection, task.relation, task.day, task.encoding)
    progress.add(1)
    return found
