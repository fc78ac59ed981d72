"""Which days can't have changed since an earlier refresh, by the transactions that wrote their rows.

Every version of a row carries the number of the transaction that wrote it (xmin). Every transaction below the xmin of a
snapshot had ended when the snapshot was taken. So if every row of a day was written by one of those, each row was there
at the time; and if they are as many as then, nothing changed. To see that, PostgreSQL reads only the time of each row,
while a digest takes every body apart (1,000,000 rows on 2 cores: 0.25 s against 1.25 s).

It holds within one history of one table. The history is another one where that is in doubt: after a restart or a
crash, in another table, with other partitions, columns or enum labels. Then, and on what is no plain table, the digests
are computed again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import connection as Connection

from pipeline.core.digest import Pin
from pipeline.postgres.statements import fetch, rows_and_older
from pipeline.postgres.target import Relation, Target
from schemas.table import Table

# Transaction numbers are compared modulo 2^32, so nothing is said of a snapshot that lies half of that back or near it.
MAX_TRANSACTIONS = 2**30

# Extensions that keep rows elsewhere than in the table, with transactions of other servers or none.
ELSEWHERE = ("citus", "timescaledb")

# Other types whose text a row keeps. That of the rest may follow the catalog, as a regclass does, or another type's
# attributes, though no row was written.
OWN_TEXT = (
    *("inet", "cidr", "macaddr", "macaddr8", "citext", "json", "xml", "interval", "bit", "bit varying", "character"),
    *("tsvector", "tsquery", "money", "point", "line", "lseg", "box", "path", "polygon", "circle", "hstore", "ltree"),
    *("time with time zone", "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "pg_lsn"),
)

# pg_stat_bgwriter.stats_reset tells a crash that the postmaster survived, after which unflushed transactions
# (synchronous_commit off) are gone and their numbers given again: the statistics then begin anew.
_HISTORY = """
    WITH RECURSIVE tree AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = %(schema)s AND relname = %(table)s
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    ), attributes AS (
        SELECT attrelid, attnum, attname, atttypid, attgenerated FROM pg_attribute
        JOIN tree ON tree.oid = attrelid WHERE attnum > 0
    )
    SELECT
        (SELECT coalesce(bool_and(relkind = 'p' OR (relkind = 'r' AND amname = 'heap')), false)
            FROM pg_class c JOIN tree USING (oid) LEFT JOIN pg_am a ON a.oid = relam)
            AND NOT EXISTS (SELECT FROM attributes WHERE attgenerated = 'v')
            AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = ANY (%(elsewhere)s)) AS plain,
        concat_ws('; ', pg_postmaster_start_time(),
            (SELECT stats_reset FROM pg_stat_bgwriter),
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            (SELECT string_agg(a::text, ',' ORDER BY attrelid, attnum) FROM attributes a),
            (SELECT string_agg(e::text || e.xmin, ',' ORDER BY e.oid) FROM pg_enum e)) AS history,
        (SELECT stats_reset FROM pg_stat_bgwriter) IS NOT NULL AS knows_crashes,
        (SELECT has_column_privilege(c.oid, 'xmin', 'SELECT') FROM pg_class c
            JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = %(schema)s AND relname = %(table)s) AS sees_xmin,
        pg_snapshot_xmin(pg_current_snapshot())::text,
        pg_snapshot_xmax(pg_current_snapshot())::text
"""


# The labels of a table's enums, with the transaction that wrote each: one that was renamed, and back, is another.
_LABELS = """
    SELECT e.oid, enumlabel, e.xmin::text FROM pg_enum e
    WHERE enumtypid IN (
        SELECT atttypid FROM pg_attribute
        JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = %(schema)s AND relname = %(table)s AND attnum > 0
    )
    ORDER BY e.oid
"""


class SnapshotAge(NamedTuple):
    """How old a transaction snapshot of a table is, in numbers of transactions that never wrap around.

    Below `xmin` every transaction had ended, `xmax` had not begun. `history` is another text where the numbers of two
    snapshots may not be compared; it is empty where nothing can be said.
    """

    xmin: int
    xmax: int
    history: str
    why: str = ""  # there is none, where somebody can change that

    def reaches(self, xmin: int) -> bool:
        """Whether rows can be told to be older than a snapshot of the same history with this xmin."""
        return 0 < xmin <= self.xmax < xmin + MAX_TRANSACTIONS


NO_XMIN = "the role may not read xmin, so every day is hashed; GRANT SELECT (xmin) ON the table TO the role"
UNKNOWN = SnapshotAge(0, 0, "")


class Saved(NamedTuple):
    """What an earlier refresh found of a day, and the xmin of its snapshot."""

    xmin: int
    pin: Pin


def keeps_text(table: Table) -> bool:
    """Whether the text of each value changes only when its row is written."""
    natives = [re.sub(r"\(.*?\)|\[\]", "", column.native or "") for column in table.columns if column.kind == "other"]
    return set(natives) <= set(OWN_TEXT)


def snapshot_age(connection: Connection, target: Target, relation: Relation) -> SnapshotAge:
    """The age of the connection's snapshot. UNKNOWN where the role may not read what it takes to tell."""
    values = {"schema": relation.schema, "table": relation.table.name, "elsewhere": list(ELSEWHERE)}
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT before")  # so that the snapshot outlives a refusal
        try:
            plain, text, knows_crashes, sees_xmin, xmin, xmax = fetch(connection, _HISTORY, values)[0]
        except psycopg2.ProgrammingError:
            cursor.execute("ROLLBACK TO before")
            return UNKNOWN
    if not sees_xmin:
        return UNKNOWN._replace(why=NO_XMIN)
    if not (plain and knows_crashes and keeps_text(relation.table)):
        return UNKNOWN
    return SnapshotAge(int(xmin), int(xmax), hashlib.sha256(f"{target.name}; {text}".encode()).hexdigest())


def enum_labels(connection: Connection, target: Target) -> list[tuple[Any, ...]]:
    """What the enums of all tables are at the moment. PostgreSQL writes values with the labels of the moment, too,
    whatever the snapshot of the transaction: a lock on the table does not keep ALTER TYPE away."""
    return [
        label
        for relation in target.relations
        for label in fetch(connection, _LABELS, {"schema": relation.schema, "table": relation.table.name})
    ]


def unchanged(connection: Connection, relation: Relation, saved: Mapping[date, Saved]) -> dict[date, Pin]:
    """The pins of the days that are as the last refresh found them.

    If every row was written before the last refresh and the count is equal, nothing changed.
    """
    found = {}
    for xmin in sorted({one.xmin for one in saved.values()}):
        days = sorted(day for day, one in saved.items() if one.xmin == xmin)
        for day, (rows, older) in rows_and_older(connection, relation, days, xmin).items():
            if rows == older == saved[day].pin.rows:
                found[day] = saved[day].pin
    return found
