"""Tables as the database has them, by SQLAlchemy's reflection and, for what that leaves out, by the catalog.

SQLAlchemy is imported inside the functions: it takes as long as reading a day, and only `adopt` needs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline.postgres.session import settle, transaction
from pipeline.postgres.statements import fetch
from pipeline.postgres.target import Target

if TYPE_CHECKING:
    from sqlalchemy import Inspector

KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}

# Partitions are read with the table that they are of.
_TABLES = """
    SELECT nspname, relname, relkind::text, nullif(reltuples, -1)::bigint, relhassubclass AND relkind = 'r',
        has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition
        AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
    ORDER BY nspname, relname COLLATE "C"
"""

_COLUMNS = """
    SELECT relname, a.attname, format_type(atttypid, atttypmod), coalesce(e.typtype, t.typtype)::text,
        attndims, NOT attnotnull OR relkind NOT IN ('r', 'p'),
        has_column_privilege(c.oid, attnum, 'SELECT'), n_distinct
    FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid JOIN pg_class c ON c.oid = attrelid
    JOIN pg_namespace n ON n.oid = relnamespace
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    LEFT JOIN pg_stats ON schemaname = nspname AND tablename = relname AND pg_stats.attname = a.attname
        AND NOT inherited
    WHERE nspname = %(schema)s AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY attrelid, attnum
"""


# What SQLAlchemy knows of each table, by schema and name.
Reflected = Mapping[Any, Any]


class FoundColumn(NamedTuple):
    """One column. `native` is its type as format_type() writes it; `typtype`, e for an enum, is of an array's elements
    where it is one."""

    name: str
    native: str
    typtype: str
    dimensions: int  # of an array, as it was declared
    nullable: bool
    readable: bool
    distinct: float | None  # pg_stats.n_distinct
    default: str | None
    comment: str | None
    enum: str | None  # the enum's name, and its labels, also of the elements of an array
    labels: tuple[str, ...]


class FoundTable(NamedTuple):
    schema: str
    name: str
    kind: str  # of KINDS
    rows: int | None  # PostgreSQL's own estimate, where it has one
    heirs: bool  # whether tables inherit from it, for whose rows no key of it speaks
    readable: bool
    hides: bool  # whether row security hides rows from this role
    columns: tuple[FoundColumn, ...] = ()
    comment: str | None = None
    primary: tuple[str, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    refers: Mapping[str, str] = {}  # columns that hold keys of another table, and its name

    @property
    def is_view(self) -> bool:
        return "view" in self.kind

    @property
    def place(self) -> str:
        return f'"{self.schema}"."{self.name}"'

    def column(self, name: str) -> FoundColumn:
        return next(column for column in self.columns if column.name == name)


def found_tables(connection: Connection) -> list[FoundTable]:
    """All tables of the database, without their columns."""
    return [
        FoundTable(schema, name, KINDS[kind], rows, heirs, readable, hides)
        for schema, name, kind, rows, heirs, readable, hides in fetch(connection, _TABLES)
    ]


@contextmanager
def inspecting(target: Target) -> Iterator[tuple[Connection, Inspector]]:
    """A connection in a read-only transaction, and SQLAlchemy's view of it. Raises SourceError."""
    import sqlalchemy
    from sqlalchemy.pool import StaticPool

    with transaction(target) as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", sqlalchemy.exc.SAWarning)  # of types and indexes that it does not know
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg2://",
            creator=lambda: connection,
            poolclass=StaticPool,
            pool_reset_on_return=None,
            use_native_hstore=False,
        )
        with engine.connect() as own:
            settle(connection, target)  # at its first connection SQLAlchemy rolls back, and the settings with it
            try:
                yield connection, sqlalchemy.inspect(own)
            except sqlalchemy.exc.DBAPIError as error:
                raise error.orig or error from None


def reflect(connection: Connection, inspector: Inspector, tables: list[FoundTable]) -> list[FoundTable]:
    """The same tables, all of one schema, with columns, keys and comments."""
    from sqlalchemy.engine.reflection import ObjectKind

    if not tables:
        return []
    schema = tables[0].schema
    asked: dict[str, Any] = {
        "schema": schema,
        "kind": ObjectKind.ANY,
        "filter_names": [table.name for table in tables] if len(tables) == 1 else None,
    }
    columns: Reflected = inspector.get_multi_columns(**asked)
    comments: Reflected = inspector.get_multi_table_comment(**asked)
    keys: Reflected = inspector.get_multi_pk_constraint(**asked)
    indexes: Reflected = inspector.get_multi_indexes(**asked)
    foreign: Reflected = inspector.get_multi_foreign_keys(**asked)
    known: dict[str, list[tuple[Any, ...]]] = {}
    for table, *column in fetch(connection, _COLUMNS, {"schema": schema}):
        known.setdefault(table, []).append(tuple(column))
    found = []
    for table in tables:
        at = (schema, table.name)
        found.append(
            table._replace(
                columns=_columns(known.get(table.name, []), columns.get(at, [])),
                comment=comments.get(at, {}).get("text"),
                primary=tuple(keys.get(at, {}).get("constrained_columns", ())),
                uniques=tuple(sorted(_uniques(indexes.get(at, [])), key=len)),
                refers={
                    key["constrained_columns"][0]: key["referred_table"]
                    for key in foreign.get(at, [])
                    if len(key["constrained_columns"]) == 1
                },
            )
        )
    return found


def _columns(known: list[tuple[Any, ...]], reflected: list[Any]) -> tuple[FoundColumn, ...]:
    of = {column["name"]: column for column in reflected}
    made = []
    for name, *more in known:
        column = of[name]
        type_ = getattr(column["type"], "item_type", column["type"])
        labels = tuple(getattr(type_, "enums", ()))
        default = None if column.get("computed") else column.get("default")
        enum = type_.name if labels else None
        made.append(FoundColumn(*(name, *more, default, column.get("comment"), enum, labels)))
    return tuple(made)


def _uniques(indexes: list[Any]) -> Iterator[tuple[str, ...]]:
    """The columns of each unique index over all rows. Those of constraints are among them."""
    for index in indexes:
        partial = index.get("dialect_options", {}).get("postgresql_where")
        if index["unique"] and not partial and "expressions" not in index:
            yield tuple(index["column_names"])
