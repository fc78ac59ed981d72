"""The workers of a Dask cluster, on any machines that mount this folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import PipelineError
from pipeline.core.progress import count
from pipeline.engine.place import Place, lost
from pipeline.engine.seen import Seen, differences, meeting, see

if TYPE_CHECKING:
    from distributed import Client

# Seconds: to find the scheduler, to wait for a first worker, and for one after all have gone.
CONNECT, FIRST_WORKER, NO_WORKER = 10, 60, 60

# Seconds that the way to the scheduler may take to be given back.
CLOSE = 2

# Workers that a message names before the rest is only counted.
NAMED = 3


@contextmanager
def cluster(address: str, look: Callable[[], Mapping[str, str]]) -> Iterator[Place]:
    """The workers of the scheduler at `address`, for the length of the block.

    Raises PipelineError when there are none, or when one of them sees another folder, other code or libraries, or has
    another environment by what `look` tells.
    """
    client = _connect(address)
    name = f"the Dask cluster at {address}"
    try:
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        slots = sum(client.nthreads().values())
        if not slots:
            raise _no_worker(name, FIRST_WORKER)
        with meeting() as folder:
            _compare(client, folder, look)
            # Not asked to try again: a piece whose worker was lost is given to another one in any case.
            executor = client.get_executor(pure=False, retries=0)
            yield Place(executor, slots, name, Watch(client, name))
    finally:
        with suppress(Exception):  # a cluster that is gone
            client.close(timeout=CLOSE)


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise PipelineError(
            "PIPELINE_ENGINE names a Dask cluster, and Dask is not installed",
            where="the Python of this run",
            expected="the packages of requirements-dask.txt, here and where the workers run",
            next_step="pip install -r requirements-dask.txt",
        ) from None
    # What it logs of a scheduler that is gone is said in one error.
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # as wrong certificates, a port that nobody serves
        raise PipelineError(
            f"no Dask scheduler answers: {' '.join(str(error).split())[:200]}",
            where=f"PIPELINE_ENGINE, {address}",
            expected="a scheduler of the same version that is reached from here; with tls:// its certificates, too",
            next_step="start the scheduler (docs/scale.md), or unset PIPELINE_ENGINE to run in threads",
        ) from None


def _compare(client: Client, folder: Path, look: Callable[[], Mapping[str, str]]) -> None:
    """Raise PipelineError unless each worker sees what this process does."""
    mine = see(folder, look)
    answers: Mapping[str, Any] = client.run(see, folder, look, on_error="return")
    seen = {worker: answer for worker, answer in answers.items() if isinstance(answer, Seen)}
    found = [f"{worker}: {type(error).__name__}: {error}" for worker, error in answers.items() if worker not in seen]
    found += differences(mine, seen)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise PipelineError(
            f"{count(len(found), 'thing')} that workers do not share: {'; '.join(found[:NAMED])}{more}",
            where="the workers of PIPELINE_ENGINE",
            expected="workers that were started in this folder, on a file system that all machines mount, after the "
            "code was last changed, with the packages of requirements.txt and the same DATABASE_URL and PSEUDONYM_KEY",
            next_step="mend that on the workers (docs/scale.md), start them again; then the same command",
        )


def _no_worker(name: str, seconds: float) -> PipelineError:
    return lost(name, f"there was no worker for {seconds:.0f} s")


class Watch:
    """Raises PipelineError when the scheduler is gone, or there has been no worker for long."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name
        self._some = time.monotonic()

    def __call__(self) -> None:
        try:
            some = self._client.nthreads() if self._client.status == "running" else None
        except Exception:  # of several libraries, as the connection happens to end
            some = None
        if some is None:
            raise lost(self._name, "the way to the scheduler broke off")
        if some:
            self._some = time.monotonic()
        elif time.monotonic() - self._some > NO_WORKER:
            raise _no_worker(self._name, NO_WORKER)
