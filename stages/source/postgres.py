"""PostgreSQL: where it is, one read-only snapshot of it, and work on several connections that share the snapshot."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar, cast
from urllib.parse import quote

import psycopg2
import psycopg2.extensions
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from stages.shared import params
from stages.source.database_url import database_url, parse_url
from stages.source.explain import explain

# Seconds between attempts to stop what still runs after a failure or a signal.
CANCEL_EVERY = 0.05

Lead = TypeVar("Lead")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Target:
    """An engine, the schema that holds the table, and how to name the place in a message, without the password."""

    engine: sa.Engine
    schema: str
    name: str
    embedded: bool
    secrets: tuple[str, ...]
    settings: params.Source

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
            url = sa.URL.create(
                "postgresql+psycopg2",
                where["user"],
                database=where["dbname"],
                query={k: where[k] for k in ("host", "port")},
            )
            yield _target(url, "public", "the embedded sample", True, settings)
    else:
        url, schema = parse_url(text, settings.application_name)
        host = url.query.get("host") or url.host or "the local socket"
        port = url.query.get("port") or url.port or 5432
        name = f"database {url.database or url.username} on {host}:{port} as {url.username}"
        yield _target(url, schema, name, False, settings)


# Also psycopg2 has to know, which decodes names and messages.
ENCODING = {"client_encoding": "utf8"}


def _target(url: sa.URL, schema: str, name: str, embedded: bool, settings: params.Source) -> Target:
    # Whatever zone or date style the server, the role or the client has, it says so to no value: see snapshot().
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="REPEATABLE READ", connect_args=ENCODING)
    password = url.password or ""
    secrets = tuple({password, quote(password), quote(password, safe="")} - {""})
    # One that is so short stands in half of all words.
    secrets = tuple(secret for secret in secrets if len(secret) > 3)
    return Target(engine, schema, name, embedded, secrets, settings)


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
def snapshot(target: Target, shared: str | None = None) -> Iterator[sa.Connection]:
    """A connection in a REPEATABLE READ, READ ONLY transaction; `shared` joins the snapshot that another exported.

    Raises SourceError for whatever PostgreSQL or the way to it refuses.
    """
    joining = shared is not None
    try:
        with target.engine.connect().execution_options(postgresql_readonly=True) as connection:
            if shared is not None:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{shared}'")
                joining = False
            limits = {"statement": target.settings.statement_timeout, "lock": target.settings.lock_timeout}
            connection.exec_driver_sql(TIMEOUTS.format(**limits))
            for name, value in SESSION.items():
                connection.exec_driver_sql(f"SET LOCAL {name} = '{value}'")
            try:
                yield connection
            except BaseException:
                # Also when it stands in the middle of a COPY, from which nothing but closing leads out.
                connection.invalidate()
                raise
    except DBAPIError as error:
        raise explain(error.orig or error, target, joining) from None
    except psycopg2.Error as error:
        raise explain(error, target) from None


def per_day(
    target: Target,
    days: Sequence[date],
    workers: int,
    first: Callable[[sa.Connection], Lead],
    work: Callable[[sa.Connection, date], Result],
) -> tuple[Lead, dict[date, Result]]:
    """Run `first` on one connection, then `work` for each day on `workers` more, all in the same snapshot.

    When one of them fails, the others are cancelled and its error is raised.
    """
    todo: queue.SimpleQueue[date] = queue.SimpleQueue()
    for day in days:
        todo.put(day)
    results: dict[date, Result] = {}
    stop = threading.Event()
    running: list[psycopg2.extensions.connection] = []

    def worker(shared: str) -> None:
        with snapshot(target, shared) as connection:
            running.append(driver(connection))
            while not stop.is_set():
                try:
                    day = todo.get_nowait()
                except queue.Empty:
                    return
                results[day] = work(connection, day)

    with snapshot(target) as connection, ThreadPoolExecutor(workers + 1) as pool:
        shared = export_snapshot(connection)
        running.append(driver(connection))
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


def driver(connection: sa.Connection) -> psycopg2.extensions.connection:
    """psycopg2's connection below SQLAlchemy's."""
    return cast(psycopg2.extensions.connection, connection.connection.driver_connection)


def export_snapshot(connection: sa.Connection) -> str:
    return str(connection.scalar(sa.text("SELECT pg_catalog.pg_export_snapshot()")))
