"""All workers of a cluster asked what they see, before any of them gets work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import PipelineError
from pipeline.core.progress import count
from pipeline.engine.seen import Seen, differences, elsewhere, see

if TYPE_CHECKING:
    from distributed import Client

# Seconds in which a worker answers. One that works does, too.
ANSWER = 60

# A worker that fails is asked once more, if the scheduler still has it.
TIMES = 2

# Workers that a message names before the rest is only counted.
NAMED = 3

# Where DVC puts the folders of experiments.
EXPERIMENTS = ".dvc/tmp/exps"


def compare(client: Client, folder: Path, look: Callable[[], Mapping[str, str]]) -> None:
    """Raise PipelineError unless each worker sees what this process does. One that is lost meanwhile is left out.

    Raises OSError when the scheduler is lost.
    """
    mine = see(folder, look)
    seen: dict[str, Seen] = {}
    failed: dict[str, Exception] = {}
    for _ in range(TIMES):
        workers = [worker for worker in client.nthreads() if worker not in seen]
        answers = _ask(client, workers, see, folder, look)
        if silent := [worker for worker in _living(client, workers) if worker not in answers]:
            raise _silent(silent)
        seen |= {worker: answer for worker, answer in answers.items() if isinstance(answer, Seen)}
        failed = {worker: answers[worker] for worker in workers if worker in answers and worker not in seen}
        if not failed:
            break
    failed = {worker: failed[worker] for worker in _living(client, failed)}
    if broken := {worker: error for worker, error in failed.items() if isinstance(error, OSError)}:
        raise _broken(broken)
    found = _without_code(client, failed) + differences(mine, seen)
    if found:
        raise _other(found)


def _ask(client: Client, workers: Sequence[str], what: Callable[..., object], *arguments: object) -> dict[str, Any]:
    """What each worker returns, or the exception; nothing of those that are silent for ANSWER seconds."""

    async def one(worker: str) -> Any:
        # Each for itself: of all together there is no answer before the last has come.
        answers = await client.run(what, *arguments, workers=[worker], on_error="return")
        return answers[worker]

    async def each() -> dict[str, Any]:
        asked = {asyncio.ensure_future(one(worker)): worker for worker in workers}
        done, late = await asyncio.wait(asked, timeout=ANSWER)
        for task in late:
            task.cancel()
        return {asked[task]: task.result() for task in done}

    answers: dict[str, Any] = client.sync(each) if workers else {}
    return answers


def _living(client: Client, workers: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Those that the scheduler still has."""
    now = client.nthreads()
    return [worker for worker in workers if worker in now]


def _without_code(client: Client, failed: Mapping[str, Exception]) -> list[str]:
    """Of each worker that could not even look, why. One in another folder has no module `pipeline`."""
    folders = _ask(client, list(failed), os.getcwd)
    return [
        f"{elsewhere(worker, folders[worker])}: {error}"
        if folders.get(worker) not in (str(Path.cwd()), None)
        else f"{worker}: {type(error).__name__}: {error}"
        for worker, error in failed.items()
    ]


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more


def _silent(workers: Sequence[str]) -> PipelineError:
    return PipelineError(
        f"{count(len(workers), 'worker')} did not answer within {ANSWER:g} s: {_some(workers)}",
        where="the workers of PIPELINE_ENGINE",
        expected="workers that answer, as they also do while they work; these hang, or their machine does",
        next_step="end these workers (kill -KILL: one that hangs hears nothing else); then dvc repro",
    )


def _broken(errors: Mapping[str, Exception]) -> PipelineError:
    return PipelineError(
        f"{count(len(errors), 'worker')} can't be reached: "
        f"{_some([f'{worker}: {type(error).__name__}: {error}' for worker, error in errors.items()])}",
        where="the workers of PIPELINE_ENGINE",
        expected="workers that the scheduler reaches at the addresses that it has of them",
        next_step="look at the log of these workers, and end them where they are of no use; then dvc repro",
    )


def _other(found: Sequence[str]) -> PipelineError:
    next_step = "mend that on the workers (docs/scale.md), start them again; then the same command"
    if EXPERIMENTS in Path.cwd().as_posix():
        next_step = (
            "no worker can stand in the folder of an experiment that DVC runs apart: give PIPELINE_ENGINE=threads:2 to "
            "it, or leave out --temp and --queue"
        )
    return PipelineError(
        f"{count(len(found), 'thing')} that workers do not share: {_some(found)}",
        where="the workers of PIPELINE_ENGINE",
        expected="workers that were started in this folder, on a file system that all machines mount, after the "
        "code was last changed, with the packages of requirements.txt and the same DATABASE_URL and PSEUDONYM_KEY",
        next_step=next_step,
    )
