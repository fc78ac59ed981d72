"""The comparison that `load` ends with: the rows of a table as PostgreSQL counted them, in the files and in DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

Counts = Mapping[str, int]  # rows by day; a row that stands in the file of another day has a day of its own


class Places(NamedTuple):
    """The rows of each day in every place."""

    postgres: Counts
    raw: Counts
    quarantine: Counts
    export: Counts
    duckdb: Counts

    def totals(self) -> dict[str, int]:
        return {name: sum(counts.values()) for name, counts in self._asdict().items()}


def differences(places: Places) -> list[str]:
    """The days on which the counts do not agree, in words; empty when every row is accounted for."""
    found = []
    for day in sorted({day for counts in places for day in counts}):
        p, r, q, e, d = (counts.get(day, 0) for counts in places)
        if not p == r == e + q or d != e:
            found.append(f"{day}: PostgreSQL {p:,}, raw {r:,}, quarantine {q:,}, export {e:,}, DuckDB {d:,}")
    return found


def content_differences(days: Iterable[str]) -> list[str]:
    """The days on which the rows are as many, but not the same, in words."""
    return [f"{day}: the rows that DuckDB reads are not those of data/raw" for day in days]


def by_day(rows: Mapping[date, int]) -> dict[str, int]:
    return {str(day): n for day, n in rows.items()}
