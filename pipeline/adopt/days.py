"""What the rows of a table say of a column as its day."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier, Literal

from pipeline.adopt.found import FoundTable
from pipeline.postgres.statements import clock, fetch

# Days that are looked at, the last whole ones.
LOOK = 28

_DAYS = SQL("""
    SELECT coalesce(bool_or({day} IS NULL OR NOT isfinite({day})), false),
        count(DISTINCT {day}::date) FILTER (WHERE isfinite({day}) AND {day}::date >= {begin} AND {day}::date < {end}),
        min({day}) FILTER (WHERE isfinite({day}) AND {day}::date >= {begin})::date
    FROM {table}
""")


class DayFacts(NamedTuple):
    """`days` of the last `of` whole days have rows, counted from the first that has some. `without`: some rows are on
    no day."""

    without: bool
    days: int
    of: int

    @property
    def daily(self) -> bool:
        return self.of > 0 and self.days == self.of


def day_facts(connection: Connection, table: FoundTable, day: str) -> DayFacts:
    """Reads the whole table once, of each row that column only."""
    end = clock(connection).date()
    begin = end - timedelta(days=LOOK)
    statement = _DAYS.format(
        day=Identifier(day), begin=Literal(begin), end=Literal(end), table=Identifier(table.schema, table.name)
    )
    without, days, first = fetch(connection, statement)[0]
    return DayFacts(without, days, max((end - first).days, 0) if first else 0)
