"""Connections to PostgreSQL: one read-only transaction snapshot, and work on several connections that share it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier

from pipeline.postgres.cancel import cancel, is_cancelling
from pipeline.postgres.explain import When, explain
from pipeline.postgres.stalled import hang_up, watch
from pipeline.postgres.statements import fetch
from pipeline.postgres.target import Relation, Target

# Settings of the transaction, by SET LOCAL: they end with it, and a pooler passes them on where it refuses `options`.
# A sort of one day's rows stays in memory up to about 60,000 rows. row_security off turns a policy that would hide
# rows into an error. With fewer extra_float_digits than 1 most floats arrive as others.
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "client_encoding": "UTF8",
    "extra_float_digits": "1",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "IntervalStyle": "postgres",
    "xmlbinary": "base64",
    "work_mem": "32MB",
    "jit": "off",
    "search_path": "pg_catalog",
}

# The same, in seconds: PostgreSQL ends a connection, and its transaction snapshot, when the other side is gone.
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}

# One connection idles in its transaction while others copy; a limit that a provider sets would end it.
IDLE_LIMITS = ("idle_in_transaction_session_timeout", "transaction_timeout")
SINCE_17 = {"transaction_timeout"}

# Seconds that a connection which joined a snapshot waits for a lock, whatever the params say. A migration that came
# meanwhile waits for the first connection, and this one waits for the migration: a circle that PostgreSQL does not see.
JOINED_LOCK_TIMEOUT = 1

# Of LOCK TABLE, where the role may read columns and not the table.
NOT_ALLOWED = "42501"

# What LOCK TABLE says of a foreign table or a materialized view, and of a table that is not there.
NOT_LOCKABLE = ("42809", "42P01", "3F000")

# Seconds between attempts to stop what still runs after a failure or a signal.
CANCEL_EVERY = 0.05
# Seconds until the connections are shut down instead.
CANCEL_FOR = 2.0

Task = TypeVar("Task")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def connect(target: Target, join: str | None = None) -> Connection:
    """A connection in a REPEATABLE READ, READ ONLY transaction. `join` names the snapshot of another that it shares.

    Raises SourceError for whatever PostgreSQL or the way to it refuses.
    """
    when: When = "joining" if join else "alone"
    try:
        # psycopg2 has to know the encoding, too, because it decodes names and messages.
        connection: Connection = psycopg2.connect(target.dsn, client_encoding="utf8")
        limit = target.settings.stall_timeout
        watch(connection, max(limit, target.settings.lock_timeout) if limit else 0)
        try:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            if join:
                with connection.cursor() as cursor:
                    cursor.execute(f"SET TRANSACTION SNAPSHOT '{join}'")
                when = "joined"
            settle(connection, target, JOINED_LOCK_TIMEOUT if join else None)
        except BaseException:
            connection.close()
            raise
    except psycopg2.Error as error:
        raise explain(error, target, when) from None
    return connection


def settle(connection: Connection, target: Target, lock_timeout: int | None = None) -> None:
    """Give the transaction its settings and limits; `lock_timeout` in seconds, that of the params by default."""
    patience = target.settings.lock_timeout if lock_timeout is None else lock_timeout
    limits = {"statement_timeout": f"{target.settings.statement_timeout}s", "lock_timeout": f"{patience}s"}
    known = [name for name in IDLE_LIMITS if connection.server_version >= 170000 or name not in SINCE_17]
    # Whatever zone or date style the server, the role or the client has, no value depends on it. By SET, because a
    # SELECT would take the snapshot.
    limits["tcp_user_timeout"] = f"{target.settings.stall_timeout}s"  # 0: as long as the system has it
    settings = SETTINGS | KEEPALIVES | limits | dict.fromkeys(known, "0")
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()))


@contextmanager
def explained(target: Target, when: When = "alone", relation: Relation | None = None) -> Iterator[None]:
    """Turn the errors of PostgreSQL into those of this project. `relation` is read meanwhile."""
    try:
        yield
    except psycopg2.Error as error:
        raise explain(error, target, when, relation) from None


@contextmanager
def transaction(target: Target) -> Iterator[Connection]:
    """A connection as `connect` makes it, for the length of the block. Raises SourceError."""
    with closing(connect(target)) as connection, explained(target):
        yield connection


def lock(connection: Connection, target: Target) -> list[Relation]:
    """Lock first. A snapshot taken while TRUNCATE or ALTER TABLE runs sees neither the old nor the new rows.

    It is the lock that every reader takes, on each table and its partitions. A table that is not there, or that can't
    be locked, is left out. Returns the tables that the role may not lock, as one that may read only columns of them.
    """
    refused = []
    with connection.cursor() as cursor:
        for relation in target.relations:
            cursor.execute("SAVEPOINT unlocked")
            try:
                cursor.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(relation.identifier))
            except psycopg2.Error as error:
                if error.pgcode not in (*NOT_LOCKABLE, NOT_ALLOWED):
                    raise
                cursor.execute("ROLLBACK TO SAVEPOINT unlocked")
                refused += [relation] if error.pgcode == NOT_ALLOWED else []
            cursor.execute("RELEASE SAVEPOINT unlocked")
    return refused


def set_lock_timeout(connection: Connection, seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{seconds}s'")  # which takes no snapshot


def read_none(connection: Connection, relations: Sequence[Relation]) -> None:
    """Read no row of each table: it takes the same lock, and the transaction snapshot, too."""
    for relation in relations:
        columns = SQL(", ").join(map(Identifier, relation.table.names))
        fetch(connection, SQL("SELECT {} FROM {} LIMIT 0").format(columns, relation.identifier))


class SharedSnapshot:
    """One transaction snapshot for several connections: the first one, and one for each thread of a pool.

    The main thread only waits, so a signal reaches it at once; libpq would hold it back.
    """

    def __init__(self, target: Target, first: Connection, pool: Executor) -> None:
        self._target, self._pool = target, pool
        self._connections = [first]
        self._holders: list[Connection] = []
        self._own = threading.local()  # a thread's connection
        self._alone = ThreadPoolExecutor(1)
        self._futures: list[Future[Any]] = []
        self.name = ""  # by which another session joins it

    def share(self) -> None:
        """Lock first, then take the snapshot that all connections read."""
        refused = self.run(lock, self._target)
        if refused:
            # A connection of its own holds the lock while this one takes its snapshot, and until the end.
            self._holders.append(connect(self._target))
            self._on(self._holders[0], read_none, refused)
            # A migration that came meanwhile waits for the holder, and this connection for the migration.
            with explained(self._target, "joined"):
                self.run(set_lock_timeout, JOINED_LOCK_TIMEOUT)
                self.run(read_none, refused)
        self.name = str(self.run(fetch, "SELECT pg_catalog.pg_export_snapshot()")[0][0])

    def run(
        self,
        work: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **more: Arguments.kwargs,
    ) -> Result:
        """What `work` returns, on the first connection."""
        return self._on(self._connections[0], work, *args, **more)

    def _on(
        self,
        connection: Connection,
        work: Callable[Concatenate[Connection, Arguments], Result],
        *args: Arguments.args,
        **more: Arguments.kwargs,
    ) -> Result:
        future = self._alone.submit(work, connection, *args, **more)
        self._futures.append(future)
        return future.result()

    def map(self, work: Callable[[Connection, Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Each of `tasks` with what `work` returns for it, in their order, on the pool's connections.

        The first that fails is raised at once.
        """
        futures = [self._pool.submit(self._work, work, task) for task in tasks]
        self._futures += futures
        running = set(futures)
        for task, future in zip(tasks, futures, strict=True):
            while not future.done():
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for other in ended:
                    other.result()
            yield task, future.result()

    def _work(self, work: Callable[[Connection, Task], Result], task: Task) -> Result:
        with explained(self._target, "joined", getattr(task, "relation", None)):
            if not hasattr(self._own, "connection"):
                self._own.connection = connect(self._target, self.name)
                self._connections.append(self._own.connection)
                read_none(self._own.connection, lock(self._own.connection, self._target))
            return work(self._own.connection, task)

    def close(self) -> None:
        """Stop what still runs, after a failure or a signal, and close all connections."""
        for future in self._futures:
            future.cancel()
        # Again until they have ended: a cancel that arrives between two statements cancels nothing. A
        # cancel is a connection of its own, which may hang; then the connections themselves are shut down.
        until = time.monotonic() + CANCEL_FOR
        while wait(self._futures, timeout=CANCEL_EVERY).not_done:
            connections = (*self._connections, *self._holders)
            if time.monotonic() > until:
                for connection in connections:
                    hang_up(connection)
            elif not is_cancelling():
                for connection in connections:
                    cancel(connection)
        self._alone.shutdown()
        for connection in (*self._connections, *self._holders):
            connection.close()


@contextmanager
def shared_snapshot(target: Target, pool: Executor) -> Iterator[SharedSnapshot]:
    """A snapshot of the tables that the threads of `pool` share. Locks the tables before the snapshot is taken.

    Raises SourceError for whatever PostgreSQL or the way to it refuses.
    """
    with transaction(target) as first, closing(SharedSnapshot(target, first, pool)) as snapshot:
        snapshot.share()
        yield snapshot
