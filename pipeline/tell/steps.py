"""Steps of a night: commands with a bound on the time of all, each of whose lines is one of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

# What DVC prints for people who stand before it.
HINTS = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Having any troubles? Hit us up",
    "Stage '",
)


class Failed(Exception):
    """A step ended with an error, which stands above."""

    def __init__(self, step: str, code: int, reason: str = "", next_step: str = "") -> None:
        super().__init__(step)
        self.step, self.code, self.next_step = step, code, next_step
        self.reason = reason or f"{step} ended with {code}"
        self.seen: dict[str, Any] = {}  # what the reports said of a snapshot that is put back


class Clock:
    """How much of the night's time is left."""

    def __init__(self, limit: float) -> None:
        self.limit, self.end = limit, time.monotonic() + limit

    def left(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise self.over()
        return left

    def over(self) -> Failed:
        return Failed("time", 1, f"it took longer than night.time_limit, {self.limit:.0f} s", "see what hung, above")


def say(step: str, words: str, begin: float | None = None) -> None:
    took = f" ({time.monotonic() - begin:.1f} s)" if begin is not None else ""
    print(f"{datetime.now(UTC):%H:%M:%S} {step:<9} {words}{took}", flush=True)


def step(name: str, command: list[str], clock: Clock, keep: Callable[[str], str | None] = str) -> None:
    """Run a command, and say each of its lines that `keep` keeps. Raises Failed with its exit code."""
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    late = False

    def stop(*_: object) -> None:
        nonlocal late
        late = True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    timer = alarm(clock.left(), stop)
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if (kept := keep(line.rstrip())) is not None:
                say(name, kept)
                lines.append(kept)
        code = process.wait()
    except BaseException:
        stop()
        process.wait()
        raise
    finally:
        timer()
    if late:
        raise clock.over()
    if code:
        said = next((line for line in lines if "error" in line.lower()), "")
        raise Failed(name, code, f"{name}: {said}" if said.startswith("ERROR") else said)
    say(name, "done", begin)


def alarm(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Call `action` in another thread after so many seconds; returns what calls it off."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer.cancel


def no_hints(line: str) -> str | None:
    """A line of DVC, without what is for people."""
    words = line.strip()
    return words if words and not words.startswith(HINTS) else None
