"""Which rows differ between two snapshots of a table, by DuckDB, value by value.

Only files that differ are read, a few days at a time. What is left over on either side of them is then paired by its
key, so that a row that moved to another day is one that was modified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb

from pipeline.core.days import in_months, month_of
from pipeline.core.errors import DataError, ParamsError
from pipeline.files.sql import literal, parquet, quoted
from schemas.table import Table
from schemas.types import INSTANTS

# Bytes of files that are compared at a time, both sides together.
GROUP_BYTES = 6 * 1024 * 1024

MEMORY_LIMIT = "192MB"

ADDED, REMOVED, MODIFIED = "added", "removed", "modified"

# DuckLake's names, https://ducklake.select/docs: what an update was before and after it are two rows.
FEED = {ADDED: "insert", REMOVED: "delete"}
BEFORE, AFTER = "update_preimage", "update_postimage"


class Sides(NamedTuple):
    """The files of the days that differ, before and after. A day may have one on one side only."""

    table: Table
    before: Mapping[date, Path]
    after: Mapping[date, Path]

    @property
    def days(self) -> list[date]:
        return sorted(self.before.keys() | self.after.keys())


class Day(NamedTuple):
    """Rows that differ on a day; a removed row is counted on the day on which it was, others on that on which it is."""

    day: date
    added: int
    removed: int
    modified: int


class Summary(NamedTuple):
    days: list[Day]
    columns: list[tuple[str, int]]  # rows in which the value is another
    moved: int  # rows that are on another day
    came: list[str]  # columns that only the one after has
    went: list[str]


class Shape(NamedTuple):
    """The columns of both sides, with DuckDB's types, in the order of the newer one."""

    before: dict[str, str]
    after: dict[str, str]

    @property
    def names(self) -> list[str]:
        return list(self.after | self.before)

    def select(self, side: Mapping[str, str], source: str) -> str:
        """All columns of both sides from one of them; NULL in those that it does not have."""
        types = self.after | self.before
        listed = [quoted(n) if n in side else f"CAST(NULL AS {types[n]}) AS {quoted(n)}" for n in self.names]
        return f"SELECT {', '.join(listed)} FROM {source}"


