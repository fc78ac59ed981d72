"""The embedded default: the source while DATABASE_URL is unset, and not imported when it is set.

A real PostgreSQL, started by the stage that needs it and stopped by it, with the tables as Prisma makes them and a
fixed sample in them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg2

from pipeline.core.paths import Paths
from pipeline.sample import rows as sample
from pipeline.sample import server as pgserver


def _version() -> str:
    """Changes when the server, the tables or the rows of the sample do."""
    digest = hashlib.sha256(importlib.metadata.version(pgserver.WHEEL).encode())
    for file in (Paths().migration, Path(sample.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def fill(where: dict[str, str]) -> None:
    """Make the app's tables and the sample's rows in the empty database at `where`."""
    print("embedded PostgreSQL: making the sample database, once", file=sys.stderr)
    connection = psycopg2.connect(" ".join(f"{name}='{value}'" for name, value in where.items()))
    with connection, connection.cursor() as cursor:
        cursor.execute(Paths().migration.read_text(encoding="utf-8"))
        cursor.copy_expert("COPY context_metadata FROM STDIN", _file(sample.context_metadata_rows()))
        cursor.copy_expert("COPY behavioral_events FROM STDIN", _file(sample.event_rows()))
    connection.autocommit = True
    connection.cursor().execute("VACUUM ANALYZE")
    connection.close()


def _file(rows: Iterator[tuple[object, ...]]) -> io.BytesIO:
    return io.BytesIO("".join(sample.copy_text(rows)).encode())


def server() -> AbstractContextManager[dict[str, str]]:
    """The sample's server, for the length of a with block; yields what libpq needs to reach it.

    Its folder is keyed by the checkout, so that two clones never share a server. `dvc exp run --temp` works in a copy
    below the checkout and says so in DVC_ROOT; it shares the checkout's.
    """
    checkout = os.path.realpath(os.environ.get("DVC_ROOT") or Path.cwd())
    key = hashlib.sha256(checkout.encode()).hexdigest()[:12]
    home = pgserver.private_folder(f"behavioral-events-{os.geteuid()}-{key}")
    return pgserver.running(home, _version(), fill)
