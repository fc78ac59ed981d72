"""The statements that are put to a table: the rows of one day, their number, their digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from pipeline.core import digest
from pipeline.core.digest import Pin
from pipeline.core.watermark import midnight
from pipeline.postgres.target import Relation
from schemas.table import Column


class CopyTarget(Protocol):
    """What COPY writes to: one call a row."""

    @property
    def write(self) -> Callable[[bytes], None]: ...


def fetch(
    connection: Connection, statement: str | Composable, values: Mapping[str, object] | None = None
) -> list[tuple[Any, ...]]:
    """The rows that a statement answers with. Its %(name)s stand for `values`; without them a % is a %."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def clock(connection: Connection) -> datetime:
    """What PostgreSQL's clock says, UTC without a zone."""
    return fetch(connection, "SELECT clock_timestamp() AT TIME ZONE 'UTC'")[0][0]  # type: ignore[no-any-return]


def encoding(connection: Connection) -> str:
    """How the database stores its texts: UTF8, LATIN1 and so on; SQL_ASCII for one that does not know."""
    return str(fetch(connection, "SELECT current_setting('server_encoding')")[0][0])


def _window(relation: Relation, begin: date, until: date) -> Composed:
    """begin <= time < until; half-open, so no instant belongs to two days."""
    time = Identifier(relation.table.time)
    return SQL("{0} >= {1} AND {0} < {2}").format(time, Literal(midnight(begin)), Literal(midnight(until)))


def _of_day(relation: Relation, day: date) -> Composed:
    return _window(relation, day, day + timedelta(days=1))


def _of_users(relation: Relation, users: Sequence[str]) -> Composable:
    """Only rows of these users; of all if there are none, or if no column of the table names a user."""
    if not users or relation.table.user is None:
        return SQL("true")
    return SQL("{} IN ({})").format(Identifier(relation.table.user), SQL(", ").join(map(Literal, users)))


def _select(what: Composable, relation: Relation, *where: Composable) -> Composed:
    return SQL("SELECT {} FROM {} WHERE {}").format(what, relation.identifier, SQL(" AND ").join(where))


def copy_sql(relation: Relation, day: date, users: Sequence[str]) -> Composed:
    """The COPY of one day's rows, in the contract's column order and total row order."""
    table = relation.table
    columns = SQL(", ").join(map(Identifier, table.names))
    # Byte order, not the database's collation, which differs between servers. The other columns only decide between
    # rows that share the key, which a table without its primary key may hold.
    names = [*table.order, *(name for name in table.names if name not in table.order)]
    texts = {column.name for column in table.columns if column.kind == "text"}
    order = [SQL('{} COLLATE "C"' if name in texts else "{}").format(Identifier(name)) for name in names]
    rows = _select(columns, relation, _of_day(relation, day), _of_users(relation, users))
    return SQL("COPY ({} ORDER BY {}) TO STDOUT (FORMAT text)").format(rows, SQL(", ").join(order))


def copy_rows(connection: Connection, relation: Relation, day: date, users: Sequence[str], into: CopyTarget) -> int:
    """Stream one day's rows to `into.write`; returns how many rows PostgreSQL says it sent."""
    with connection.cursor() as cursor:
        cursor.copy_expert(copy_sql(relation, day, users), into)
        return int(cursor.rowcount)


def day_counts(connection: Connection, relation: Relation, days: Sequence[date]) -> dict[date, int]:
    """For each of `days`, oldest first, its rows."""
    what = SQL("{}::date, count(*)").format(Identifier(relation.table.time))
    rows = _select(what, relation, _window(relation, days[0], days[-1] + timedelta(days=1)))
    found = dict(fetch(connection, rows + SQL(" GROUP BY 1")))
    return {day: found.get(day, 0) for day in days}


def day_pin(connection: Connection, relation: Relation, day: date, encoding: str, users: Sequence[str] = ()) -> Pin:
    """The pin of one day's rows, of these users or of all, in a database that stores texts in `encoding`."""
    # In another encoding a text has other bytes; those of SQL_ASCII can't be converted, and are UTF-8 or refused.
    convert = "{}" if encoding in ("UTF8", "SQL_ASCII") else "convert_to({}, 'UTF8')"

    def value(column: Column) -> str:
        return column.type.in_postgres.format(column.quoted)

    text = digest.row_text(relation.table.columns, value, f"octet_length({convert.format('{}::text')})")
    total = SQL(f"count(*), sum(('x' || right(md5({convert.format(text)}), 16))::bit(64)::bigint)")
    rows = _select(total, relation, _of_day(relation, day), _of_users(relation, users))
    return digest.pin(*fetch(connection, rows)[0])


def rows_and_older(connection: Connection, relation: Relation, day: date, transaction: int) -> tuple[int, int]:
    """The rows of one day, and how many of them were written by a transaction before `transaction`."""
    # Numbers below 3 are no transaction's: an old or forced freeze leaves 2, whenever the row was written.
    normal = SQL("xmin::text::bigint >= 3 AND age(xmin) > age({}::xid8::xid)").format(Literal(str(transaction)))
    older = SQL("count(*), count(*) FILTER (WHERE {})").format(normal)
    rows, before = fetch(connection, _select(older, relation, _of_day(relation, day)))[0]
    return int(rows), int(before)


def without_instant(
    connection: Connection, relation: Relation, users: Sequence[str], limit: int
) -> list[tuple[str, str]]:
    """Key and time of rows that no window can hold, at most `limit`: at plus or minus infinity, or NULL."""
    key, time = Identifier(relation.table.key), Identifier(relation.table.time)
    never = SQL("({0} IN ('infinity', '-infinity') OR {0} IS NULL)").format(time)
    rows = _select(SQL("{}::text, {}::text").format(key, time), relation, never, _of_users(relation, users))
    found = fetch(connection, SQL("{} ORDER BY 1 LIMIT {}").format(rows, Literal(limit)))
    return [(str(id_), stamp or "NULL") for id_, stamp in found]
