"""The views that load adds to analytics.duckdb: their SQL is in the files beside this one, their words are here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from pipeline.core.days import DAYS as IN_FOOTER
from pipeline.files.sql import literal, quoted
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.context_metadata import CONTEXT_METADATA
from schemas.table import Table

OF = BEHAVIORAL_EVENTS.name  # what they read

FOLDER = Path(__file__).parent


class View(NamedTuple):
    """What a view is of, and what each of its columns holds, in their order."""

    name: str
    description: str
    columns: Mapping[str, str]
    needs: tuple[str, ...] = (OF,)  # tables

    @property
    def sql(self) -> str:
        """Its SELECT."""
        return (FOLDER / f"{self.name}.sql").read_text(encoding="utf-8")


# The days of the window. Each of the two is a SELECT of one column, event_date.
DAYS = View("event_days", "One row is one UTC day of the window, with events or without.", {"event_date": "The day."})


def days_between(first: date, last: date) -> str:
    """For rows that can be moved away from their files."""
    days = f"generate_series(TIMESTAMP '{first}', TIMESTAMP '{last}', INTERVAL 1 DAY)"
    return f"SELECT CAST(day AS DATE) AS event_date FROM {days} AS days (day)"


def days_of_months(files: str) -> str:
    """By the footers of files of months, each of which says what days it has. `files` is SQL: a pattern or a list."""
    first, last = (f"CAST(split_part(decode(value), '/', {n}) AS TIMESTAMP)" for n in (1, 2))
    days = f"unnest(generate_series({first}, {last}, INTERVAL 1 DAY))"
    footers = f"parquet_kv_metadata({files}) WHERE decode(key) = {literal(IN_FOOTER)}"
    return f"SELECT CAST({days} AS DATE) AS event_date FROM {footers}"


def days_of_files(files: str) -> str:
    """By the names of files of days: without a date in a view, the database is the same bytes each night."""
    day = r"CAST(regexp_extract(file, 'event_date=(\d{4}-\d\d-\d\d)', 1) AS DATE)"
    return f"SELECT {day} AS event_date FROM glob({files})"


# In the order in which they need each other.
VIEWS = (
    View(
        "sessions",
        "One row is one session of a user. Events with a whole number in eventData.session belong together by it, "
        "also where two sessions are open at once. Of others, SESSION_STARTED, or half an hour without any of them, "
        "begins a session; where two are open at once, they are cut where the later one starts.",
        {
            "userId": "The user.",
            "session_number": "1 for the user's first session in the window, by the time of its first event.",
            "app_session": "The number in eventData.session; NULL where there is none.",
            "started": "Its first event, UTC.",
            "ended": "Its last event, UTC.",
            "events": "Events.",
            "scored_events": "Events with a sessionPerformanceScore.",
            "mean_score": "Their mean sessionPerformanceScore, in percent.",
            "phase": "The experiment phase of its first event; NULL outside an experiment.",
            "phase_scored_events": "Scored events of that phase: a session may run into the next one.",
            "phase_score": "Their mean sessionPerformanceScore, in percent.",
        },
    ),
    View(
        "abab_sessions",
        "One row is one session of a user within an experiment.",
        {
            "userId": "The user.",
            "session_number": "1 for the user's first session in the experiment.",
            "phase": "The experiment phase in which it began.",
            "number_in_phase": "1 for the user's first session in this phase.",
            "event_date": "The UTC day on which it began.",
            "scored_events": "Events of this phase with a sessionPerformanceScore.",
            "score": "Their mean sessionPerformanceScore, in percent; NULL without any.",
        },
    ),
    View(
        "daily_activity",
        "One row is one user on one UTC day, from the user's first event in the window to the window's last day.",
        {
            "userId": "The user.",
            "event_date": "The UTC day.",
            "events": "Events; 0 on a day without any.",
            "sessions": "Sessions that began.",
            "scored_events": "Events with a sessionPerformanceScore.",
            "mean_score": "Their mean sessionPerformanceScore, in percent; NULL without any.",
            "score_sum": "Their sum, so that days or users can be put together exactly.",
            "active_minutes": "Minutes of the clock in which there was an event.",
        },
    ),
    View(
        "its_series",
        "One row is one outcome on one UTC day of the window, of all users: the series of an interrupted time series.",
        {
            "outcome": "events, users or mean_score (the mean sessionPerformanceScore, in percent).",
            "event_date": "The UTC day.",
            "day_number": "0 for the window's first day.",
            "value": "The outcome; mean_score is NULL on a day without scored events.",
            "n": "Events that it is made of.",
        },
    ),
    View(
        "phase_summary",
        "One row is one experiment phase, over all its users.",
        {
            "phase": "The experiment phase.",
            "users": "Users with an event in it.",
            "events": "Events.",
            "scored_events": "Events with a sessionPerformanceScore.",
            "mean_score": "Their mean sessionPerformanceScore, in percent.",
            "sd_score": "Their standard deviation, by n - 1; NULL for fewer than two.",
            "first_date": "The UTC day of the first event.",
            "last_date": "The UTC day of the last event.",
        },
    ),
    View(
        "events_with_context",
        "One row is one event, with the check-in that it points to, as far as that is in the snapshot.",
        {
            **{column.name: column.description for column in BEHAVIORAL_EVENTS.columns},
            "context_timestamp": "When the check-in was, UTC; NULL without one.",
            **{
                column.name: column.description
                for column in CONTEXT_METADATA.columns
                if column.name not in ("id", "userId", "timestamp", "notes", "dataSource")
            },
        },
        (OF, CONTEXT_METADATA.name),
    ),
)


def made_of(tables: Collection[str]) -> set[str]:
    """The names of the views that are made where these tables are read."""
    return {view.name for view in (DAYS, *VIEWS) if set(view.needs) <= set(tables)}


# What takes longest and others are made of: a table where the events are one.
KEPT = ("sessions",)


def create(days: str, tables: Collection[str], kept: Collection[str] = ()) -> Iterator[str]:
    """The statements that make the views of these tables and say what they are. `days` is the SELECT of event_days.

    Those whose names are `kept` become tables.
    """
    for view in (DAYS, *VIEWS):
        if not set(view.needs) <= set(tables):
            continue
        kind = "TABLE" if view.name in kept else "VIEW"
        yield f"CREATE {kind} {quoted(view.name)} AS {days if view is DAYS else view.sql}"
        yield f"COMMENT ON {kind} {quoted(view.name)} IS {literal(view.description)}"
        yield from _of_columns(view.name, view.columns)


def commented(table: Table) -> Iterator[str]:
    """The statements that say what the view of a table and its columns are."""
    yield f"COMMENT ON VIEW {quoted(table.name)} IS {literal(table.description)}"
    yield from column_comments(table)


def column_comments(table: Table) -> Iterator[str]:
    yield from _of_columns(table.name, {column.name: column.description for column in table.columns})


def _of_columns(name: str, columns: Mapping[str, str]) -> Iterator[str]:
    for column, words in columns.items():
        yield f"COMMENT ON COLUMN {quoted(name)}.{quoted(column)} IS {literal(words)}"
