"""A hot standby of a running server, which ends queries that stand in the way of its replay at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from pipeline.sample import server as pgserver

# What a server needs to have a standby.
PRIMARY = {"wal_level": "replica", "max_wal_senders": "4"}


def url(where: dict[str, str]) -> str:
    """What libpq needs to reach a server, as the DATABASE_URL of the stages."""
    place = f"localhost:{where['port']}/{where['dbname']}"
    return f"postgresql://{where['user']}@{place}?host={quote(where['host'], safe='')}"


def dsn(where: dict[str, str]) -> str:
    return " ".join(f"{name}='{value}'" for name, value in where.items())


def ask(where: dict[str, str], sql: str, *values: object) -> Any:
    """The first value of the answer, or None; outside of a transaction."""
    with closing(psycopg2.connect(dsn(where))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone() if cursor.description else None
    return row and row[0]


@contextmanager
def standby(primary: dict[str, str], binaries: Path, home: Path, port: str) -> Iterator[dict[str, str]]:
    """Run a standby of `primary` (started with PRIMARY) in `home`; yields what libpq needs to reach it."""
    data = home / "data"
    ask(primary, "CREATE TABLE IF NOT EXISTS noise AS SELECT 1 AS n")
    source = ["-h", primary["host"], "-p", primary["port"], "-U", primary["user"]]
    backup: list[str | Path] = [
        binaries / "pg_basebackup",
        *source,
        "-D",
        data,
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        "--no-sync",
    ]
    pgserver.run(backup)
    settings = {**PRIMARY, "hot_standby": "on", "max_standby_streaming_delay": "0"}
    pgserver.start(binaries, data, home / "log", port=port, **settings)
    try:
        yield {**primary, "host": str(data), "port": port}
    finally:
        pgserver.stop(binaries, data)


def catch_up(primary: dict[str, str], standby: dict[str, str]) -> None:
    """Wait until the standby has replayed what the primary has done so far."""
    wanted = ask(primary, "SELECT pg_current_wal_lsn()")
    while not ask(standby, "SELECT pg_last_wal_replay_lsn() >= %s", wanted):
        time.sleep(0.01)


def conflict(primary: dict[str, str]) -> None:
    """Take away rows that snapshots on the standby can still see."""
    ask(primary, "UPDATE noise SET n = n + 1")
    ask(primary, "VACUUM noise")
