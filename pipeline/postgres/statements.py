"""The statements that are put to a table: the rows of some days, their number, their digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from pipeline.core import digest
from pipeline.core.days import ONE_DAY
from pipeline.core.digest import Pin
from pipeline.core.watermark import midnight
from pipeline.postgres.target import Relation
from schemas.table import Column
from schemas.types import SORTED_AS_TEXT


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
    time = Identifier(str(relation.table.time))
    return SQL("{0} >= {1} AND {0} < {2}").format(time, Literal(midnight(begin)), Literal(midnight(until)))


def _of_days(relation: Relation, days: Sequence[date]) -> Composable:
    """Only rows of these days, which are in order; of all where the table is one part."""
    if relation.table.time is None:
        return SQL("true")
    wanted = set(days)
    begins = [day for day in days if day - ONE_DAY not in wanted]
    ends = [day + ONE_DAY for day in days if day + ONE_DAY not in wanted]
    windows = [_window(relation, begin, end) for begin, end in zip(begins, ends, strict=True)]
    return SQL("({})").format(SQL(" OR ").join(windows)) if len(windows) > 1 else windows[0]


def _by_day(
    connection: Connection, relation: Relation, days: Sequence[date], what: Composable, *where: Composable
) -> dict[date, tuple[Any, ...]]:
    """What an aggregate gives for each of `days`; those without a row are left out."""
    # A constant, and no GROUP BY, where there is nothing to tell apart.
    day = Literal(days[0]) if len(days) == 1 else Identifier(str(relation.table.time))
    rows = _select(SQL("{}::date, {}").format(day, what), relation, _of_days(relation, days), *where)
    rows += SQL("") if len(days) == 1 else SQL(" GROUP BY 1")
    return {day: tuple(values) for day, *values in fetch(connection, rows)}


def _of_users(relation: Relation, users: Sequence[str]) -> Composable:
    """Only rows of these users; of all if there are none, or if no column of the table names a user."""
    if not users or relation.table.user is None:
        return SQL("true")
    # Ids that are numbers or uuids as texts, or a text that is none would be an error instead of no row.
    user = "{} IN ({})" if relation.table.column(relation.table.user).kind == "text" else "{}::text IN ({})"
    return SQL(user).format(Identifier(relation.table.user), SQL(", ").join(map(Literal, users)))


def _select(what: Composable, relation: Relation, *where: Composable) -> Composed:
    return SQL("SELECT {} FROM {} WHERE {}").format(what, relation.identifier, SQL(" AND ").join(where))


def copy_sql(relation: Relation, days: Sequence[date], users: Sequence[str]) -> Composed:
    """The COPY of the rows of some days, in the contract's column order; days in order, and rows in total order."""
    table = relation.table
    columns = SQL(", ").join(SQL(column.sent) for column in table.columns)
    # Byte order, not the database's collation, which differs between servers. The other columns only decide between
    # rows that share the key, which a table without its primary key may hold.
    names = [*table.order, *(name for name in table.names if name not in table.order)]
    order = [_sorted(table.column(name)) for name in names]
    if len(days) > 1 and table.order[0] != table.time:
        order.insert(0, SQL("{}::date").format(Identifier(str(table.time))))
    within, some = _of_slice(relation)
    rows = _select(columns, relation, _of_days(relation, days), _of_users(relation, users), *within)
    return SQL("COPY ({} ORDER BY {}{}) TO STDOUT (FORMAT text)").format(rows, SQL(", ").join(order), some)


def _of_slice(relation: Relation) -> tuple[list[Composed], Composable]:
    """The conditions of the relation's slice, and what stands behind the order."""
    if relation.slice is None:
        return [], SQL("").format()
    begin, end, skip, rows = relation.slice
    time = Identifier(str(relation.table.time))
    within = [
        SQL(words).format(time, Literal(instant))
        for words, instant in (("{} >= {}", begin), ("{} < {}", end))
        if instant is not None
    ]
    return within, SQL(" OFFSET {} LIMIT {}").format(Literal(skip), Literal(rows))


def _sorted(column: Column) -> Composable:
    if column.kind not in SORTED_AS_TEXT:
        return Identifier(column.name)
    return SQL('{} COLLATE "C"').format(SQL(column.sent))


