"""Progress for people: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import re
import sys
import threading
import time
from types import TracebackType
from typing import Any

# Seconds between plain lines; a log of a long run stays readable.
EVERY = 5.0

# To the begin of the line, and erase it (ECMA-48, EL). Not tqdm's own way, which waits for a lock: a signal may come
# while it is held.
CLEAR_LINE = "\r\x1b[K"


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A name from elsewhere with its control characters named: a terminal would obey them, a line end begin a line."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class Progress:
    """Counts `unit`s towards `total` (None: not known yet) while its block runs. `add` counts, from any thread."""

    def __init__(self, stage: str, unit: str, total: int | None) -> None:
        self._bar: Any = None
        self._stage, self._unit, self._total = stage, unit, total
        self._lock = threading.Lock()
        self._done, self._said = 0, time.monotonic()

    def add(self, n: int) -> None:
        with self._lock:
            self._done += n
            if self._bar is not None:
                self._bar.update(n)
            elif time.monotonic() - self._said > EVERY:
                self._said = time.monotonic()
                of = f" of {self._total:,}" if self._total is not None else ""
                print(f"{self._stage}: {self._done:,}{of} {self._unit}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        _running.append(self)
        if sys.stderr.isatty():
            from tqdm import tqdm  # a twentieth of a second that a log has no use for

            sys.stdout.flush()  # or what was said before may come after the bar
            self._bar = tqdm(desc=self._stage, unit=f" {self._unit}", total=self._total, leave=False, unit_scale=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _running.remove(self)
        if self._bar is not None:
            self._bar.close()


_running: list[Progress] = []


def add(n: int) -> None:
    """Count `n` for what is running in this process, if anything is. So work need not be told who waits for it."""
    for progress in _running[-1:]:
        progress.add(n)


def say(text: str) -> None:
    """Print a line to stderr that does not stick to a bar, which is drawn again when it moves."""
    print(beside_bar(text), file=sys.stderr, flush=True)


def beside_bar(text: str) -> str:
    """`text` for a line of its own, also where a bar is drawn."""
    return CLEAR_LINE + text if _running and sys.stderr.isatty() else text


def count(n: int, noun: str) -> str:
    """`n` and its noun, in the singular or the plural: 1 row, 2,000 rows."""
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
    return f"{n:,} {noun if n == 1 else plural}"
