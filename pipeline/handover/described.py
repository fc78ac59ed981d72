"""A snapshot as it is told to those who get it: what is in it, what is not, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.core.dataset import Dataset
from pipeline.core.days import ONE_DAY, days_of, word
from pipeline.core.progress import count
from schemas.table import Column, Table

# What extract.json calls the source where it is the embedded sample.
SAMPLE = "sample"


class Part(NamedTuple):
    """The file of one day or month, or of a whole table. `path` is relative to the folder that is handed over."""

    day: date
    path: str
    rows: int
    bytes: int
    sha256: str


class Version(NamedTuple):
    """Which version it is. Only a bundle knows: no file can name the commit that holds it."""

    name: str  # a tag, or the commit
    commit: str
    committed: date
    citation: str
    sha256: str  # of the manifest of the files that are handed over: over all of them
    verdict: str
    sentence: str  # what the quality checks came to
    replaced: str | None  # the same of the snapshot, where ids were replaced by pseudonyms since


class Described(NamedTuple):
    dataset: Dataset
    tables: Sequence[tuple[Table, Sequence[Part]]]
    users: int | None  # how many users were asked for; None: all
    set_aside: Mapping[str, int]  # rows of each table that break the contract and are not there
    pseudonyms: bool = False
    sample: bool = False  # whether the rows are made up
    labels: Mapping[str, Sequence[str]] = MappingProxyType({})  # the values of rules that have a param
    version: Version | None = None
    asked: tuple[date, date] = (date.min, date.max)  # the window: the first day, and its exclusive end

    @property
    def days(self) -> list[date]:
        """Those of the window; none where no table has a day column."""
        begin, until = self.asked
        return [day for day in days_of(part.day for part in self.parts) if begin <= day < until]

    @property
    def file(self) -> str:
        """What a file holds."""
        return word(part.day for part in self.parts)

    @property
    def ends(self) -> tuple[date, date] | None:
        """The window: its first day and its exclusive end."""
        return (self.days[0], self.days[-1] + ONE_DAY) if self.days else None

    @property
    def window(self) -> str:
        """The window in words."""
        if self.ends is None:
            return "whole tables"
        return f"{self.ends[0]} to {self.ends[1]} (UTC, the end is not included)"

    @property
    def rows(self) -> int:
        return sum(part.rows for _, parts in self.tables for part in parts)

    @property
    def parts(self) -> list[Part]:
        return [part for _, parts in self.tables for part in parts]

    @property
    def holds(self) -> str:
        """One sentence: what it is of."""
        return f"{count(self.rows, 'row')} of {', '.join(table.name for table, _ in self.tables)}, {self.window}."

    @property
    def own_ids(self) -> list[str]:
        """Columns that name users and have no pseudonym to take their place: they hold the app's own ids."""
        found = [(table.name, table.column(table.user)) for table, _ in self.tables if table.user]
        return [f"{name}.{column.name}" for name, column in found if not column.pseudonym]

    @property
    def ids(self) -> str:
        """What stands for users, in words."""
        if not self.pseudonyms:
            return "as the app has them: NOT pseudonymised"
        return f"pseudonyms, but for {', '.join(self.own_ids)}" if self.own_ids else "pseudonyms"

    def values(self, column: Column) -> Sequence[str]:
        """What the contract lets the column hold, where it lists it."""
        rule = next((rule for rule in column.rules if rule.values), None)
        return () if rule is None else self.labels.get(rule.param, rule.values)


def described(
    dataset: Dataset,
    tables: Sequence[tuple[Table, Sequence[Part]]],
    extracted: Mapping[str, Any],
    validated: Mapping[str, Any],
    pseudonyms: bool,
) -> Described:
    """By the reports of extract and validate. Raises KeyError or the like where they are of another form."""
    users = [entry["users"] for entry in extracted["made_from"] if entry["users"] != "all"]
    asked = validated["made_from"][0]
    begin, until = map(date.fromisoformat, extracted["window"])
    params = {rule.param for table, _ in tables for column in table.columns for rule in column.rules if rule.param}
    return Described(
        dataset,
        tables,
        int(users[0]) if users else None,
        {entry["table"]: int(entry["failed_rows"]) for entry in validated["tables"]},
        pseudonyms,
        extracted.get("source") == SAMPLE,
        {name: tuple(asked[name]) for name in sorted(params) if name in asked},
        asked=(begin, until),
    )


def meaning(column: Column, pseudonyms: bool) -> str:
    """What a column holds, in words."""
    more = " A pseudonym stands in its place." if pseudonyms and column.pseudonym else ""
    return column.description + more
