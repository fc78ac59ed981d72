"""Break a Dask cluster on purpose while stages run on it, and count what came of it, as benchmarks.faults does.

Workers stand in network namespaces of their own, where the machine allows it; else no link is cut, and that is said.
After each try no connection may be left in PostgreSQL, and DuckDB's rows are compared one by one with those that
psycopg2 reads.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.cluster import DASK, Cluster
from benchmarks.lab import Fault, Lab, conclude, fill, record
from benchmarks.report import STAGES
from benchmarks.standby import dsn
from pipeline.sample import server as pgserver

# Addresses that no other network of the machine should have (RFC 2544).
NET = "198.18.77"

# Seconds until Dask takes a worker for lost whose link is cut, and PostgreSQL has ended its connection.
LONG = 90


LEFT = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class Spaces:
    """Two network namespaces, each with a link to a bridge of this machine that may be cut."""

    def __init__(self) -> None:
        self.names = [f"be-{os.getpid()}-{n}" for n in (1, 2)]
        self.bridge = f"be{os.getpid() % 10_000_000}"

    def make(self) -> None:
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{NET}.1/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for n, name in enumerate(self.names):
            _ip("netns", "add", name)
            _ip("link", "add", self.link(n), "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", self.link(n), "master", self.bridge, "up")
            _ip("-n", name, "addr", "add", f"{NET}.{n + 2}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")

    def link(self, n: int) -> str:
        return f"{self.bridge}v{n}"

    def cut(self, n: int) -> None:
        _ip("link", "set", self.link(n), "down")

    def mend(self, n: int) -> None:
        _ip("link", "set", self.link(n), "up")

    def remove(self) -> None:
        for name in self.names:
            _ip("netns", "del", name, check=False)
        _ip("link", "del", self.bridge, check=False)


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


@contextmanager
def spaces() -> Iterator[Spaces | None]:
    """None where this user or machine makes none."""
    made = Spaces()
    try:
        try:
            made.make()
        except (OSError, subprocess.CalledProcessError):
            print("faults-dask: no network namespaces here; links stay whole", file=sys.stderr)
            yield None
            return
        yield made
    finally:
        made.remove()


class Broken:
    """A lab whose stages run on a cluster, which is made whole again before each try."""

    def __init__(self, lab: Lab, chance: random.Random, made: Spaces | None) -> None:
        self.lab, self.chance, self.spaces = lab, chance, made
        self.cluster = Cluster(lab.folder, lab.env, f"{NET}.1" if made else "127.0.0.1")
        lab.env = self.cluster.env
        self.mend()

    def mend(self) -> None:
        """A scheduler and two workers that live."""
        if self.cluster.scheduler.poll() is not None:
            self.cluster.stop()
            self.cluster.start()
        living = [worker for worker in self.cluster.workers if worker.poll() is None]
        if len(living) == 2 and self.spaces is None:
            return
        for worker in self.cluster.workers:  # each in its own namespace
            worker.kill()
            worker.wait()
        self.cluster.workers.clear()
        for n in range(2 if self.spaces else 0):
            self.spaces.mend(n)  # type: ignore[union-attr]
        for n in range(2):
            within = ("ip", "netns", "exec", self.spaces.names[n]) if self.spaces else ()
            self.cluster.worker(*within)

    def try_(self, fault: Fault, stage: str, break_: Callable[[subprocess.Popen[str]], None]) -> None:
        """Break something while `stage` runs; then judge what it said, and what is left."""
        self.lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            self.lab.must(before)
        process = self.lab.start(stage)
        if stage == "extract":
            while process.poll() is None and not self.lab.copying():
                pass
        else:
            time.sleep(self.chance.uniform(1.0, 2.5))
        break_(process)
        _, said = process.communicate(timeout=2 * LONG)
        begin = time.monotonic()
        while left := self.left():
            if time.monotonic() - begin > LONG:
                fault.unclear.append(f"{left} connections are left")
                break
            time.sleep(0.2)
        self.mend()
        record(self.lab, fault, process.returncode, said)

    def cut(self, fault: Fault, stage: str, worker: int) -> None:
        assert self.spaces is not None
        spaces = self.spaces
        self.try_(fault, stage, lambda _: spaces.cut(worker))

    def left(self) -> int:
        with closing(self.lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(LEFT)
            return int(cursor.fetchall()[0][0])


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def worker_killed(broken: Broken, stage: str, times: int) -> Fault:
    fault = Fault(f"a worker is killed in {stage}")
    for number in broken.lab.tries(times):
        broken.try_(fault, stage, lambda _, n=number: killed(broken.cluster.workers[n % 2]))  # type: ignore[misc]
    return fault


def link_cut(broken: Broken, stage: str, times: int) -> Fault:
    fault = Fault(f"a worker's link is cut in {stage}")
    for number in broken.lab.tries(times if broken.spaces else 0):
        broken.cut(fault, stage, number % 2)
    return fault


def driver_killed(broken: Broken, stage: str, times: int) -> Fault:
    fault = Fault(f"the driver is killed in {stage}")
    for _ in broken.lab.tries(times):
        broken.try_(fault, stage, lambda process: process.kill())
    return fault


def scheduler_killed(broken: Broken, stage: str, times: int) -> Fault:
    fault = Fault(f"the scheduler is lost in {stage}")
    for _ in broken.lab.tries(times):
        broken.try_(fault, stage, lambda _: killed(broken.cluster.scheduler))
    return fault


def other_code(broken: Broken, times: int) -> Fault:
    """A module is changed after the workers have begun: they are refused until they are started again."""
    fault = Fault("workers with other code")
    file = broken.lab.folder / "pipeline" / "days" / "copy.py"
    good = file.read_bytes()
    for _ in broken.lab.tries(times):
        broken.lab.reset()
        broken.lab.must("extract")
        file.write_bytes(good + b"# another line\n")
        code, said = broken.lab.attempt("extract")
        if code != 1 or "do not share" not in said:
            fault.unclear.append(f"{code}: {said[-300:]}")
        file.write_bytes(good)
        record(broken.lab, fault, code, said)
    return fault


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults_dask", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="tries of each fault; 3 by default")
    parser.add_argument("--minutes", type=float, default=40, help="no try begins after these; 40 by default")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--short", action="store_true", help="one stage of each fault but the killed worker")
    args = parser.parse_args()
    if not DASK.is_dir():
        raise SystemExit("faults-dask: there is no Dask; next: make .venv/bin/.ready-dask")
    home = pgserver.private_folder(f"behavioral-events-faults-{os.urandom(4).hex()}")
    found: list[Fault] = []
    some = ("extract",) if args.short else tuple(STAGES)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="behavioral-events-") as name,
            spaces() as made,
            pgserver.running(home, "faults", fill, listen_addresses="*", port="54399") as where,
        ):
            reach(home, where, made)
            lab = Lab(where, home, Path(name), args.minutes)
            broken = Broken(lab, random.Random(args.seed), made)
            faults: list[Callable[[], Fault]] = [
                *(lambda stage=stage: worker_killed(broken, stage, args.times) for stage in STAGES),
                *(lambda stage=stage: link_cut(broken, stage, args.times) for stage in some),
                *(lambda stage=stage: driver_killed(broken, stage, args.times) for stage in some),
                *(lambda stage=stage: scheduler_killed(broken, stage, args.times) for stage in some),
                lambda: other_code(broken, args.times),
            ]
            try:
                for fault in faults:
                    found.append(fault())
                    print(f"faults-dask: {found[-1].name}: {found[-1].tries} tries", file=sys.stderr, flush=True)
            finally:
                broken.cluster.remove()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    conclude("faults-dask", found)


def reach(home: Path, where: dict[str, str], made: Spaces | None) -> None:
    """Let the workers' addresses in; all then come by TCP, which can be cut."""
    import psycopg2

    with open(home / "data" / "pg_hba.conf", "a", encoding="utf-8") as file:
        file.write(f"host all all {NET}.0/24 trust\nhost all all 127.0.0.1/32 trust\n")
    with closing(psycopg2.connect(dsn(where))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_reload_conf()")
    where["host"] = f"{NET}.1" if made else "127.0.0.1"


if __name__ == "__main__":
    main()
