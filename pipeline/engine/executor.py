"""Where independent pieces of work run. It changes no byte.

A piece is a function of a module with arguments that can be pickled. Here they run in threads: what takes long in them,
PostgreSQL, Arrow, DuckDB and hashing, leaves Python's lock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CallingThread(Executor):
    """Runs each piece at once, in the caller's own thread, where a signal can interrupt it."""

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(fn(*args, **kwargs))  # what it raises, it raises here
        return future


@contextmanager
def executor(threads: int) -> Iterator[Executor]:
    """Runs `threads` pieces at once; with 0 each in the calling thread, for work that holds Python's lock.

    When the block fails, what has not begun is given up.
    """
    if not threads:
        yield CallingThread()
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
