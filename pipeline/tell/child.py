"""Talking to others costs a night no more than LIMIT seconds and a line: it is done by a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# Seconds in all, once the libraries are loaded: time-outs of libraries are for each read, and a drip lasts.
LIMIT = 5.0

# Seconds for loading them; MLflow's take two.
LOAD_LIMIT = 20.0

READY = "ready"


def send(module: str, message: Mapping[str, Any]) -> str | None:
    """Have `python -m MODULE` send a message, which it reads as JSON; what went wrong, if anything did."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries print addresses there, with their passwords
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode())
        process.stdin.close()
    said, limit, begin = b"", LOAD_LIMIT, time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := begin + limit - time.monotonic()) > 0 and selector.select(left):
            content = os.read(process.stdout.fileno(), 4096)
            if not content:
                break
            said += content
            if limit == LOAD_LIMIT and READY.encode() in said:
                limit, begin = LIMIT, time.monotonic()
        else:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
            return f"no answer within {limit:.0f} s"
    process.stdout.close()
    code = process.wait()
    words = " ".join(said.decode(errors="replace").replace(READY, "", 1).split())
    return None if code == 0 else words or f"it ended with {code}"


def message() -> Any:
    """In the child: the message."""
    return json.load(sys.stdin)


def ready() -> None:
    """In the child: the libraries are loaded."""
    print(READY, flush=True)
