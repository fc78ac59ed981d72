"""The statements that the stages put to the table: one day's rows, its count, its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from schemas.contract import COLUMNS, NAMES, ORDER, TABLE, Column
from stages.shared import digest
from stages.shared.watermark import midnight
from stages.source.postgres import driver

DIALECT = cast(sa.Dialect, postgresql.dialect(paramstyle="named"))  # type: ignore[no-untyped-call]


class CopyTarget(Protocol):
    """What COPY writes to: one call a row."""

    @property
    def write(self) -> Callable[[bytes], None]: ...


def _sql_type(column: Column) -> Any:
    return {"int": sa.Integer(), "timestamp": sa.TIMESTAMP(), "json": postgresql.JSONB()}.get(column.kind, sa.Text())


def table(schema: str) -> sa.TableClause:
    return sa.table(TABLE, *(sa.column(c.name, _sql_type(c)) for c in COLUMNS), schema=schema)


# Stand for the ends of the window in a statement that is compiled once; NUL can be in no identifier.
_BEGIN, _END = "\0begin", "\0end"


def in_window(events: sa.TableClause, begin: Any, end: Any) -> sa.ColumnElement[bool]:
    """begin <= timestamp < end; half-open, so no instant belongs to two days."""
    return sa.and_(events.c.timestamp >= begin, events.c.timestamp < end)


@cache
def _copy(schema: str, users: tuple[str, ...]) -> str:
    # Compiling takes over a millisecond, which a run over many days should not pay for each.
    events = table(schema)
    rows = sa.select(*events.c).where(in_window(events, sa.literal_column(_BEGIN), sa.literal_column(_END)))
    if users:
        rows = rows.where(events.c.userId.in_(users))
    # Byte order, not the database's collation, which differs between servers. The other columns only decide between
    # rows that share time and id, which a table without its primary key may hold.
    names = [*ORDER, *(name for name in NAMES if name not in ORDER)]
    texts = {column.name for column in COLUMNS if column.kind == "text"}
    order = [sa.collate(events.c[name], "C") if name in texts else events.c[name] for name in names]
    compiled = rows.order_by(*order).compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
    return f"COPY ({compiled}) TO STDOUT (FORMAT text)"


def copy_sql(schema: str, day: date, users: tuple[str, ...]) -> str:
    """The COPY of one day's rows, in the contract's column order and total row order."""
    statement = _copy(schema, users).replace(_BEGIN, f"'{midnight(day)}'")
    return statement.replace(_END, f"'{midnight(day + timedelta(days=1))}'")


def day_counts(
    connection: sa.Connection, schema: str, days: Sequence[date], users: Sequence[str]
) -> dict[date, tuple[int, int]]:
    """For each of `days`, oldest first, its rows, and how many of them belong to `users` (all if empty)."""
    events = table(schema)
    day = sa.cast(events.c.timestamp, sa.Date).label("day")
    chosen = sa.func.count().filter(events.c.userId.in_(users)) if users else sa.func.count()
    begin, end = midnight(days[0]), midnight(days[-1] + timedelta(days=1))
    query = sa.select(day, sa.func.count(), chosen).where(in_window(events, begin, end))
    found = {row[0]: (row[1], row[2]) for row in connection.execute(query.group_by(day))}
    return {day: found.get(day, (0, 0)) for day in days}


def day_digest(connection: sa.Connection, schema: str, day: date, encoding: str) -> tuple[int, str]:
    """Rows of one day and the digest of their content (stages/shared/digest.py), of a database in `encoding`."""
    # In another encoding a text has other bytes; those of SQL_ASCII can't be converted, and are UTF-8 or refused.
    convert = "{}" if encoding in ("UTF8", "SQL_ASCII") else "convert_to({}, 'UTF8')"
    text = digest.row_text("(date_part('epoch', {}) * 1000)::bigint", f"octet_length({convert})")
    row = f"('x' || right(md5({convert.format(text)}), 16))::bit(64)::bigint"
    rows, total = aggregates(connection, schema, day, f"count(*), sum({row})")
    return rows, digest.hexadecimal(total)


def aggregates(connection: sa.Connection, schema: str, day: date, select: str) -> Sequence[Any]:
    """What `select`, SQL, comes to over the rows of one day."""
    place = f"{_quoted(schema)}.{TABLE}".replace("%", "%%")
    return connection.exec_driver_sql(
        f"SELECT {select} FROM {place} WHERE timestamp >= %(begin)s AND timestamp < %(end)s",
        {"begin": midnight(day), "end": midnight(day + timedelta(days=1))},
    ).one()


def timeless(connection: sa.Connection, schema: str, users: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Id and timestamp of rows that no window can hold, at most `limit`: at plus or minus infinity, or NULL."""
    events = table(schema)
    stamp = sa.cast(events.c.timestamp, sa.Text())
    never = [sa.cast(sa.literal(text), sa.TIMESTAMP()) for text in ("infinity", "-infinity")]
    timeless = sa.or_(events.c.timestamp.in_(never), events.c.timestamp.is_(None))
    query = sa.select(events.c.id, stamp).where(timeless)
    if users:
        query = query.where(events.c.userId.in_(users))
    return [(row[0], row[1] or "NULL") for row in connection.execute(query.order_by(events.c.id).limit(limit))]


def _quoted(name: str) -> str:
    return str(DIALECT.identifier_preparer.quote_identifier(name))


def copy_day(connection: sa.Connection, schema: str, day: date, users: tuple[str, ...], into: CopyTarget) -> int:
    """Stream one day's rows to `into.write`; returns how many rows PostgreSQL says it sent."""
    with driver(connection).cursor() as cursor:
        cursor.copy_expert(copy_sql(schema, day, users), into)
        return int(cursor.rowcount)


def encoding(connection: sa.Connection) -> str:
    """How the database stores its texts: UTF8, LATIN1 and so on; SQL_ASCII for one that does not know."""
    return str(connection.scalar(sa.text("SELECT current_setting('server_encoding')")))
