"""Workers that are apart, without another process: what a test changes holds for them, too."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.engine import processes
from pipeline.engine.place import Place


class Recording(Executor):
    """As far away as a worker: pieces and results are pickled on the way, and kept."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.pool = ThreadPoolExecutor(4)
        self.open = self.most = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(pickle.dumps((fn, args, kwargs)))
        self.open += 1
        self.most = max(self.most, self.open)
        return self.pool.submit(self._run, self.sent[-1])

    def _run(self, sent: bytes) -> Any:
        fn, args, kwargs = pickle.loads(sent)
        result = pickle.loads(pickle.dumps(fn(*args, **kwargs)))
        self.open -= 1
        return result


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    made = Recording()

    @contextmanager
    def place(number: int) -> Iterator[Place]:
        yield Place(made, number, "recording")

    monkeypatch.setattr(processes, "processes", place)
    monkeypatch.setenv("PIPELINE_ENGINE", "processes:4")
    return made
