"""The page's series as CSV, for `dvc plots` and whoever wants the numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.core.progress import printable
from pipeline.page.render import Part


def series(parts: Sequence[Part]) -> dict[str, str]:
    """The text of each file, by its name. Counts and sums are whole numbers, so that a reader divides as they like."""
    return {
        "days": _csv(
            ("day", "rows", "mark"),
            ((one.table, day, rows, one.marks.get(day, "")) for one in parts for day, rows in sorted(one.rows.items())),
        ),
        "types": _csv(("type", "rows"), ((one.table, type_.name, type_.rows) for one in parts for type_ in one.types)),
        "nulls": _csv(("column", "rows"), ((one.table, null.name, null.rows) for one in parts for null in one.nulls)),
        "phases": _csv(
            ("phase", "rows", "users", "scored", "score_sum"),
            (
                (one.table, phase.name, phase.rows, phase.users, phase.scored, phase.score_sum)
                for one in parts
                for phase in one.phases
            ),
        ),
        "hours": _csv(
            ("weekday", "hour", "rows"),
            ((one.table, *hour, rows) for one in parts for hour, rows in sorted(one.hours.items())),
        ),
    }


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Each row begins with its table. The first line is there without rows, too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # A label may hold what a terminal would obey.
    plain = ([printable(one) if isinstance(one, str) else one for one in row] for row in rows)
    writer.writerows([("table", *columns), *plain])
    return text.getvalue()
