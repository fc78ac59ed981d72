"""What PostgreSQL or libpq say when something fails, in words that name the next step, and whether it passes."""

from __future__ import annotations

import re
from typing import Literal

from pipeline.core.errors import DataError, PipelineError, SourceError, TransientSourceError
from pipeline.core.progress import printable
from pipeline.postgres.target import Relation, Target
from schemas.types import INSTANTS

# SQLSTATE: a connection that failed or broke (class 08), a conflict that a new attempt does not have (on a standby
# also that with recovery), no connection left, and a server that goes down, crashed or comes up.
TRANSIENT = {"40001", "40P01", "53300", "57P01", "57P02", "57P03"}

# A message that the server sent before a login: its severity, a colon and two blanks.
SERVER_SAYS = re.compile(r"failed: [^\s:]+:  ")

# What another attempt does not change, as an English server says it; only to be quicker.
LASTING = ("authentication failed", "does not exist", "pg_hba.conf", "not permitted to log in", "no password supplied")

# What libpq itself says, always in English, when there is no SQLSTATE: before a login psycopg2 passes on only the text.
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
    "No such file or directory",  # the server's socket
    "no message from the libpq",  # psycopg2's own words for a connection that went away within a COPY
)

# What it says of SQLSTATE 53300.
FULL = ("too many clients", "too many connections", "connection slots are reserved")

# What a transaction-pooling or balancing pgbouncer does not let through.
POOLED = ("unsupported startup parameter", "invalid snapshot identifier", "could not import the requested snapshot")


# The connection that failed: the only one, one that was joining the transaction snapshot of another, or one that had
# joined it.
When = Literal["alone", "joining", "joined"]


def _name(relation: Relation) -> str:
    return printable(f'"{relation.schema}"."{relation.table.name}"')


def _looking(relation: Relation) -> str:
    """The statement that finds rows at infinity or before the year 1."""
    dates = [c.quoted for c in relation.table.columns if c.kind in INSTANTS]
    odd = " OR ".join(f"NOT isfinite({name}) OR {name} < '0001-01-01'" for name in dates)
    return f": SELECT * FROM {_name(relation)} WHERE {printable(odd)}" if dates else ""


def explain(
    error: BaseException, target: Target, when: When = "alone", relation: Relation | None = None
) -> PipelineError:
    """What PostgreSQL or libpq said, as a message for the user, without secrets. `relation` was being read."""
    lines = [printable(line.strip()) for line in target.redact(str(error)).splitlines() if line.strip()]
    said = "; ".join(lines[:2]) or type(error).__name__
    code = getattr(error, "pgcode", None)
    if code == "42501":
        plain = ", ".join(f"{schema}.{table.name}" for schema, table, _ in target.relations)
        quoted = ", ".join(f'"{schema}"."{table.name}"' for schema, table, _ in target.relations)
        return SourceError(
            f"the role may not read everything: {said}",
            where=target.name,
            expected=f"SELECT on {plain}, and no row-level security policy that hides rows",
            next_step=f"GRANT SELECT ON {quoted} TO the role (and BYPASSRLS if it has policies)",
        )
    # A pgbouncer without a free place for another connection lets it wait and then closes it without a word.
    full = when == "joining" and "closed the connection" in said
    if full or any(words in str(error) for words in POOLED):
        # After the connection that exported it broke, the snapshot is gone, too; behind a pooler it never was there.
        kind = SourceError if "startup parameter" in str(error) else TransientSourceError
        return kind(
            f"the connections do not share a transaction snapshot: {said}",
            where=target.name,
            expected="direct connections to one server, extract.workers and one more; a pgbouncer that balances, "
            "or whose pool is smaller, breaks this",
            next_step="the direct URL of the database in DATABASE_URL (what Prisma calls directUrl)",
        )
    if when == "joined" and code == "55P03":
        return TransientSourceError(
            "a migration waits for the table, and the connections that read it would wait for the migration",
            where=target.name,
            expected="no ALTER TABLE, TRUNCATE, REINDEX or the like that begins while the table is read",
            next_step="the same command again, when the migration is done",
        )
    if code == "53300" or any(words in said for words in FULL):
        return TransientSourceError(
            f"PostgreSQL has no connection left: {said}",
            where=target.name,
            expected="room for extract.workers connections and one more, with CONNECTION LIMIT of role and database",
            next_step="the same command when others are gone, or with a smaller extract.workers in params.yaml",
        )
    if code == "57014" and "user request" in said:
        return SourceError(
            f"somebody ended the statement: {said}",
            where=target.name,
            expected="no pg_cancel_backend meanwhile",
            next_step="the same command again",
        )
    if code in ("57014", "55P03"):
        return SourceError(
            f"a limit of time ended the run: {said}",
            where=target.name,
            expected=f"statements within {target.settings.statement_timeout} s (0: any time), "
            f"locks within {target.settings.lock_timeout} s",
            next_step="run when no migration holds the table, or raise source.statement_timeout or source.lock_timeout",
        )
    if str(code)[:2] == "22" or (code == "0A000" and "convert" in said):  # infinity to bigint
        return DataError(
            f"PostgreSQL can't give a value: {said}",
            where=f"{_name(relation)}, {target.name}" if relation else target.name,
            expected="texts that are what the database's encoding says, dates and timestamps of the years 1 to 9999",
            next_step=f"find the rows{_looking(relation) if relation else ''}; SHOW server_encoding; correct them in "
            "PostgreSQL, then the same command again",
        )
    # A refused login has no SQLSTATE, and its words are in the server's language: where they say nothing, once more.
    refused = bool(SERVER_SAYS.search(said)) and not any(words in said for words in LASTING)
    transient = code in TRANSIENT or str(code)[:2] == "08"
    transient = transient or (not code and (refused or any(words in said for words in BROKEN)))
    gone = code or any(words in said for words in ("closed the connection", "no message from the libpq"))
    what = "the connection broke off" if gone else "can't connect to PostgreSQL"
    return (TransientSourceError if transient else SourceError)(
        f"{what}: {said}",
        where=target.name,
        expected="a running PostgreSQL 14 to 18 and a role that may log in",
        next_step="check DATABASE_URL (environment, else .env) and that the server runs, then the same command again",
    )