class Diff:
    """The rows that differ, in a temporary table `pairs` of (before, after), each a struct or NULL."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, sides: Sides) -> None:
        self.connection, self.sides = connection, sides
        connection.execute("SET TimeZone = 'UTC'")  # whatever the machine's is
        self.shape = Shape(*(self._columns(side) for side in (sides.before, sides.after)))
        self.key = sides.table.identity
        if missing := [name for name in self.key for side in self.shape if side and name not in side]:
            raise DataError(
                f"{sides.table.name} has no column {missing[0]} in one of the snapshots",
                where="the key of the table in schemas/",
                expected="a column by which rows are the same row",
                next_step="two snapshots that have it",
            )
        self._compare()

    def _columns(self, files: Mapping[date, Path]) -> dict[str, str]:
        if not files:
            return {}
        described = self.connection.execute(f"DESCRIBE FROM {parquet(list(files.values())[:1])}").fetchall()
        return {name: kind for name, kind, *_ in described}

    def _rows(self, which: int, days: Sequence[date]) -> str:
        files, columns = (self.sides.before, self.shape.before) if which == 0 else (self.sides.after, self.shape.after)
        some = [files[day] for day in days if day in files]
        if some:
            return self.shape.select(columns, parquet(some))
        types = self.shape.after | self.shape.before
        nothing = ", ".join(f"CAST(NULL AS {types[n]}) AS {quoted(n)}" for n in self.shape.names)
        return f"SELECT {nothing} WHERE false"

    def _compare(self) -> None:
        before, after = ('"a row before"', '"a row after"')
        keys = ", ".join(f"{quoted(name)} AS k{n}" for n, name in enumerate(self.key))
        same = " AND ".join(f"old.k{n} {self._equals(name)} new.k{n}" for n, name in enumerate(self.key))
        made = False
        for days in groups(self.sides):
            for which in (0, 1):
                self._unique(self._rows(which, days))
            # Each row as one value, which is NULL only where there is no row.
            joined = (
                "SELECT before, after FROM "
                f"(SELECT {keys}, {before} AS before FROM ({self._rows(0, days)}) {before}) old "
                f"FULL JOIN (SELECT {keys}, {after} AS after FROM ({self._rows(1, days)}) {after}) new ON {same} "
                f"WHERE before IS NULL OR after IS NULL OR {self._differ('before', 'after')}"
            )
            self.connection.execute(
                f"INSERT INTO differing {joined}" if made else f"CREATE TEMP TABLE differing AS {joined}"
            )
            made = True
        for side in ("before", "after"):
            other = "after" if side == "before" else "before"
            keys = ", ".join(f"{side}.{quoted(name)} AS {quoted(name)}" for name in self.key)
            self._unique(f"SELECT {keys} FROM differing WHERE {other} IS NULL")
        self.connection.execute(
            "CREATE TEMP TABLE pairs AS "
            "SELECT before, after FROM differing WHERE before IS NOT NULL AND after IS NOT NULL "
            "UNION ALL SELECT gone.before, come.after FROM (SELECT before FROM differing WHERE after IS NULL) gone "
            "FULL JOIN (SELECT after FROM differing WHERE before IS NULL) come ON "
            + " AND ".join(
                f"gone.before.{quoted(name)} IS NOT DISTINCT FROM come.after.{quoted(name)}" for name in self.key
            )
        )
        self.connection.execute("DROP TABLE differing")

    def _equals(self, name: str) -> str:
        """How a column of the key is compared. What takes NULLs into account takes a quarter longer."""
        for which in (0, 1):
            rows = self._rows(which, self.sides.days)
            if self.connection.execute(f"SELECT count(*) > count({quoted(name)}) FROM ({rows})").fetchall()[0][0]:
                return "IS NOT DISTINCT FROM"
        return "="

    def _unique(self, rows: str) -> None:
        """Raise DataError where a key stands twice: rows could not be paired."""
        key, name = ", ".join(map(quoted, self.key)), ", ".join(self.key)
        twice = self.connection.execute(f"SELECT {key} FROM ({rows}) GROUP BY {key} HAVING count(*) > 1 LIMIT 1")
        if found := twice.fetchone():
            raise DataError(
                f"{self.sides.table.name}: {name} {', '.join(map(str, found))} stands twice in one of the snapshots",
                where=self.sides.table.name,
                expected=f"each {name} once, so that rows can be compared",
                next_step="two snapshots whose keys are unique",
            )

    def _each(self, *sides: str) -> list[str]:
        """The columns of the key; of `sides` those of the first that has the row."""
        names = list(map(quoted, self.key))
        return [f"coalesce({', '.join(f'{side}.{name}' for side in sides)})" if sides else name for name in names]

    def _texts(self, *sides: str) -> str:
        return ", ".join(f"{one}::VARCHAR" for one in self._each(*sides))

    def _differ(self, a: str, b: str) -> str:
        return " OR ".join(self._other(name, f"{a}.{quoted(name)}", f"{b}.{quoted(name)}") for name in self.shape.names)

    def _other(self, name: str, a: str, b: str) -> str:
        """Whether the value of a column is another one. Floats by their bits: 0.0 is not -0.0."""
        kinds = {side[name] for side in self.shape if name in side}
        if len(kinds) > 1:
            a, b = f"{a}::VARCHAR", f"{b}::VARCHAR"
        elif kinds & {"DOUBLE", "FLOAT"}:
            a, b = (f"hex((CASE WHEN isnan({one}) THEN 'NaN' ELSE {one} END)::BIT::BLOB)" for one in (a, b))
        return f"{a} IS DISTINCT FROM {b}"

    def keep(self, condition: str) -> None:
        """Only rows for which an SQL condition holds, before or after. Raises ParamsError where it is none."""
        chosen = " UNION ".join(
            f"SELECT [{self._texts()}] FROM (SELECT {side}.* FROM pairs WHERE {side} IS NOT NULL) WHERE ({condition}\n)"
            for side in ("before", "after")
        )
        statement = f"DELETE FROM pairs WHERE [{self._texts('after', 'before')}] NOT IN ({chosen})"
        try:
            if len(self.connection.extract_statements(statement)) != 1:
                raise duckdb.Error("more than one statement")
            self.connection.execute(statement)
        except duckdb.Error as error:
            raise ParamsError(
                f"{condition} is no condition: {str(error).splitlines()[0]}",
                where="--where",
                expected=f"a condition of SQL on the columns of {self.sides.table.name}",
                next_step=f"python -m commands.query 'DESCRIBE {quoted(self.sides.table.name)}'",
            ) from None

    @property
    def _kind(self) -> str:
        return f"CASE WHEN before IS NULL THEN '{ADDED}' WHEN after IS NULL THEN '{REMOVED}' ELSE '{MODIFIED}' END"

    @property
    def _changed(self) -> str:
        """The list of the columns whose value is another, of a row that is on both sides."""
        each = ", ".join(
            f"CASE WHEN {self._other(name, f'before.{quoted(name)}', f'after.{quoted(name)}')} THEN {literal(name)} END"
            for name in self.shape.names
        )
        both = "before IS NOT NULL AND after IS NOT NULL"
        return f"CASE WHEN {both} THEN list_filter([{each}], lambda x: x IS NOT NULL) END"

    def _day(self, side: str) -> str:
        return _day_of(self.sides.table, f"{side}.")

    def summary(self) -> Summary:
        day = f"coalesce({self._day('after')}, {self._day('before')})"
        counts = ", ".join(f"count(*) FILTER ({self._kind} = '{kind}')" for kind in (ADDED, REMOVED, MODIFIED))
        days = self.connection.execute(f"SELECT {day}, {counts} FROM pairs GROUP BY 1 ORDER BY 1").fetchall()
        columns = self.connection.execute(
            f"SELECT name, count(*) FROM (SELECT unnest({self._changed}) AS name FROM pairs) GROUP BY 1 "
            "ORDER BY 2 DESC, 1"
        ).fetchall()
        moved = self.connection.execute(
            f"SELECT count(*) FROM pairs WHERE {self._day('before')} <> {self._day('after')}"
        ).fetchall()[0][0]
        before, after = self.shape
        came, went = (
            [n for n in one if n not in two] if two else [] for one, two in ((after, before), (before, after))
        )
        return Summary([Day(*row) for row in days], columns, moved, came, went)

    def rows(self) -> str:
        """All that differ, with Dolt's columns: from_x and to_x of each column, diff_type; and the columns changed."""
        both = ", ".join(
            f"{side}.{quoted(name)} AS {quoted(f'{prefix}_{name}')}"
            for name in self.shape.names
            for side, prefix in (("before", "from"), ("after", "to"))
        )
        order = f"coalesce({self._day('after')}, {self._day('before')}), {', '.join(self._each('after', 'before'))}"
        return (
            f"SELECT {self._kind} AS diff_type, {self._changed} AS changed_columns, {both} FROM pairs ORDER BY {order}"
        )

    def feed(self) -> str:
        """The same as a feed of changes, with DuckLake's change_type: each row as it was, or is."""
        kinds = {
            "after": f"CASE WHEN before IS NULL THEN '{FEED[ADDED]}' ELSE '{AFTER}' END",
            "before": f"CASE WHEN after IS NULL THEN '{FEED[REMOVED]}' ELSE '{BEFORE}' END",
        }
        each = " UNION ALL ".join(
            f"SELECT {kind} AS change_type, {side}.* FROM pairs WHERE {side} IS NOT NULL"
            for side, kind in kinds.items()
        )
        day = _day_of(self.sides.table)
        return f"SELECT * FROM ({each}) ORDER BY {day}, {', '.join(self._each())}, change_type DESC"


def _day_of(table: Table, of: str = "") -> str:
    """SQL for the part of the table that a row is in."""
    if table.time is None:
        return f"DATE '{date.min}'"
    column = table.column(table.time)
    return f"CAST({INSTANTS[column.kind].format(of + column.quoted)} AS DATE)"


def groups(sides: Sides) -> Iterator[list[date]]:
    """The days in order, in groups of about GROUP_BYTES; at least one group."""
    group: list[date] = []
    size = 0
    days, months = sides.days, in_months(sides.days)
    for place, day in enumerate(days):
        group.append(day)
        size += sum(files[day].stat().st_size for files in (sides.before, sides.after) if day in files)
        # Where one side has days and the other months, all of a month is compared at once.
        month_goes_on = months and place + 1 < len(days) and month_of(days[place + 1]) == month_of(day)
        if size > GROUP_BYTES and not month_goes_on:
            yield group
            group, size = [], 0
    if group:
        yield group
