"""The statements that the stages put to the table: one day's rows, its count, its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any, Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from pipeline.core import digest
from pipeline.core.watermark import midnight
from pipeline.postgres.session import fetch
from schemas.contract import COLUMNS, NAMES, ORDER, TABLE


class CopyTarget(Protocol):
    """What COPY writes to: one call a row."""

    @property
    def write(self) -> Callable[[bytes], None]: ...


def _where(begin: date, until: date, users: Sequence[str] = ()) -> Composed:
    """begin <= timestamp < until; half-open, so no instant belongs to two days. With `users` only their rows."""
    window = SQL("timestamp >= {} AND timestamp < {}").format(Literal(midnight(begin)), Literal(midnight(until)))
    return SQL("{} AND {}").format(window, _of(users)) if users else window


def _of(users: Sequence[str]) -> Composed:
    return SQL('"userId" IN ({})').format(SQL(", ").join(map(Literal, users)))


def _select(what: Composable, schema: str, where: Composed) -> Composed:
    return SQL("SELECT {} FROM {} WHERE {}").format(what, Identifier(schema, TABLE), where)


def copy_sql(schema: str, day: date, users: Sequence[str]) -> Composed:
    """The COPY of one day's rows, in the contract's column order and total row order."""
    columns = SQL(", ").join(map(Identifier, NAMES))
    # Byte order, not the database's collation, which differs between servers. The other columns only decide between
    # rows that share time and id, which a table without its primary key may hold.
    names = [*ORDER, *(name for name in NAMES if name not in ORDER)]
    texts = {column.name for column in COLUMNS if column.kind == "text"}
    order = [SQL('{} COLLATE "C"' if name in texts else "{}").format(Identifier(name)) for name in names]
    rows = _select(columns, schema, _where(day, day + timedelta(days=1), users))
    return SQL("COPY ({} ORDER BY {}) TO STDOUT (FORMAT text)").format(rows, SQL(", ").join(order))


def day_counts(
    connection: Connection, schema: str, days: Sequence[date], users: Sequence[str]
) -> dict[date, tuple[int, int]]:
    """For each of `days`, oldest first, its rows, and how many of them belong to `users` (all if empty)."""
    chosen = SQL("count(*) FILTER (WHERE {})").format(_of(users)) if users else SQL("count(*)")
    what = SQL("timestamp::date, count(*), {}").format(chosen)
    rows = _select(what, schema, _where(days[0], days[-1] + timedelta(days=1)))
    found = {day: (every, some) for day, every, some in fetch(connection, rows + SQL(" GROUP BY 1"))}
    return {day: found.get(day, (0, 0)) for day in days}


def day_digest(connection: Connection, schema: str, day: date, encoding: str) -> tuple[int, str]:
    """Rows of one day and the digest of their content (pipeline/core/digest.py), of a database in `encoding`."""
    # In another encoding a text has other bytes; those of SQL_ASCII can't be converted, and are UTF-8 or refused.
    convert = "{}" if encoding in ("UTF8", "SQL_ASCII") else "convert_to({}, 'UTF8')"
    text = digest.row_text("(date_part('epoch', {}) * 1000)::bigint", f"octet_length({convert})")
    row = f"('x' || right(md5({convert.format(text)}), 16))::bit(64)::bigint"
    rows, total = aggregates(connection, schema, day, f"count(*), sum({row})")
    return rows, digest.hexadecimal(total)


def aggregates(connection: Connection, schema: str, day: date, select: str) -> Sequence[Any]:
    """What `select`, SQL, comes to over the rows of one day."""
    return fetch(connection, _select(SQL(select), schema, _where(day, day + timedelta(days=1))))[0]


def timeless(connection: Connection, schema: str, users: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Id and timestamp of rows that no window can hold, at most `limit`: at plus or minus infinity, or NULL."""
    never = SQL("(timestamp IN ('infinity', '-infinity') OR timestamp IS NULL)")
    where = SQL("{} AND {}").format(never, _of(users) if users else SQL("true"))
    rows = _select(SQL("id, timestamp::text"), schema, where)
    found = fetch(connection, SQL("{} ORDER BY id LIMIT {}").format(rows, Literal(limit)))
    return [(id_, stamp or "NULL") for id_, stamp in found]


def copy_day(connection: Connection, schema: str, day: date, users: tuple[str, ...], into: CopyTarget) -> int:
    """Stream one day's rows to `into.write`; returns how many rows PostgreSQL says it sent."""
    with connection.cursor() as cursor:
        cursor.copy_expert(copy_sql(schema, day, users), into)
        return int(cursor.rowcount)


def encoding(connection: Connection) -> str:
    """How the database stores its texts: UTF8, LATIN1 and so on; SQL_ASCII for one that does not know."""
    return str(fetch(connection, "SELECT current_setting('server_encoding')")[0][0])
