"""PostgreSQL: where it is, one read-only snapshot of it, and work on several connections that share the snapshot."""

from __future__ import annotations

import queue
import sys
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

from schemas.contract import TABLE
from stages.shared import params
from stages.shared.errors import PipelineError, SourceError, TransientSourceError
from stages.source.database_url import database_url, parse_url

# Seconds between attempts to stop what still runs after a failure or a signal.
CANCEL_EVERY = 0.05

# Seconds: the longest wait between two attempts.
MAX_WAIT = 60

Lead = TypeVar("Lead")
Result = TypeVar("Result")

# SQLSTATE: a connection that failed or broke (class 08), a conflict that a new attempt does not have (on a standby
# also that with recovery), no connection left, and a server that goes down, crashed or comes up.
TRANSIENT = {"40001", "40P01", "53300", "57P01", "57P02", "57P03"}

# What libpq says when there is no SQLSTATE: before a login psycopg2 passes on only the text.
BROKEN = (
    "closed the connection",
    "connection already closed",
    "connection has been closed",
    "could not receive data",
    "could not send data",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "timeout expired",
    "the database system is",  # starting up, shutting down, in recovery mode, not yet accepting connections
    "terminating connection",
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    "No such file or directory",  # the server's socket
)

# What a transaction-pooling or balancing pgbouncer does not let through.
POOLED = ("unsupported startup parameter", "invalid snapshot identifier", "could not import the requested snapshot")


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


def retrying(stage: str, settings: params.Source, action: Callable[[], Result]) -> Result:
    """What `action` returns, tried again from its begin when it raises TransientSourceError, up to settings.attempts.

    Waits longer each time, and a random while more, so that many clients do not come back at once.
    """
    try:
        return action()
    except TransientSourceError as error:
        failed = [error]
    import tenacity  # 40 ms that a run without trouble does not spend

    def again() -> Result:
        if failed:
            raise failed.pop()  # the first attempt counts
        return action()

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        what = error.what if isinstance(error, PipelineError) else error
        pause = f"attempt {state.attempt_number + 1} of {settings.attempts} in {state.upcoming_sleep:.1f} s"
        print(f"{stage}: {what}; {pause}, from the beginning", file=sys.stderr, flush=True)

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(settings.attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=settings.retry_wait, max=MAX_WAIT, jitter=settings.retry_wait),
        retry=tenacity.retry_if_exception_type(TransientSourceError),
        before_sleep=say,
        reraise=True,
    )
    return attempts(again)


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
    try:
        with target.engine.connect().execution_options(postgresql_readonly=True) as connection:
            if shared is not None:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{shared}'")
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
        raise explain(error.orig or error, target) from None
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


def explain(error: BaseException, target: Target) -> PipelineError:
    """What PostgreSQL or libpq said, as a message for the user, without secrets."""
    lines = [line.strip() for line in target.redact(str(error)).splitlines() if line.strip()]
    said = "; ".join(lines[:2]) or type(error).__name__
    code = getattr(error, "pgcode", None)
    if code == "42501":
        return SourceError(
            f"the role may not read everything: {said}",
            where=target.name,
            expected=f"SELECT on {target.schema}.{TABLE}, and no row-level security policy that hides rows",
            next_step=f'GRANT SELECT ON "{target.schema}"."{TABLE}" TO the role (and BYPASSRLS if it has policies)',
        )
    if any(words in str(error) for words in POOLED):
        # After the connection that exported it broke, the snapshot is gone, too; behind a pooler it never was there.
        kind = SourceError if "startup parameter" in str(error) else TransientSourceError
        return kind(
            f"the connections do not share a snapshot: {said}",
            where=target.name,
            expected="direct connections to one server; a pgbouncer that pools transactions or balances breaks this",
            next_step="the direct URL of the database in DATABASE_URL (what Prisma calls directUrl)",
        )
    if code in ("57014", "55P03"):
        return SourceError(
            f"a limit of time ended the run: {said}",
            where=target.name,
            expected=f"statements within {target.settings.statement_timeout} s (0: any time), "
            f"locks within {target.settings.lock_timeout} s",
            next_step="run when no migration holds the table, or raise source.statement_timeout or source.lock_timeout",
        )
    transient = code in TRANSIENT or str(code)[:2] == "08" or (not code and any(words in said for words in BROKEN))
    what = "the connection broke off" if code or "closed the connection" in said else "can't connect to PostgreSQL"
    return (TransientSourceError if transient else SourceError)(
        f"{what}: {said}",
        where=target.name,
        expected="a running PostgreSQL 14 to 18 and a role that may log in",
        next_step="check DATABASE_URL (environment, else .env) and that the server runs, then the same command again",
    )


def export_snapshot(connection: sa.Connection) -> str:
    return str(connection.scalar(sa.text("SELECT pg_catalog.pg_export_snapshot()")))
