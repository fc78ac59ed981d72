"""Which days can't have changed since an earlier look, by the transactions that wrote their rows.

Every version of a row carries the number of the transaction that wrote it (xmin). Those below the horizon of a
snapshot, the oldest transaction that still ran, had ended when it was taken, and stay what they were. So when all rows
of a day are of transactions below the horizon of an earlier look, each of them was there then; and when they are as
many as then, they are the same. To see that, PostgreSQL reads only the timestamp, while a digest takes every body apart
(1,000,000 rows on 2 cores: 0.25 s against 1.25 s).

It holds within one history of one table. The witness is another text where that is in doubt: after a restart or a
crash, in another table, with other partitions, columns or enum labels. Then, and on what is no plain table, digests are
computed again.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import NamedTuple

import psycopg2
from psycopg2.extensions import connection as Connection

from pipeline.postgres import statements as events
from pipeline.postgres.session import fetch
from pipeline.postgres.target import Target
from schemas.contract import TABLE

# Transaction numbers are compared modulo 2^32, so nothing is said of a look that lies half of that back, or near it.
MAX_TRANSACTIONS = 2**30

# Extensions that keep rows elsewhere than in the table, with transactions of other servers or none.
ELSEWHERE = ("citus", "timescaledb")

# pg_stat_bgwriter.stats_reset tells a crash that the postmaster survived, after which unflushed transactions
# (synchronous_commit off) are gone and their numbers given again: the statistics then begin anew.
_WITNESS = """
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
            (SELECT string_agg(e::text, ',' ORDER BY e.oid) FROM pg_enum e)) AS witness,
        (SELECT stats_reset FROM pg_stat_bgwriter) IS NOT NULL AS knows_crashes,
        pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
        pg_snapshot_xmax(pg_current_snapshot())::text AS next
"""


class Horizon(NamedTuple):
    """Below `oldest` every transaction had ended, `next` had not begun: numbers that never wrap around."""

    oldest: int
    next: int
    witness: str  # empty: nothing can be said of this table

    def reaches(self, earlier: int) -> bool:
        """Whether rows can be told to be older than the horizon `earlier` of the same witness."""
        return 0 < earlier <= self.next < earlier + MAX_TRANSACTIONS


def look(connection: Connection, target: Target) -> Horizon:
    """The horizon of the connection's snapshot, and the witness of the table's history.

    Without a witness where the role may not read, or the server does not have, what it is made of.
    """
    values = {"schema": target.schema, "table": TABLE, "elsewhere": list(ELSEWHERE)}
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT look")  # so that the snapshot outlives a refusal
        try:
            plain, text, knows_crashes, oldest, coming = fetch(connection, _WITNESS, values)[0]
        except psycopg2.ProgrammingError:
            cursor.execute("ROLLBACK TO look")
            return Horizon(0, 0, "")
    witness = hashlib.sha256(f"{target.name}; {text}".encode()).hexdigest() if plain and knows_crashes else ""
    return Horizon(int(oldest), int(coming), witness)


def rows_all_older(connection: Connection, schema: str, day: date, earlier: int) -> int | None:
    """The rows of `day` if the transactions of all lie below the horizon `earlier`, else None."""
    older = f"count(*) FILTER (WHERE age(xmin) > age('{earlier}'::xid8::xid))"
    rows, below = events.aggregates(connection, schema, day, f"count(*), {older}")
    return int(rows) if rows == below else None
