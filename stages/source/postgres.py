"""PostgreSQL: where it is, one read-only snapshot of it, and work on several connections that share the snapshot."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import closing, contextmanager, suppress
from datetime import date
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn
from psycopg2.sql import Composable

from stages.shared import params
from stages.source.database_url import database_url, parse_url
from stages.source.explain import explain

# Seconds between attempts to stop what still runs after a failure or a signal.
CANCEL_EVERY = 0.05

Lead = TypeVar("Lead")
Result = TypeVar("Result")


class Target(NamedTuple):
    """What libpq connects to, the schema that holds the table, and how to name the place in a message."""

    dsn: str  # holds the password
    schema: str
    name: str
    embedded: bool
    secrets: tuple[str, ...]
    settings: params.Source

    def __repr__(self) -> str:
        return self.name

    def redact(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


@contextmanager
def connect(settings: params.Source) -> Iterator[Target]:
    """The source that DATABASE_URL names, or the embedded default, for the length of the block."""
    text = database_url()
    if text is None:
        from stages.source import embedded

        with embedded.server() as where:
            yield _target(where, "public", "the embedded sample", True, settings)
    else:
        arguments, schema = parse_url(text, settings.application_name)
        host, port = arguments.get("host", "the local socket"), arguments.get("port", 5432)
        user = arguments.get("user")
        name = f"database {arguments.get('dbname', user)} on {host}:{port} as {user}"
        yield _target(arguments, schema, name, False, settings)


def _target(arguments: Mapping[str, str], schema: str, name: str, embedded: bool, settings: params.Source) -> Target:
    password = arguments.get("password", "")
    secrets = tuple({password, quote(password), quote(password, safe="")} - {""})
    # One that is so short stands in half of all words.
    secrets = tuple(secret for secret in secrets if len(secret) > 3)
    return Target(make_dsn(**arguments), schema, name, embedded, secrets, settings)


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


# One connection idles in its transaction while others copy; a limit that a provider sets would end it. Settings that
# this version does not know are left out.
TIMEOUTS = (
    "SELECT set_config(name, CASE name WHEN 'statement_timeout' THEN '{statement}s' WHEN 'lock_timeout' THEN '{lock}s' "
    "ELSE '0' END, true) FROM pg_catalog.pg_settings WHERE name IN "
    "('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)


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
                limits = {"statement": target.settings.statement_timeout, "lock": target.settings.lock_timeout}
                cursor.execute(TIMEOUTS.format(**limits))
                # Whatever zone or date style the server, the role or the client has, it says so to no value.
                for name, value in SESSION.items():
                    cursor.execute(f"SET LOCAL {name} = '{value}'")
            yield connection
    except psycopg2.Error as error:
        raise explain(error, target, joining) from None


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
            while not stop.is_set():
                try:
                    day = todo.get_nowait()
                except queue.Empty:
                    return
                results[day] = work(connection, day)

    with snapshot(target) as connection, ThreadPoolExecutor(workers + 1) as pool:
        shared = export_snapshot(connection)
        running.append(connection)
        # The main thread only waits: a signal reaches it at once, while libpq would hold it back.
        futures: list[Future[Any]] = [pool.submit(first, connection)]
        try:
            answer = futures[0].result()
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