def copy_rows(
    connection: Connection, relation: Relation, days: Sequence[date], users: Sequence[str], into: CopyTarget
) -> int:
    """Stream the rows of some days to `into.write`; returns how many rows PostgreSQL says it sent."""
    with connection.cursor() as cursor:
        cursor.copy_expert(copy_sql(relation, days, users), into)
        return int(cursor.rowcount)


def minutes(connection: Connection, relation: Relation, days: Sequence[date], every: int) -> list[tuple[datetime, int]]:
    """The minutes of these days in which a row stands that has a multiple of `every` rows before it, but the first row.

    Of each its begin, UTC without a zone, and the rows of the days before it.
    """
    time, origin = Identifier(str(relation.table.time)), Literal(midnight(days[0]))
    what = SQL("date_bin('1 minute', {}, {}) AS minute, count(*) AS rows").format(time, origin)
    summed = SQL(
        "SELECT minute, rows, (sum(rows) OVER (ORDER BY minute))::bigint - rows AS before FROM ({} GROUP BY 1) AS each"
    ).format(_select(what, relation, _of_days(relation, days)))
    found = SQL(
        "SELECT minute, before FROM ({0}) AS summed WHERE (before + rows - 1) / {1} > (before - 1) / {1} ORDER BY 1"
    ).format(summed, Literal(every))
    return [(begin.replace(tzinfo=None), before) for begin, before in fetch(connection, found)]


def day_counts(connection: Connection, relation: Relation, days: Sequence[date]) -> dict[date, int]:
    """For each of `days`, oldest first, its rows."""
    found = _by_day(connection, relation, days, SQL("count(*)"))
    return {day: found[day][0] if day in found else 0 for day in days}


def day_pins(
    connection: Connection, relation: Relation, days: Sequence[date], encoding: str, users: Sequence[str] = ()
) -> dict[date, Pin]:
    """The pin of each day's rows, of these users or of all, in a database that stores texts in `encoding`."""
    # In another encoding a text has other bytes; those of SQL_ASCII can't be converted, and are UTF-8 or refused.
    convert = "{}" if encoding in ("UTF8", "SQL_ASCII") else "convert_to({}, 'UTF8')"

    def value(column: Column) -> str:
        return column.type.in_postgres.format(column.quoted)

    text = digest.row_text(relation.table.columns, value, f"octet_length({convert.format('{}::text')})")
    total = SQL(f"count(*), sum(('x' || right(md5({convert.format(text)}), 16))::bit(64)::bigint)")
    found = _by_day(connection, relation, days, total, _of_users(relation, users))
    return {day: digest.pin(*found[day]) if day in found else digest.EMPTY for day in days}


def rows_and_older(
    connection: Connection, relation: Relation, days: Sequence[date], transaction: int
) -> dict[date, tuple[int, int]]:
    """The rows of each day, and how many of them were written by a transaction before `transaction`."""
    # Numbers below 3 are no transaction's: an old or forced freeze leaves 2, whenever the row was written.
    normal = SQL("xmin::text::bigint >= 3 AND age(xmin) > age({}::xid8::xid)").format(Literal(str(transaction)))
    older = SQL("count(*), count(*) FILTER (WHERE {})").format(normal)
    found = _by_day(connection, relation, days, older)
    return {day: (int(found[day][0]), int(found[day][1])) if day in found else (0, 0) for day in days}


def without_instant(
    connection: Connection, relation: Relation, users: Sequence[str], limit: int
) -> list[tuple[str, str]]:
    """Key and time of rows that no window can hold, at most `limit`: at plus or minus infinity, or NULL."""
    if relation.table.time is None:
        return []
    key, time = Identifier(relation.table.key), Identifier(relation.table.time)
    never = SQL("({0} IN ('infinity', '-infinity') OR {0} IS NULL)").format(time)
    rows = _select(SQL("{}::text, {}::text").format(key, time), relation, never, _of_users(relation, users))
    found = fetch(connection, SQL("{} ORDER BY 1 LIMIT {}").format(rows, Literal(limit)))
    return [(str(id_), stamp or "NULL") for id_, stamp in found]
