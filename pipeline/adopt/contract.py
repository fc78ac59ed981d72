"""The file of a table in schemas/, written of what was found and guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.adopt.code import INDENT, WIDTH, Call, Part, lines, long_string, string
from pipeline.adopt.found import FoundColumn, FoundTable
from pipeline.adopt.guess import Key, is_user_table
from pipeline.adopt.kinds import holds
from pipeline.adopt.prisma import Model
from pipeline.core.progress import printable
from schemas.rules import unique
from schemas.table import RESERVED

# The one pseudonym that users have, whatever their columns are called.
PSEUDONYM = "userId"


RULES = ("one_of", "unique", "valid_json")

HEADER = '''"""The table {name}, as the database has it.

Written by `python -m commands.adopt`. Rules and words that the app's people know belong here, too.
"""

from __future__ import annotations

{rules}from schemas.table import Column, Table

'''


class Chosen(NamedTuple):
    """What of a table is taken, and how."""

    table: FoundTable
    model: Model | None
    key: Key
    day: str | None
    user: str | None
    daily: bool
    schema: str | None  # where it is not the one that DATABASE_URL names


def left_out(table: FoundTable) -> dict[str, str]:
    """Columns that can't be taken, with the reason."""
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for column in table.columns:
        name = column.name
        if not column.readable:
            found[name] = "this role may not read it"
        elif name.lower() in RESERVED:
            found[name] = "a name that the files need for themselves"
        elif printable(name) != name:
            found[name] = "a control character in its name"
        elif name.lower() in seen:
            found[name] = f"DuckDB can't tell it from {seen[name.lower()]}"
        else:
            seen[name.lower()] = name
    return found


def written(chosen: Chosen, constant: str) -> str:
    """The text of the file, formatted as ruff does it."""
    table = chosen.table
    gone = left_out(table)
    columns = [_column(chosen, column) for column in table.columns if column.name not in gone]
    code = "\n".join(lines(_table(chosen, tuple(columns)), "", start=f"{constant} = "))
    calls = [f"{rule}(" in "".join(column.flat() for column in columns) for rule in RULES]
    used = [rule for rule, is_used in zip(RULES, calls, strict=True) if is_used]
    rules = f"from schemas.rules import {', '.join(used)}\n" if used else ""
    return HEADER.format(name=table.name, rules=rules) + code + "\n"


def _table(chosen: Chosen, columns: tuple[Call, ...]) -> Call:
    table, day, key = chosen.table, chosen.day, chosen.key
    words = table.comment or (chosen.model.words if chosen.model else "") or f"One row is one of {table.name}."
    order = dict.fromkeys([*([day] if day else []), *key.all])
    counted = [c.name for c in table.columns if holds(c).kind == "enum" and c.name not in left_out(table)]
    parts: list[Part] = [
        f"name={string(table.name)}",
        f"description={_words(words, INDENT + 'description=')}",
        Call("", columns, "columns"),
        Call("", tuple(map(string, order)), "order"),
        f"key={string(key.name)}",
        f"time={string(day) if day else None}",
    ]
    if chosen.user:
        parts.append(f"user={string(chosen.user)}")
    if not chosen.daily:
        parts.append("daily=False")
    if counted:
        parts.append(Call("", tuple(map(string, counted)), "counted"))
    if chosen.schema:
        parts.append(f"schema={string(chosen.schema)}")
    return Call("Table", tuple(parts))


def _column(chosen: Chosen, column: FoundColumn) -> Call:
    held = holds(column)
    rules = tuple(_rules(chosen, column))
    parts: list[Part] = [
        string(column.name),
        string(held.kind),
        _words(words_of(chosen, column), INDENT * 3),
        *([] if column.nullable else ["False"]),
        *([Call("", rules, "rules" if column.nullable else "")] if rules else []),
    ]
    if held.enum:
        parts.append(f"enum={string(held.enum)}")
    if held.digits:
        parts.append(f"digits={held.digits}")
    if held.native:
        parts.append(f"native={string(held.native)}")
    if has_pseudonym(chosen, column):
        parts.append(f"pseudonym={string(PSEUDONYM)}")
    return Call("Column", tuple(parts))


def _rules(chosen: Chosen, column: FoundColumn) -> Iterator[Part]:
    """What the database promises, and no more: the first run must not fail on rows that are legal there."""
    kind = holds(column).kind
    if kind == "enum":
        yield Call("one_of", tuple(long_string(label, WIDTH - len(INDENT * 5) - len(",")) for label in column.labels))
    if kind in ("json", "list"):
        yield "valid_json()"
    if column.name == chosen.key.name and chosen.key.alone and kind in unique().kinds:
        yield "unique()"


def has_pseudonym(chosen: Chosen, column: FoundColumn) -> bool:
    """Whether it holds ids of users that a pseudonym can take the place of."""
    ids = column.name == chosen.user or is_user_table(chosen.table.refers.get(column.name, ""))
    return ids and holds(column).kind == "text"


def words_of(chosen: Chosen, column: FoundColumn) -> str:
    """The comment in the database, else the words in schema.prisma, else only what is known."""
    said = column.comment or (chosen.model.columns.get(column.name) if chosen.model else "")
    to = chosen.table.refers.get(column.name)
    return said or (f"The column {column.name}, which refers to {to}." if to else f"The column {column.name}.")


def _words(text: str, before: str) -> str:
    return long_string(printable(" ".join(text.split())), WIDTH - len(before) - len(","))
