"""Dask's LocalCluster of worker processes with one thread each, in a process of its own, and what each of them took.

As a program it runs the cluster until its input ends, and prints a line of JSON: the address and the workers' ids.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import DASK
from benchmarks.measuring import PYTHON_M, stop

END = 20  # seconds in which a cluster should have ended


def with_dask(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Dask is found that stands beside the pipeline's packages."""
    return {**env, "PYTHONPATH": str(DASK)} if DASK.is_dir() else dict(env)


def has_dask() -> bool:
    return DASK.is_dir() or importlib.util.find_spec("distributed") is not None


class Took(NamedTuple):
    """Core seconds of the scheduler and of all workers so far, and the peak MB of the largest worker."""

    scheduler: float
    workers: float
    peak_mb: float


class LocalCluster(NamedTuple):
    """`env` has what a stage needs to have its work done here."""

    env: dict[str, str]
    scheduler: int
    workers: list[int]

    def took(self) -> Took:
        return Took(core_seconds(self.scheduler), sum(map(core_seconds, self.workers)), max(map(peak_mb, self.workers)))


def core_seconds(process: int) -> float:
    """User and system time of all threads of a process; proc(5)."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    # Fields 14 and 15; the name, field 2, may hold spaces.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float:
    """The most memory that a process has held so far, in MB of 1,000,000 bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


@contextmanager
def local_cluster(folder: Path, env: Mapping[str, str], workers: int) -> Iterator[LocalCluster]:
    """A scheduler, and workers in the folder of a project, for the length of the block."""
    own = {**with_dask(env), "DASK_TEMPORARY_DIRECTORY": str(folder.parent)}
    process = subprocess.Popen(
        [*PYTHON_M, "benchmarks.local_cluster", str(workers)],
        cwd=folder,
        env=own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what Dask logs of connections that end
        start_new_session=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise SystemExit(f"bench: LocalCluster ended with {process.wait()}")
        said = json.loads(line)
        yield LocalCluster({**own, "PIPELINE_ENGINE": f"dask:{said['address']}"}, process.pid, said["workers"])
    finally:
        if process.stdin:
            process.stdin.close()  # and so it ends in order
        with suppress(subprocess.TimeoutExpired):
            process.wait(END)
        stop(process)


def main() -> None:
    from distributed import LocalCluster as Cluster

    number = int(sys.argv[1])
    with Cluster(n_workers=number, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        print(
            json.dumps({"address": cluster.scheduler_address, "workers": [w.pid for w in cluster.workers.values()]}),
            flush=True,
        )
        sys.stdin.read()


if __name__ == "__main__":
    main()
