"""A place where pieces of work run, and the words for what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, ParamSpec, TypeVar

from pipeline.core.errors import PipelineError
from pipeline.core.inputs import fingerprint

Arguments = ParamSpec("Arguments")
Item = TypeVar("Item")
Result = TypeVar("Result")


def _nothing() -> None:
    """There is nothing to do."""


class Place(NamedTuple):
    """An executor, how many pieces it runs at once, and how a message names it.

    `check` raises PipelineError when no piece will end any more; `end` ends those that run, if that can be done;
    `advice` is what to do when it gives the work up.
    """

    executor: Executor
    slots: int
    name: str
    check: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing
    advice: str = ""


class CallingThread(Executor):
    """Runs each piece at once, in the caller's own thread, where a signal can interrupt it."""

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(fn(*args, **kwargs))  # what it raises, it raises here
        return future


class Pack(NamedTuple):
    """Pieces that go to a worker together: what is done with each, and the code of those who ask."""

    work: Callable[[Any], Any]
    items: Sequence[Any]
    code: str  # its fingerprint

    def __repr__(self) -> str:
        """A worker logs a piece that fails. It may hold ids of users."""
        return f"{len(self.items)} x {getattr(self.work, '__name__', 'work')}"


def run_pack(pack: Pack) -> list[Any]:
    """What `work` returns for each item, on a worker. Raises PipelineError when the worker runs other code."""
    if pack.code != fingerprint():
        raise other_code("a worker")
    return [pack.work(item) for item in pack.items]


def other_code(who: str) -> PipelineError:
    return PipelineError(
        f"{who} runs other code than this one",
        where="the workers of PIPELINE_ENGINE",
        expected="the files of this folder, loaded after they were last changed",
        next_step="start the workers again in this folder, then the same command",
    )


def lost(name: str, said: str, advice: str) -> PipelineError:
    """Whoever has `name` ended before the work did. `advice` is what to do, in a command or two."""
    return PipelineError(
        f"{name} gave the work up: {said}",
        where=name,
        expected="workers that stay until the work is done, with memory for it (docs/scale.md)",
        next_step=advice,
    )
