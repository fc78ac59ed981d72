"""What is taken of a table: what was asked for, else what was guessed, and the lines that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.adopt.contract import Chosen, has_pseudonym
from pipeline.adopt.days import DayFacts, day_facts
from pipeline.adopt.found import FoundTable
from pipeline.adopt.guess import DAYS, NONE, USERS, Guess, day_of, key_of, user_of
from pipeline.adopt.kinds import holds
from pipeline.adopt.prisma import Model
from pipeline.core.errors import ParamsError
from pipeline.core.progress import printable
from pipeline.files.sql import quoted
from pipeline.postgres.target import Target


class Asked(NamedTuple):
    """What the command line says; None where it says nothing."""

    day: str | None
    user: str | None
    force: bool


def choose(
    connection: Connection, target: Target, table: FoundTable, model: Model | None, asked: Asked
) -> tuple[Chosen, list[str]]:
    """What is taken for day, user and key, and lines that say so."""
    key = key_of(table)
    day, facts = choose_day(connection, table, model, asked.day)
    user = user_of(table, key)
    if asked.user is not None:
        user = Guess(column_of(table, "--user", asked.user, USERS), "as --user says")
    schema = table.schema if table.schema != target.schema else None
    made = Chosen(table, model, key, day.column, user.column, day.column is not None and facts.daily, schema)
    return made, list(told(made, day, user, facts))


def choose_day(
    connection: Connection, table: FoundTable, model: Model | None, asked: str | None
) -> tuple[Guess, DayFacts]:
    """The day column and what the rows say of it. One that some leave empty is only taken where it was asked for."""
    day = day_of(table, model)
    if asked is not None:
        day = Guess(column_of(table, "--day", asked, DAYS), "as --day says", day.others)
    if day.column is None:
        return day, DayFacts(False, 0, 0)
    facts = day_facts(connection, table, day.column)
    if facts.without and asked is None:
        others = tuple(name for name in day.others if name != day.column)
        return Guess(None, f"{day.column} is NULL or infinite in some rows, which lie on no day", others), facts
    return day, facts


def column_of(table: FoundTable, option: str, name: str, kinds: Sequence[str]) -> str | None:
    """The column that an option names; None for `none`. Raises ParamsError where it can't be that one."""
    if name == NONE:
        return None
    usable = [column.name for column in table.columns if holds(column).kind in kinds]
    if name not in usable:
        raise ParamsError(
            f"{option} {printable(name)}: {printable(table.place)} has no such column of kind {', '.join(kinds)}",
            where=option,
            expected=f"one of {', '.join(map(printable, usable)) or 'no column'}, or {NONE}",
            next_step="the same command with one of these",
        )
    return name


def without_index(table: FoundTable, day: str) -> str:
    """What to say where no index begins with the day column. Measured on 1,000,000 rows of 90 days: 264 ms, 25 ms."""
    index = printable(f"CREATE INDEX ON {table.place} ({quoted(day)})")
    return (
        f"no index begins with {printable(day)}, so a day that changed takes a look at the whole table; with {index} "
        "one of 90 days would take a tenth of the time"
    )


def told(made: Chosen, day: Guess, user: Guess, facts: DayFacts) -> list[str]:
    lines = [day_line(made, day)]
    if made.day:
        if facts.without:
            lines.append(f"notice: {printable(made.day)} is NULL or infinite in some rows; refresh refuses them")
        if not made.daily:
            some = f"rows on {facts.days} of the last {facts.of} days" if facts.of else "no row of late"
            lines.append(f"{some}, so a day without any is nothing wrong (daily=False)")
    lines.append(guessed("user", user))
    if made.user and not has_pseudonym(made, made.table.column(made.user)):
        lines.append(f"notice: {printable(made.user)} is no text, so an export with pseudonyms leaves it as it is")
    lines.append(f"key: {printable(made.key.name)}, {printable(made.key.why)}")
    return lines


def day_line(made: Chosen, day: Guess) -> str:
    if made.day:
        return guessed("day", day)
    return f"{guessed('day', day)}: the whole table is one partition with one pin"


def guessed(what: str, of: Guess) -> str:
    others = f" (--{what} may name {', '.join(map(printable, of.others))})" if of.others else ""
    return f"{what}: {printable(of.column or NONE)}, {of.why}{others}"
