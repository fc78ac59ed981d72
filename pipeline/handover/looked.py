"""What the columns of a table, and the keys within its JSON, hold: counted by DuckDB for the data dictionary.

No id and no free text leaves these functions. A text is told only where few different ones occur, each looks like a
label and several users have it; a key within JSON only where several users have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.files.sql import literal, parquet, quoted, with_memory
from schemas.rules import CUID
from schemas.table import Column, Table
from schemas.types import INSTANTS

MEMORY_LIMIT = "256MB"
THREADS = 2

# Different texts of a column or key, at most, and users who have one, at least, for it to be told.
FEW = 20
SEVERAL = 5

# A label: letters, digits and little else, and no id.
LABEL = r"[\p{L}\p{N}_.:+-]{1,40}"

# The name of a key that holds ids: id, userId, card_ids, and not valid.
ID_KEY = re.compile(r"((^|[._])ids?|Ids?|IDs?)(\[\])*$")

# Keys within the JSON of one type, at most.
KEYS = 100

# The place of a value, the elements of a list together: `$.tags[3]` is `tags[]`.
PATH = r"regexp_replace(fullkey, '\[\d+\]', '[]', 'g')[3:]"

# Kinds of which the least and the most are told, beside times.
NUMBERS = ("int", "smallint", "bigint", "float", "real", "decimal")


class Texts(NamedTuple):
    """Of texts: how many different ones, and the rows of each that may be told, most first."""

    different: int
    told: tuple[tuple[str, int], ...] = ()


class Looked(NamedTuple):
    """A column. `least` and `most` are of numbers and times."""

    rows: int
    nulls: int
    least: Any = None
    most: Any = None
    texts: Texts | None = None


class Key(NamedTuple):
    """A key within JSON: `card.deck`, or `tags[]` for the elements of a list. `found` counts by JSON type.

    What it holds is told of no id.
    """

    path: str
    found: dict[str, int]
    least: float | None
    most: float | None
    texts: Texts | None


class Keys(NamedTuple):
    """The keys within the JSON of the rows of one type; `hidden` ones are those that too few users have."""

    type: str | None
    rows: int
    keys: tuple[Key, ...]
    hidden: int


class Dictionary(NamedTuple):
    columns: dict[str, Looked]
    json: dict[str, list[Keys]]  # by column


def look(table: Table, files: Sequence[Path], spill: Path) -> Dictionary:
    """Look at the rows of these files. DuckDB spills what does not fit into memory into the folder `spill`."""

    def work(connection: duckdb.DuckDBPyConnection) -> Dictionary:
        rows = parquet(files)
        return Dictionary(
            _columns(connection, table, rows),
            {
                column.name: list(_json(connection, table, column, rows))
                for column in table.columns
                if column.kind == "json"
            },
        )

    return with_memory(MEMORY_LIMIT, work, {"threads": THREADS, "temp_directory": str(spill)})


def is_id(table: Table, column: Column) -> bool:
    """Whether a column names a row, a person or a thing."""
    pointing = {name for name, _ in table.references}
    return (
        column.pseudonym is not None
        or column.kind == "uuid"
        or column.name in {table.key, table.user} | pointing
        or bool(ID_KEY.search(column.name))
        or any(rule.pattern == CUID for rule in column.rules)
    )


def _columns(connection: duckdb.DuckDBPyConnection, table: Table, rows: str) -> dict[str, Looked]:
    ranged = [c for c in table.columns if c.kind in (*NUMBERS, *INSTANTS, "time") and not is_id(table, c)]
    asked = [f"count({column.quoted})" for column in table.columns]
    for column in ranged:
        value = INSTANTS.get(column.kind, "{}").format(column.quoted)
        # A decimal of too many digits is a text: by its value, not by its letters.
        by = f"{value}::DOUBLE" if column.type.duckdb == "VARCHAR" else value
        asked += [f"arg_min({value}, {by})", f"arg_max({value}, {by})"]
    total, *found = connection.execute(f"SELECT count(*), {', '.join(asked)} FROM {rows}").fetchall()[0]
    ends = iter(found[len(table.columns) :])
    limits = {column.name: (next(ends), next(ends)) for column in ranged}
    looked = {}
    for column, there in zip(table.columns, found, strict=False):
        least, most = limits.get(column.name, (None, None))
        looked[column.name] = Looked(total, total - there, least, most, _texts(connection, table, column, rows))
    return looked


def _texts(connection: duckdb.DuckDBPyConnection, table: Table, column: Column, rows: str) -> Texts | None:
    if column.kind not in ("text", "enum", "bool") or column.free or is_id(table, column):
        return None
    value, user = f"{column.quoted}::VARCHAR", _user(table)
    different = connection.execute(f"SELECT count(DISTINCT {value}) FROM {rows}").fetchall()[0][0]
    if different > FEW:
        return Texts(different)
    found = connection.execute(
        f"SELECT value, rows, users, {_is_label('value')} FROM (SELECT {value} AS value, count(*) AS rows, "
        f"count(DISTINCT {user}) AS users FROM {rows} WHERE value IS NOT NULL GROUP BY ALL) ORDER BY rows DESC, value"
    ).fetchall()
    known = set(column.values)  # the contract tells them to everybody
    told = [(text, n) for text, n, users, label in found if text in known or (label and users >= SEVERAL)]
    return Texts(different, tuple(told))


def _user(table: Table) -> str:
    return "NULL" if table.user is None else quoted(table.user)


def _is_label(value: str) -> str:
    return f"(regexp_full_match({value}, {literal(LABEL)}) AND NOT regexp_matches({value}, {literal(CUID)}))"


def _json(connection: duckdb.DuckDBPyConnection, table: Table, column: Column, rows: str) -> Sequence[Keys]:
    of = "NULL::VARCHAR" if table.type is None else quoted(table.type)
    tree = f"""
        (SELECT {of} AS kind, {_user(table)} AS user, {column.quoted} AS body FROM {rows} WHERE body IS NOT NULL),
        json_tree(body) AS part WHERE part.fullkey <> '$'
    """  # which is the whole value
    # Grouped by where a value stands before anything is asked of it: of many rows there are few places.
    number = "TRY_CAST(part.atom AS DOUBLE)) FILTER (part.type NOT IN ('VARCHAR', 'BOOLEAN'))"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE places AS SELECT kind, {PATH} AS path, json, user, sum(rows)::BIGINT AS rows, "
        "min(least) AS least, max(most) AS most FROM (SELECT kind, user, part.fullkey, part.type AS json, "
        f"count(*) AS rows, min({number} AS least, max({number} AS most FROM {tree} GROUP BY ALL) GROUP BY ALL"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE texts AS SELECT kind, {PATH} AS path, json, atom ->> '$' AS value, "
        "sum(rows)::BIGINT AS rows, count(DISTINCT user) AS users FROM (SELECT kind, user, part.fullkey, "
        "part.type AS json, part.atom, count(*) AS rows "
        f"FROM {tree} AND part.type IN ('VARCHAR', 'BOOLEAN') GROUP BY ALL) GROUP BY ALL"
    )
    paths = connection.execute(
        "SELECT kind, path, json, sum(rows)::BIGINT, count(DISTINCT user), min(least), max(most) FROM places "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    told = {
        (kind, path, json): Texts(different, tuple((text["value"], text["rows"]) for text in some or ()))
        for kind, path, json, different, some in connection.execute(
            f"SELECT kind, path, json, count(*), CASE WHEN count(*) <= {FEW} AND bool_and({_is_label('value')}) THEN "
            "list({'value': value, 'rows': rows} ORDER BY rows DESC, value) "
            f"FILTER (users >= {SEVERAL}) END FROM texts GROUP BY ALL"
        ).fetchall()
    }
    counts = connection.execute(f"SELECT {of}, count({column.quoted}) FROM {rows} GROUP BY ALL ORDER BY ALL").fetchall()
    return [_keys(table, kind, number, [one for one in paths if one[0] == kind], told) for kind, number in counts]


def _keys(
    table: Table,
    kind: str | None,
    rows: int,
    paths: Sequence[tuple[Any, ...]],
    told: Mapping[tuple[str | None, str, str], Texts],
) -> Keys:
    by_path: dict[str, list[tuple[Any, ...]]] = {}
    for _, path, *more in paths:
        by_path.setdefault(path, []).append(tuple(more))
    keys = [
        Key(path, {json: number for json, number, *_ in found}, None, None, None)
        if ID_KEY.search(path)
        else Key(
            path,
            {json: number for json, number, *_ in found},
            min((least for *_, least, _ in found if least is not None), default=None),
            max((most for *_, most in found if most is not None), default=None),
            next((told[kind, path, json] for json, *_ in found if (kind, path, json) in told), None),
        )
        for path, found in by_path.items()
        # Where no column names a user, rows stand for them: a key that is an id is in few.
        if max(number if table.user is None else users for _, number, users, *_ in found) >= SEVERAL
    ]
    return Keys(kind, rows, tuple(keys[:KEYS]), len(by_path) - len(keys[:KEYS]))
