"""PostgreSQL: one read-only snapshot of it, and work on several connections that share the snapshot."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import closing, contextmanager, suppress
from datetime import date
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Identifier

from pipeline.postgres.explain import explain
from pipeline.postgres.target import Target
from schemas.contract import TABLE

# Seconds between attempts to stop what still runs after a failure or a signal.
CANCEL_EVERY = 0.05

Lead = TypeVar("Lead")
Result = TypeVar("Result")


# Settings of the transaction, by SET LOCAL: they end with it, and a pooler passes them on where it refuses `options`.
# A sort of one day's rows stays in memory up to about 60,000 rows. row_security off turns a policy that would hide
# rows into an error.
SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "client_encoding": "UTF8",
    "row_security": "off",
    "work_mem": "32MB",
    "jit": "off",
    "search_path": "pg_catalog",
}


# One connection idles in its transaction while others copy; a limit that a provider sets would end it.
IDLE_LIMITS = ("idle_in_transaction_session_timeout", "transaction_timeout")
SINCE_17 = {"transaction_timeout"}

# Seconds that a connection which joined waits for a lock, whatever the params say. A migration that came meanwhile
# waits for the first connection and is waited for by this one, in a circle that PostgreSQL does not see.
JOINED_LOCK_TIMEOUT = 1

# What LOCK TABLE says of a foreign table or a materialized view, and of a table that is not there.
NOT_LOCKABLE = ("42809", "42P01", "3F000")


@contextmanager
def snapshot(target: Target, shared: str | None = None) -> Iterator[Connection]:
    """A connection in a REPEATABLE READ, READ ONLY transaction; `shared` joins the snapshot that another exported.

    Raises SourceError for whatever PostgreSQL or the way to it refuses.
    """
    joining = shared is not None
    try:
        # Also psycopg2 has to know the encoding, which decodes names and messages.
        with closing(psycopg2.connect(target.dsn, client_encoding="utf8")) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as cursor:
                if shared is not None:
                    cursor.execute(f"SET TRANSACTION SNAPSHOT '{shared}'")
                    joining = False
                patience = JOINED_LOCK_TIMEOUT if shared else target.settings.lock_timeout
                limits = {"statement_timeout": f"{target.settings.statement_timeout}s", "lock_timeout": f"{patience}s"}
                known = [name for name in IDLE_LIMITS if connection.server_version >= 170000 or name not in SINCE_17]
                # Whatever zone or date style the server, the role or the client has, it says so to no value. By SET,
                # because a SELECT would take the snapshot.
                settings = SESSION | limits | dict.fromkeys(known, "0")
                cursor.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()))
            yield connection
    except psycopg2.Error as error:
        raise explain(error, target, joining, shared is not None) from None


def lock(connection: Connection, target: Target) -> None:
    """Take the lock that every reader takes, on the table and its partitions, before anything takes the snapshot.

    Else a snapshot taken while TRUNCATE or ALTER TABLE held the table would find it empty once they commit, rows that
    came with them being too new for it and those before gone. Nothing happens where there is no such table.
    """
    table = SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(Identifier(target.schema, TABLE))
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT unlocked")
        try:
            cursor.execute(table)
        except psycopg2.Error as error:
            if error.pgcode not in NOT_LOCKABLE:
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT unlocked")
        cursor.execute("RELEASE SAVEPOINT unlocked")


def fetch(
    connection: Connection, statement: str | Composable, values: Mapping[str, object] | None = None
) -> list[tuple[Any, ...]]:
    """The rows that a statement answers with. Its %(name)s stand for `values`; without them a % is a %."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def per_day(
    target: Target,
    days: Sequence[date],
    workers: int,
    first: Callable[[Connection], Lead],
    work: Callable[[Connection, date], Result],
) -> tuple[Lead, dict[date, Result]]:
    """Run `first` on one connection, then `work` for each day on `workers` more, all in the same snapshot.

    When one of them fails, the others are cancelled and its error is raised.
    """
    todo: queue.SimpleQueue[date] = queue.SimpleQueue()
    for day in days:
        todo.put(day)
    results: dict[date, Result] = {}
    stop = threading.Event()
    running: list[Connection] = []

    def worker(shared: str) -> None:
        with snapshot(target, shared) as connection:
            running.append(connection)
            lock(connection, target)
            while not stop.is_set():
                try:
                    day = todo.get_nowait()
                except queue.Empty:
                    return
                results[day] = work(connection, day)

    def lead(connection: Connection) -> tuple[str, Lead]:
        lock(connection, target)
        return export_snapshot(connection), first(connection)

    with snapshot(target) as connection, ThreadPoolExecutor(workers + 1) as pool:
        running.append(connection)
        # The main thread only waits: a signal reaches it at once, while libpq would hold it back.
        futures: list[Future[Any]] = [pool.submit(lead, connection)]
        try:
            shared, answer = futures[0].result()
            futures += [pool.submit(worker, shared) for _ in range(min(workers, len(days)))]
            # The first to fail is the one to report; the others then end with "canceled".
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
            # Again until they have ended: a cancel that arrives between two statements cancels nothing.
            while wait(futures, timeout=CANCEL_EVERY).not_done:
                for other in running:
                    with suppress(psycopg2.Error):
                        other.cancel()
    return answer, results


def export_snapshot(connection: Connection) -> str:
    return str(fetch(connection, "SELECT pg_catalog.pg_export_snapshot()")[0][0])
