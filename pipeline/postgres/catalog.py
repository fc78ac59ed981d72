"""The live table against the contract, before a row is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from psycopg2.extensions import connection as Connection

from pipeline.core.errors import ContractError, RowsInvalidError
from pipeline.core.progress import printable
from pipeline.postgres.statements import fetch, without_instant
from pipeline.postgres.target import Relation, Target
from schemas.table import Column, file_of

# Rows that a message names before it only counts.
SHOWN = 10


Day = TypeVar("Day")


class Found(NamedTuple):
    """A column as the database has it; `kind` is pg_type.typtype, e for an enum."""

    type: str
    kind: str
    never_null: bool
    labels: list[str]


def check_contract(connection: Connection, target: Target) -> list[str]:
    """Compare the tables of `target` with the contract; returns notices about what only the database knows.

    Raises ContractError that lists every difference of a table, when it or a column is missing or has another type.
    """
    found = {relation.table.name: _check_table(connection, target, relation) for relation in target.relations}
    return [f"{name}: {said}" if len(found) > 1 else said for name, notices in found.items() for said in notices]


def _check_table(connection: Connection, target: Target, relation: Relation) -> list[str]:
    schema, table = relation.schema, relation.table
    found = _columns(connection, target, relation)
    differences: list[tuple[str, str, str]] = []
    notices: list[str] = []
    for column in table.columns:
        there = found.pop(column.name, None)
        is_enum = column.kind == "enum"
        if there is None:
            differences.append((column.name, column.postgres, "no such column"))
        elif (there.kind == "e") != is_enum or (not is_enum and there.type != column.postgres):
            differences.append((column.name, column.postgres, there.type))
        else:
            if is_enum:
                notices += label_notices(column, there.labels)
            if not column.nullable and not there.never_null:
                who = "extract refuses" if column.name == table.time else "validate counts"
                notices.append(f"{column.name}: may be NULL in the database, not in the contract; {who} NULLs")
    if differences:
        differences += [(only, "no such column", row.type) for only, row in found.items()]
        raise ContractError(
            "the table is not what the contract describes" + side_by_side(differences),
            where=f'"{schema}"."{table.name}", {target.name}',
            expected=f"the columns of {file_of(table)} with their types",
            next_step=f"bring schemas/app/schema.prisma and {file_of(table)} up to date (one that was adopted: "
            f"python -m commands.adopt {table.name} --force), or undo the migration",
        )
    if found:
        notices.append(f"columns that only the database knows, not exported: {', '.join(found)}")
    return notices


def _columns(connection: Connection, target: Target, relation: Relation) -> dict[str, Found]:
    """The columns that the database has, by name. Raises ContractError where there is no such table."""
    schema, name = relation.schema, relation.table.name
    tables = dict(
        fetch(
            connection,
            "SELECT nspname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relname = %(table)s",
            {"table": name},
        )
    )
    if schema not in tables:
        hint = f"; there is one in schema {', '.join(map(printable, sorted(tables)))}" if tables else ""
        raise ContractError(
            f"there is no table {name} in schema {schema}{hint}",
            where=target.name,
            expected=f'the table "{schema}"."{name}" that Prisma makes of schemas/app/schema.prisma',
            next_step="check the database's name and ?schema= in DATABASE_URL; prisma migrate deploy makes the table",
        )
    rows = fetch(
        connection,
        "SELECT attname, format_type(atttypid, atttypmod), typtype, attnotnull OR c.relkind NOT IN ('r', 'p'), "
        "  ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = atttypid ORDER BY enumsortorder) "
        "FROM pg_attribute JOIN pg_type t ON t.oid = atttypid JOIN pg_class c ON c.oid = attrelid "
        "WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        {"oid": tables[schema]},
    )
    return {printable(column): Found(printable(kind), *rest) for column, kind, *rest in rows}


def check_instants(connection: Connection, target: Target, users: Sequence[str]) -> None:
    """Raise RowsInvalidError that names rows without an instant, NULL or infinity: no window holds them."""
    for relation in target.relations:
        rows = without_instant(connection, relation, users, SHOWN + 1)
        if rows:
            more = " and more" if len(rows) > SHOWN else ""
            some = ", ".join(f"{id_!r} ({stamp})" for id_, stamp in rows[:SHOWN]) + more
            raise RowsInvalidError(
                f"{relation.table.time} fails finite: {some}",
                where=f'"{relation.schema}"."{relation.table.name}", {target.name}',
                expected="a timestamp that is an instant; these rows lie in no window and would be left out for ever",
                next_step="correct or delete these rows in PostgreSQL, python -m commands.refresh, then dvc repro",
            )


def by_day(connection: Connection, relation: Relation) -> bool:
    """Whether PostgreSQL finds the rows of a day without reading the whole table, by an index or by partitions."""
    found = fetch(
        connection,
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = indexrelid JOIN pg_am ON pg_am.oid = x.relam"
        "   WHERE indrelid = c.oid AND indkey[0] = attnum AND indisvalid AND indpred IS NULL"
        "     AND amname IN ('btree', 'brin'))"
        " OR EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = c.oid AND partattrs[0] = attnum)"
        "FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = %(schema)s AND relname = %(table)s AND attname = %(time)s",
        {"schema": relation.schema, "table": relation.table.name, "time": relation.table.time},
    )
    return bool(found) and bool(found[0][0])


def together(by_day: bool, days: Sequence[Day]) -> list[tuple[Day, ...]]:
    """The days that are read in one statement each: every day, or all where each would read the whole table."""
    return [(day,) for day in days] if by_day else [tuple(days)] if days else []


def label_notices(column: Column, labels: Sequence[str]) -> list[str]:
    unknown = [label for label in labels if label not in column.values]
    gone = [label for label in column.values if label not in labels]
    notices = []
    if unknown:
        some = ", ".join(map(printable, unknown))
        notices.append(f"{column.name}: values that only the database knows: {some}; a row with one fails validate")
    if gone:
        notices.append(f"{column.name}: values that only the contract knows: {', '.join(gone)}")
    return notices


def side_by_side(differences: Sequence[tuple[str, str, str]]) -> str:
    """The differences as aligned lines: column, what the contract has, what the database has."""
    lines = [("column", "contract", "database"), *differences]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    return "".join(f"\n    {a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in lines)
