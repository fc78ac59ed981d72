"""The quality page: one HTML file without script, network or clock, from plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.progress import count, printable
from pipeline.core.verdict import SIGNS
from pipeline.page import charts

TEMPLATES = Path(__file__).parent / "templates"

# Marked days that the words for a chart name.
NAMED = 5


class Line(NamedTuple):
    """What a quality check found."""

    check: str
    table: str
    verdict: str
    value: float | None
    limit: float
    words: str


class Type(NamedTuple):
    name: str
    rows: int
    past: bool  # its share is past the limit
    first: date
    last: date


class Null(NamedTuple):
    """A column and how many rows have no value in it."""

    name: str
    rows: int
    past: bool
    limit: float | None  # a share; None: not checked


class Phase(NamedTuple):
    name: str
    rows: int
    users: int
    scored: int
    score_sum: int
    quartiles: tuple[int, int, int] | None

    @property
    def mean(self) -> float | None:
        return self.score_sum / self.scored if self.scored else None


class Part(NamedTuple):
    """What the page shows of one table."""

    table: str
    rows: Mapping[date, int]
    marks: Mapping[date, str]  # "missing", "outlying" or "late"
    types: Sequence[Type]
    nulls: Sequence[Null]
    phases: Sequence[Phase]
    hours: Mapping[tuple[int, int], int]  # by weekday, 1 is Monday, and hour


class MovedDay(NamedTuple):
    table: str
    day: date
    before: int
    rows: int


class Page(NamedTuple):
    until: date
    verdict: str
    sentence: str
    worst: Sequence[Line]  # findings for the first screen
    checks: Sequence[Line]
    headlines: Sequence[tuple[str, str]]  # names and words
    parts: Sequence[Part]
    moved: str  # words
    moved_days: Sequence[MovedDay]
    rules: Sequence[str]  # of the contract
    failures: Sequence[tuple[str, int]]  # rules with the rows that broke them
    sha256: str


def render(page: Page) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    several = len(page.parts) > 1
    return jinja.get_template("quality.html").render(
        page=page,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        sign=SIGNS[page.verdict],
        tables=[table(part, several) for part in page.parts],
        weekdays=charts.WEEKDAYS,
        checks=[
            {**one._asdict(), "sign": SIGNS[one.verdict], "value": number(one.value), "limit": number(one.limit)}
            for one in page.checks
        ],
        several=several,
        rules=rules(page),
    )


def table(part: Part, several: bool) -> dict[str, Any]:
    """What the template needs of a table."""
    marks = part.marks
    some = ", ".join(f"{day} {mark}" for day, mark in list(marks.items())[:NAMED])
    more = f" and {len(marks) - NAMED} more" if len(marks) > NAMED else ""
    total = sum(part.rows.values())
    scored = [(p.name, p.quartiles, p.mean, p.scored) for p in part.phases if p.quartiles and p.mean is not None]
    busiest = max(part.hours, key=lambda hour: (part.hours[hour], hour), default=None)
    said = f"Most events on {charts.WEEKDAYS[busiest[0] - 1]} at {busiest[1]:02}:00." if busiest else "No events."
    return {
        "of": f", {part.table}" if several else "",
        "columns": charts.columns(part.rows, marks),
        "marked": f"{count(len(part.rows), 'day')}, {len(marks)} marked{': ' if marks else ''}{some}{more}.",
        "days": [{"day": day, "rows": rows, "mark": marks.get(day, "")} for day, rows in sorted(part.rows.items())],
        "types": list(types(part.types, total)),
        "nulls": [null(one, total) for one in part.nulls],
        "phases": [phase(one) for one in part.phases],
        "ranges": charts.ranges(scored),
        "heat": charts.heat(part.hours),
        "busiest": said,
        "hours": [
            {"hour": f"{hour:02}:00", "rows": [part.hours.get((day, hour), 0) for day in range(1, 8)]}
            for hour in range(24)
        ],
    }


def types(all_: Sequence[Type], total: int) -> Iterator[dict[str, Any]]:
    most = max((one.rows for one in all_), default=1)
    for one in sorted(all_, key=lambda one: (-one.rows, one.name)):
        width = round(100 * one.rows / most, 1)
        yield {**one._asdict(), "name": printable(one.name), "share": f"{one.rows / total:.1%}", "width": width}


def null(one: Null, total: int) -> dict[str, Any]:
    share = one.rows / total if total else 0
    limit = "off" if one.limit is None else f"{one.limit:.0%}"
    return {**one._asdict(), "share": f"{share:.1%}", "width": round(100 * share, 1), "limit": limit}


def phase(one: Phase) -> dict[str, Any]:
    mean = "" if one.mean is None else f"{one.mean:.1f}"
    return {
        **one._asdict(),
        "name": printable(one.name),
        "mean": mean,
        "quartiles": " / ".join(map(str, one.quartiles or ())),
    }


def rules(page: Page) -> dict[str, Any]:
    number_ = count(len(page.rules), "rule")
    failed = f"{number_}; some rows broke {len(page.failures)} of them, and are in quarantine."
    return {
        "words": failed if page.failures else f"{number_}, which every row obeys.",
        "failed": [{"name": name, "rows": rows} for name, rows in page.failures],
        "all": page.rules,
    }


def number(value: float | None) -> str:
    """A share or number as params.yaml has it, with no more digits than say something."""
    if value is None:
        return ""
    return f"{value:,.2f}".rstrip("0").rstrip(".") if value == 0 or abs(value) >= 0.01 else f"{value:.1g}"
