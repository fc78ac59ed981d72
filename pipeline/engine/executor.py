"""Where independent pieces of work run: PIPELINE_ENGINE says it. It changes no byte.

A piece is a function of a module with one argument that can be pickled. In threads, what takes long in them,
PostgreSQL, Arrow, DuckDB and hashing, leaves Python's lock alone; in other processes, here or on other machines, all of
it runs side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pipeline.core import progress
from pipeline.core.inputs import fingerprint
from pipeline.engine.chosen import chosen
from pipeline.engine.packs import packs
from pipeline.engine.place import CallingThread, Pack, Place, lost, run_pack

Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds between two looks at whether anybody still works.
LOOK_EVERY = 1.0

Look = Callable[[], Mapping[str, str]]


def nothing() -> Mapping[str, str]:
    return {}


class Workers:
    """Whoever runs the work of a stage. Nothing is started before there is work."""

    def __init__(self, stage: str, opened: ExitStack, threads: int | None, look: Look) -> None:
        self._stage, self._opened, self._look = stage, opened, look
        self._chosen = chosen()
        self._threads = self._chosen.number if threads is None else threads
        self._place: Place | None = None
        self._said = False

    @property
    def apart(self) -> bool:
        """Whether they are other processes: they have connections of their own, and count no progress here."""
        return self._chosen.kind != "threads"

    @property
    def pool(self) -> Executor:
        return self._opening().executor

    def parts(self, items: Sequence[Item], rows: Callable[[Item], int]) -> list[tuple[Item, ...]]:
        """The items in one part, as what is cheapest, or in parts of about as many rows for workers that are apart."""
        if not self.apart or not items:
            return [tuple(items)]
        return packs(items, rows, self._opening().slots)

    def each(
        self, work: Callable[[Item], Result], items: Sequence[Item], rows: Callable[[Item], int], at_once: int = 0
    ) -> Iterator[tuple[Item, Result]]:
        """Each of `items` with what `work` returns for it, in the order in which they end.

        `rows` tells of how many rows an item is. At most `at_once` are given out at a time (0: all). The first that
        fails is raised, and what has not begun is given up.
        """
        yield from self._each(work, [(item,) for item in items], rows, at_once)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """What `work` returns for each of `items`, in their order, as that of an executor."""
        found = {id(item): result for item, result in self.each(work, items, lambda _: 1)}
        return (found[id(item)] for item in items)

    def each_small(
        self, work: Callable[[Item], Result], items: Sequence[Item], rows: Callable[[Item], int]
    ) -> Iterator[tuple[Item, Result]]:
        """The same for items that may be too small for the way to a worker: workers that are apart get several."""
        some = packs(items, rows, self._opening().slots) if self.apart and items else [(item,) for item in items]
        yield from self._each(work, some, rows)

    def _each(
        self,
        work: Callable[[Item], Result],
        some: Sequence[tuple[Item, ...]],
        rows: Callable[[Item], int],
        at_once: int = 0,
    ) -> Iterator[tuple[Item, Result]]:
        if not some:
            return
        # Nothing to do is done at once, without a cluster that would have to be found.
        place = (
            self._opening()
            if any(rows(item) for items in some for item in items)
            else Place(CallingThread(), 1, "this thread")
        )
        code = fingerprint() if self.apart else ""
        given = iter([Pack(work, items, code) for items in some])
        running: dict[Future[list[Any]], Pack] = {}
        done: SimpleQueue[Future[list[Any]]] = SimpleQueue()
        try:
            while True:
                for pack in islice(given, at_once - len(running) if at_once else None):
                    future = place.executor.submit(run_pack if self.apart else _run, pack)
                    running[future] = pack
                    future.add_done_callback(done.put)
                if not running:
                    return
                try:
                    future = done.get(timeout=LOOK_EVERY)
                except Empty:
                    place.check()
                    continue
                pack, results = running.pop(future), _result(future, place)
                if self.apart:
                    progress.add(sum(map(rows, pack.items)))
                yield from zip(pack.items, results, strict=True)
        except BaseException:
            for future in running:
                future.cancel()
            place.end()
            self._place = None  # another attempt begins with others
            raise

    def _opening(self) -> Place:
        if self._place is None:
            if self.apart and not self._said:
                progress.say(f"{self._stage}: engine: {self._chosen.text}")
                self._said = True
            self._place = self._opened.enter_context(self._open())
        return self._place

    def _open(self) -> AbstractContextManager[Place]:
        if self._chosen.kind == "processes":
            from pipeline.engine.processes import processes

            return processes(self._chosen.number)
        if self._chosen.kind == "dask":
            from pipeline.engine.cluster import cluster

            return cluster(self._chosen.address, self._look)
        return _here(self._threads)


def _run(pack: Pack) -> list[Any]:
    return [pack.work(item) for item in pack.items]


def _result(future: Future[Result], place: Place) -> Result:
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        place.check()
        raise lost(place.name, " ".join(str(error).split())[:200] or type(error).__name__, place.advice) from None


@contextmanager
def _here(threads: int) -> Iterator[Place]:
    if not threads:
        yield Place(CallingThread(), 1, "this thread")
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield Place(pool, threads, "threads", end=partial(pool.shutdown, cancel_futures=True))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def workers(stage: str, threads: int | None = None, look: Look = nothing) -> Iterator[Workers]:
    """Who runs the work of `stage`, for the length of the block. A line says which engine, where it is not threads.

    `threads` is for the engine of threads: as many in place of the number in PIPELINE_ENGINE; 0: the calling thread,
    for work that holds Python's lock. `look` tells what the workers' environment has to say, too, as which database it
    names. When the block fails, what has not begun is given up. Raises ParamsError for an engine that is none.
    """
    with ExitStack() as opened:
        yield Workers(stage, opened, threads, look)


@contextmanager
def executor(threads: int) -> Iterator[Executor]:
    """Threads of this process, whatever the engine."""
    with _here(threads) as place:
        yield place.executor
