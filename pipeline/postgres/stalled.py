"""Connections on which nothing arrives any more, though the other side holds them open.

libpq waits for an answer for as long as TCP lets it: two hours where the network is silent, for ever behind a proxy
that keeps the connection alive. A connection that was shut down answers at once, with a transient error.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import weakref
from contextlib import suppress

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE
from psycopg2.extensions import connection as Connection

from pipeline.core import signals

# Seconds between two looks.
EVERY = 0.5

# Where Linux's struct tcp_info has tcpi_last_data_recv, milliseconds since data last arrived (linux/tcp.h).
LAST_DATA_RECV = 52

_limits: weakref.WeakKeyDictionary[Connection, float] = weakref.WeakKeyDictionary()
_watching = threading.Lock()


def watch(connection: Connection, limit: float) -> None:
    """Shut the connection down when it waits for PostgreSQL and nothing arrives for `limit` seconds; 0: never.

    Does nothing where the system does not tell, as outside of Linux, or on a socket of this machine.
    """
    _limits[connection] = limit
    if _watching.acquire(blocking=False):  # once in a process
        signals.when_stopped(hang_up_all)
        threading.Thread(target=_look, name="stalled", daemon=True).start()


def hang_up_all() -> None:
    """Shut all connections down, for a process that has to end."""
    for connection in list(_limits):
        hang_up(connection)


def hang_up(connection: Connection) -> None:
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as known:
        known.shutdown(socket.SHUT_RDWR)


def silence(connection: Connection) -> float:
    """Seconds since something arrived on a connection that waits for PostgreSQL; 0 where nothing is waited for."""
    try:
        if connection.closed or connection.get_transaction_status() != TRANSACTION_STATUS_ACTIVE:
            return 0
        with socket.socket(fileno=os.dup(connection.fileno())) as known:
            if known.family not in (socket.AF_INET, socket.AF_INET6):
                return 0
            told = known.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (OSError, AttributeError, psycopg2.Error):
        return 0
    return float(struct.unpack_from("I", told, LAST_DATA_RECV)[0]) / 1000


def _look() -> None:
    begun: weakref.WeakKeyDictionary[Connection, float] = weakref.WeakKeyDictionary()  # when it was first seen waiting
    while True:
        time.sleep(EVERY)
        for connection, limit in list(_limits.items()):
            silent = silence(connection)
            if not silent:
                begun.pop(connection, None)
                continue
            # A connection that idled before it asked has been silent for longer than it waits.
            waiting = time.monotonic() - begun.setdefault(connection, time.monotonic())
            if limit and min(silent, waiting) > limit:
                hang_up(connection)
