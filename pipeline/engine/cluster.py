"""The workers of a Dask cluster, on any machines that mount this folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.core.errors import PipelineError
from pipeline.engine import certificates
from pipeline.engine.asked import compare
from pipeline.engine.place import Place, lost
from pipeline.engine.seen import meeting

if TYPE_CHECKING:
    from distributed import Client

# Seconds: to find the scheduler, to wait for a first worker, and for one after all have gone.
CONNECT, FIRST_WORKER, NO_WORKER = 10, 60, 60

# Seconds that the way to the scheduler may take to be given back.
CLOSE = 2

# What to do when a worker dies of a piece, the scheduler goes, or all workers do.
LOOK_AT_LOG = "look at the log of scheduler and workers; then dvc repro, which begins again"
START_BOTH = "start the scheduler, and then the workers, which end with it (docs/scale.md); then dvc repro"
START_WORKERS = "start workers in this folder: dask worker {} --nthreads 1 --no-dashboard; then dvc repro"


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
        watch = Watch(client, address, name)
        if not watch.slots():
            raise _no_worker(address, name, FIRST_WORKER)
        with meeting() as folder:
            try:
                compare(client, folder, look)
            except OSError:
                raise _no_scheduler(name) from None
            slots = watch.slots()
            if not slots:
                raise lost(name, "all workers were lost", START_WORKERS.format(address))
            # Not asked to try again: a piece whose worker was lost is given to another one in any case.
            executor = client.get_executor(pure=False, retries=0)
            yield Place(executor, slots, name, watch, advice=LOOK_AT_LOG)
    finally:
        with suppress(Exception):  # a cluster that is gone
            client.close(timeout=CLOSE)


def _connect(address: str) -> Client:
    try:
        from distributed import Client, Security
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
    tls = address.startswith("tls://")
    if tls:
        own = Security()  # by the environment, or a file of Dask's own in ~/.config/dask
        certificates.check(
            {
                certificates.CA: own.tls_ca_file,
                certificates.CERT: own.tls_client_cert,
                certificates.KEY: own.tls_client_key,
            }
        )
    try:
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # as wrong certificates, a port that nobody serves
        raise PipelineError(
            f"no Dask scheduler answers: {' '.join(str(error).split())[:200]}",
            where=f"PIPELINE_ENGINE, {address}",
            expected="a scheduler of the same version that is reached from here"
            + (f", with certificates of the authority in {certificates.CA} on both sides" if tls else ""),
            next_step="start the scheduler, and then the workers, which end with it (docs/scale.md); "
            + ("if it runs, compare the certificates; " if tls else "")
            + "or unset PIPELINE_ENGINE to run in threads",
        ) from None


def _no_worker(address: str, name: str, seconds: float) -> PipelineError:
    return lost(name, f"there was no worker for {seconds:.0f} s", START_WORKERS.format(address))


def _no_scheduler(name: str) -> PipelineError:
    return lost(name, "the way to the scheduler broke off", START_BOTH)


class Watch:
    """Raises PipelineError when the scheduler is gone, or there has been no worker for long."""

    def __init__(self, client: Client, address: str, name: str) -> None:
        self._client, self._address, self._name = client, address, name
        self._some = time.monotonic()

    def __call__(self) -> None:
        if self.slots():
            self._some = time.monotonic()
        elif time.monotonic() - self._some > NO_WORKER:
            raise _no_worker(self._address, self._name, NO_WORKER)

    def slots(self) -> int:
        """How many pieces the workers run at once. Raises PipelineError when the scheduler is gone."""
        try:
            found = self._client.nthreads() if self._client.status == "running" else None
        except Exception:  # of several libraries, as the connection happens to end
            found = None
        if found is None:
            raise _no_scheduler(self._name)
        return sum(found.values())
