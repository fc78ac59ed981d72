"""A network that goes silent: a relay that passes so many bytes of each connection and then none, staying open."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes between clients and a server until `silent` is set, or `limit` bytes came back on a connection."""

    def __init__(self, folder: str, port: str, limit: int) -> None:
        self.server, self.limit = f"{folder}/.s.PGSQL.{port}", limit
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.silent = threading.Event()  # that a connection has become silent
        self.ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.ended:
            with suppress(OSError):
                client, _ = self.listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        passed = 0
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self.server)
            while not self.ended:
                ready, _, _ = select.select([client, server], [], [], 0.2)
                for one in ready:
                    content = one.recv(65536)
                    if not content:
                        return
                    if passed + len(content) > self.limit:
                        self.silent.set()
                        # Neither closes nor reads, as a host that went away behind a proxy that did not.
                        while not self.ended:
                            time.sleep(0.05)
                        return
                    passed += len(content) if one is server else 0
                    (server if one is client else client).sendall(content)


@contextmanager
def relay(where: Mapping[str, str], limit: int) -> Iterator[Relay]:
    """In front of the server at `where`, which listens on a socket in the folder `host`."""
    made = Relay(where["host"], where["port"], limit)
    try:
        yield made
    finally:
        made.ended = True
        made.listening.close()
