"""Ask PostgreSQL to stop what it does for a connection, without stopping this process.

A cancel is a connection of its own, which may hang. psycopg2's cancel() keeps Python's lock meanwhile: no thread would
go on, and no signal be heard, as long as the network is silent. Calls through ctypes let it go.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache

import psycopg2
from psycopg2.extensions import connection as Connection

CANCEL = "cancel"

# Bytes of libpq's message, which nobody reads.
MESSAGE = 256


@cache
def _libpq() -> ctypes.CDLL:
    """libpq as psycopg2 uses it: by the symbols that its own module sees."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)
    library.PQgetCancel.restype = ctypes.c_void_p
    library.PQgetCancel.argtypes = [ctypes.c_void_p]
    library.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.PQfreeCancel.argtypes = [ctypes.c_void_p]
    library.PQfreeCancel.restype = None
    return library


def _way(connection: Connection) -> Callable[[], None] | None:
    """What cancels the connection's statement, with a copy of what it takes: the connection may be closed meanwhile."""
    pointer = None if connection.closed else connection.pgconn_ptr
    handle = _libpq().PQgetCancel(pointer) if pointer else None
    if not handle:
        return None

    def cancel() -> None:
        _libpq().PQcancel(handle, ctypes.create_string_buffer(MESSAGE), MESSAGE)
        _libpq().PQfreeCancel(handle)

    return cancel


def cancel(connection: Connection) -> None:
    """Begin to cancel what runs on a connection, in a thread that nobody waits for."""
    if way := _way(connection):
        threading.Thread(target=way, name=CANCEL, daemon=True).start()


def is_cancelling() -> bool:
    """Whether a cancel has not ended."""
    return any(thread.name == CANCEL for thread in threading.enumerate())
