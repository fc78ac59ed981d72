"""The day, the user and the key of a table: guesses by names, defaults and constraints, each with its reason."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.adopt.found import FoundColumn, FoundTable
from pipeline.adopt.kinds import holds
from pipeline.adopt.prisma import Model

NONE = "none"

DAYS = ("timestamp", "timestamp_us", "timestamptz", "date")
USERS = ("text", "uuid", "int", "bigint", "smallint")

# The moment of the statement and nothing added to it.
_NOW = re.compile(
    r"""\(?(now\(\)|CURRENT_TIMESTAMP|CURRENT_DATE|LOCALTIMESTAMP|(clock|statement|transaction)_timestamp\(\))
        (\(\d\))?(::[\w ()]+)?(\s+AT\s+TIME\s+ZONE\s+'utc'(::text)?)?\)?(::[\w ()]+)?""",
    re.I | re.X,
)
_UTC = re.compile(r"timezone\('utc'(::text)?, *now\(\)\)", re.I)


class Guess(NamedTuple):
    """The name of a column, or none, and why. `others` might have been meant."""

    column: str | None
    why: str
    others: tuple[str, ...] = ()


class Key(NamedTuple):
    """`name` names a row in reports, `all` tell rows apart; `alone`: the database promises that `name` does."""

    name: str
    all: tuple[str, ...]
    why: str
    alone: bool


def bare(name: str) -> str:
    """A name without what differs between spellings: userId, user_id and "User ID" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_user_table(name: str) -> bool:
    return bare(name) in ("user", "users")


def day_of(table: FoundTable, model: Model | None) -> Guess:
    """A created column that the database fills in; else another one that it does. Never one that updates move."""
    stamps = [c for c in table.columns if c.readable and holds(c).kind in DAYS and not _moves(c, model)]
    names = tuple(column.name for column in stamps)
    stamped = [column for column in stamps if _is_now(column.default or "")]
    created = [column for column in stamps if bare(column.name).startswith("created")]
    if table.is_view:  # whose columns have no defaults
        chosen, why = created, "by its name"
    else:
        chosen, why = [column for column in created if column in stamped], "by its name and default"
    if not chosen and len(stamped) == 1:
        chosen, why = stamped, "the only one that the database fills in"
    if not chosen:
        return Guess(None, "no created column with a default", names)
    first = min(chosen, key=lambda column: column.nullable)  # the first that is never NULL
    return Guess(first.name, why, tuple(name for name in names if name != first.name))


def _is_now(default: str) -> bool:
    return bool(_NOW.fullmatch(default) or _UTC.fullmatch(default))


def _moves(column: FoundColumn, model: Model | None) -> bool:
    named = bare(column.name).startswith(("updated", "modified", "changed", "lastupdated", "lastmodified"))
    return named or (model is not None and column.name in model.updated)


def user_of(table: FoundTable, key: Key) -> Guess:
    usable = [column.name for column in table.columns if column.readable and holds(column).kind in USERS]
    if is_user_table(table.name) and key.alone and key.name in usable:
        return Guess(key.name, "one row is one user")
    named = [name for name in usable if bare(name) == "userid"]
    if named:
        return Guess(named[0], "by its name", tuple(name for name in refers_to_users(table) if name != named[0]))
    refers = [name for name in refers_to_users(table) if name in usable]
    if refers:
        first = min(refers, key=lambda name: table.column(name).nullable)
        return Guess(first, f"refers to {table.refers[first]}", tuple(name for name in refers if name != first))
    return Guess(None, "no column named userId, none that refers to a table of users")


def refers_to_users(table: FoundTable) -> list[str]:
    return [name for name, to in table.refers.items() if is_user_table(to)]


def key_of(table: FoundTable) -> Key:
    """The primary key, else the shortest unique index without NULLs, else a name for rows that may be that of many."""
    never_null = {column.name for column in table.columns if not column.nullable and column.readable}
    keys = [("the primary key", table.primary), *(("unique", names) for names in table.uniques)]
    for why, names in keys:
        if names and set(names) <= never_null:
            if len(names) == 1:
                return Key(names[0], names, why, not table.heirs)
            first = max(names, key=lambda name: _distinct(table, name))  # the first of those that are as good
            return Key(first, names, f"of {why} ({', '.join(names)})", False)
    readable = [column.name for column in table.columns if column.readable]
    named = [name for name in readable if bare(name) in ("id", "uuid", "cuid")]
    name = (named or readable)[0]
    return Key(name, (name,), "no key promises that a row is told from others", False)


def _distinct(table: FoundTable, name: str) -> float:
    """How many different values PostgreSQL estimates."""
    found = table.column(name).distinct or 0
    return -found * max(table.rows or 0, 1) if found < 0 else found
