"""An S3 API over HTTP on this machine (moto_server), and what it was asked."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}


@dataclass
class Served:
    """An S3 API at `url`, and what it was asked."""

    url: str
    log: Path

    def requests(self, method: str = "[A-Z]+") -> list[str]:
        """The paths of all requests with this method so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return re.findall(rf'"{method} (/[^ ]*) HTTP', text)

    def forget_requests(self) -> None:
        self.log.write_text("")

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()

    def empty(self) -> None:
        """Take away all buckets, and what was asked so far."""
        urllib.request.urlopen(f"{self.url}/moto-api/reset", data=b"").close()
        self.forget_requests()


@contextmanager
def serving(folder: Path, **env: str) -> Iterator[Served]:
    """A server for the length of the block, whose log stands in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"s3-{port}.log"
    with open(log, "a") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, **env},
        )
    made = Served(f"http://127.0.0.1:{port}", log)
    while process.poll() is None:
        try:
            urllib.request.urlopen(made.url).close()
            break
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.05)  # until it answers
    try:
        yield made
    finally:
        process.terminate()
        process.wait()
