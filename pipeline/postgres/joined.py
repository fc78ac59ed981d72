"""Connections of other processes to a transaction snapshot that this one, or another, has exported.

A worker that is lost may leave its connection behind, and with it the snapshot. Each has a name of its own in
application_name, the snapshot's and a number: whoever does the same work again ends it, and so does, in the end, the
one who exported the snapshot. A connection that nobody can reach any more PostgreSQL ends itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
from psycopg2.extensions import connection as Connection

from pipeline.core.errors import SourceError
from pipeline.postgres.session import connect, explained, lock, read_none
from pipeline.postgres.statements import fetch
from pipeline.postgres.target import Target

END = """
    SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
    WHERE starts_with(application_name, %(name)s) AND pid <> pg_catalog.pg_backend_pid()
"""


@contextmanager
def joined(target: Target, snapshot: str, number: int) -> Iterator[Connection]:
    """A connection that reads the exported `snapshot`, for the length of the block.

    `number` is that of the work among all with this snapshot. Raises SourceError.
    """
    name = f"{snapshot} {number}."
    with closing(connect(target, snapshot)) as connection, explained(target, "joined"):
        fetch(connection, END, {"name": name})
        fetch(connection, "SELECT pg_catalog.set_config('application_name', %(name)s, true)", {"name": name})
        read_none(connection, lock(connection, target))
        yield connection


def end_joined(target: Target, snapshot: str) -> None:
    """End the connections that still read the snapshot, as those of workers that were lost."""
    with suppress(SourceError, psycopg2.Error), closing(connect(target)) as connection:
        fetch(connection, END, {"name": f"{snapshot} "})
