"""Processes of this machine as workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait

from pipeline.core import signals
from pipeline.engine.place import Place

LOST = (
    "look whether the kernel ended it for want of memory (dmesg, or journalctl -k), and name fewer processes then; "
    "dvc repro begins again"
)


@contextmanager
def processes(number: int) -> Iterator[Place]:
    """So many of them, for the length of the block."""
    # Not by fork: this process has threads, whose locks would be held for ever in its copy.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("forkserver"), initializer=_begin)
    try:
        yield Place(pool, number, "a process of PIPELINE_ENGINE", end=_end, advice=LOST)
    except BaseException:
        _end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end() -> None:
    """End them in the middle of their work."""
    for process in multiprocessing.active_children():
        process.terminate()
    for process in multiprocessing.active_children():
        process.join()


def _begin() -> None:
    """A terminal sends Ctrl-C to all processes: the first of them ends the others. So it does when it is killed."""
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        sys.exit()
    wait([parent.sentinel])
    os._exit(1)
