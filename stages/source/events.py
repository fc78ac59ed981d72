"""The statements that the stages put to the table: one day's rows, its count, its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from schemas.contract import COLUMNS, NAMES, ORDER, TABLE, Column
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


def day_digest(connection: sa.Connection, schema: str, day: date) -> tuple[int, str]:
    """Rows of one day and the sum of their 64-bit hashes (modulo 2^64) as 16 hex digits.

    The hash is made of PostgreSQL's own (hash_record_extended, 14 or later), the same on a replica, a restored backup
    and another major version. Enums are hashed as text, because an enum's value is an object id; jsonb as text, because
    its own hash takes 1.0 and 1.00 for the same, which the export does not; texts byte by byte, because a collation may
    take a and A for the same. A record's hash is linear in those of its columns, so that in a sum of it two rows could
    exchange a value unseen: it is only the seed of another hash, which is not. A sum, because in an XOR two rows that
    are the same would cancel out.
    """
    columns = ", ".join(
        f'"{c.name}"' if c.kind in ("int", "timestamp") else f'"{c.name}"::text COLLATE "C"' for c in COLUMNS
    )
    place = _quoted(schema).replace(":", "\\:") + "." + TABLE  # a colon would begin a parameter
    query = sa.text(
        f"SELECT count(*), sum(hashtextextended('' COLLATE \"C\", hash_record_extended(row({columns}), 0))) "
        f"FROM {place} WHERE timestamp >= :begin AND timestamp < :end"
    )
    row = connection.execute(query, {"begin": midnight(day), "end": midnight(day + timedelta(days=1))}).one()
    return row[0], f"{int(row[1] or 0) & 0xFFFF_FFFF_FFFF_FFFF:016x}"


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


def promises_utf8(connection: sa.Connection) -> bool:
    """Whether what the server sends is UTF-8: it checked or converts every text, but for a SQL_ASCII database's."""
    return bool(connection.scalar(sa.text("SELECT current_setting('server_encoding') <> 'SQL_ASCII'")))
