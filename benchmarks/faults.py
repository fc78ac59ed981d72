"""Break things on purpose, with real processes and signals on a real PostgreSQL, and count what came of it.

Each fault is tried several times. A try ends complete or with a clear error: an exit code of the README's table, what
to do next, no traceback. Then, with the fault gone, a run has to complete, and DuckDB's rows are compared one by one
with those that psycopg2 reads. Ends with 1 when a row was lost or doubled, an error was not clear or a file was left.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import duckdb
import psycopg2

from benchmarks import standby
from benchmarks.damage import LINKS, damaged_object
from benchmarks.lab import DVC, TABLE, UNTIL, Fault, Lab, conclude, fill, record
from benchmarks.moves import all_moves
from benchmarks.relay import relay
from benchmarks.report import STAGES
from benchmarks.standby import dsn, url
from pipeline.sample import server as pgserver


def killed(lab: Lab, stage: str, times: int, chance: random.Random) -> Fault:
    fault = Fault(f"kill -9 of {stage} at a random moment")
    for _ in lab.tries(times):
        lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            lab.must(before)
        process = lab.start(stage)
        time.sleep(chance.uniform(0.1, 1.0))
        process.kill()
        _, said = process.communicate()
        record(lab, fault, process.returncode, said)
    return fault


def while_copying(lab: Lab, name: str, times: int, break_: Callable[[list[int]], None]) -> Fault:
    fault = Fault(name)
    for _ in lab.tries(times):
        lab.reset()
        process = lab.start("extract")
        while process.poll() is None:
            with suppress(psycopg2.Error):
                if pids := lab.copying():
                    break_(pids)
                    break
        _, said = process.communicate(timeout=120)
        record(lab, fault, process.returncode, said)
    return fault


def terminated(lab: Lab, times: int) -> Fault:
    def break_(pids: list[int]) -> None:
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pids[0]])

    return while_copying(lab, "a backend terminated within COPY", times, break_)


def restarted(lab: Lab, times: int) -> Fault:
    return while_copying(lab, "the server restarted within COPY", times, lambda _: lab.restart())


def refused(lab: Lab, times: int) -> Fault:
    fault = Fault("connections refused for ten seconds")
    for _ in lab.tries(times):
        lab.reset()
        pgserver.stop(lab.bin, lab.home / "data")
        process = lab.start("extract")
        later = threading.Timer(10, pgserver.start, (lab.bin, lab.home / "data", lab.home / "log"), standby.PRIMARY)
        later.start()
        _, said = process.communicate(timeout=180)
        later.join()
        record(lab, fault, process.returncode, said)
    return fault


def full(lab: Lab, times: int) -> Fault:
    """All connections that the role may have are taken, for two seconds."""
    fault = Fault("too many connections")
    with closing(lab.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS guest")
        cursor.execute(f"CREATE ROLE guest LOGIN CONNECTION LIMIT 4; GRANT SELECT ON {TABLE} TO guest")
    lab.env["DATABASE_URL"] = url({**lab.where, "user": "guest"})
    for _ in lab.tries(times):
        lab.reset()
        taken = [psycopg2.connect(dsn(lab.where), user="guest") for _ in range(4)]
        process = lab.start("extract")
        for connection in taken:
            threading.Timer(2, connection.close).start()
        _, said = process.communicate(timeout=120)
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER ROLE guest CONNECTION LIMIT -1")
        record(lab, fault, process.returncode, said)
        with closing(lab.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER ROLE guest CONNECTION LIMIT 4")
    lab.env["DATABASE_URL"] = url(lab.where)
    return fault


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A tmpfs in the place of `folder`; yields whether there is one, which takes the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def fill_up(file: Path, leave: int) -> None:
    """Take all the space that is left but for `leave` bytes."""
    with open(file, "wb", buffering=0) as filler:
        with suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        filler.truncate(max(filler.tell() - leave, 0))


def disk_full(lab: Lab, stage: str, times: int) -> Fault:
    """The stages before ran; what is left of the disk is less than the stage needs."""
    fault = Fault(f"the disk fills up in {stage}")
    for number in lab.tries(times):
        lab.reset()
        for before in STAGES[: STAGES.index(stage)]:
            lab.must(before)
        data, aside = lab.folder / "data", lab.folder / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        data.rename(aside) if data.exists() else aside.mkdir()
        used = sum(-(-p.stat().st_size // 4096) * 4 + 4 for p in aside.rglob("*"))
        with small_disk(data, used + 256) as mounted:
            if not mounted:
                aside.rename(data) if not data.exists() else shutil.copytree(aside, data, dirs_exist_ok=True)
                return fault
            shutil.copytree(aside, data, dirs_exist_ok=True)
            fill_up(data / "filler", leave=number * 4096)
            code, said = lab.attempt(stage)
            kept = {p.relative_to(data): p.read_bytes() for p in data.rglob("*.parquet")} if code else {}
            before_ = {p.relative_to(aside): p.read_bytes() for p in aside.rglob("*.parquet")}
            if code and kept != before_:
                fault.unclear.append("earlier files are not as they were")
        shutil.rmtree(data, ignore_errors=True)
        aside.rename(data)
        record(lab, fault, code, said)
    return fault


def held_open(lab: Lab, times: int) -> Fault:
    fault = Fault("a reader holds analytics.duckdb open")
    for _ in lab.tries(times):
        lab.finish()
        with duckdb.connect(str(lab.folder / "data/analytics.duckdb"), read_only=True):
            code, said = lab.attempt("load")
        record(lab, fault, code, said)
    return fault


def read_only(lab: Lab, times: int) -> Fault:
    fault = Fault("a read-only data folder")
    for _ in lab.tries(times):
        lab.reset()
        data = lab.folder / "data"
        with small_disk(data, 64) as mounted:
            if mounted:
                subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
            else:
                data.chmod(0o500)  # which stops everybody but root
            code, said = lab.attempt("extract")
            data.chmod(0o700) if not mounted else None
        record(lab, fault, code, said)
    return fault


def cancelled_by_replay(lab: Lab, times: int, home: Path) -> Fault:
    """extract reads a hot standby, whose replay of the primary's log takes away what the snapshot sees."""
    name = "a standby cancels the query (recovery conflict)"
    with standby.standby(lab.where, lab.bin, home, "54330") as other:
        standby.catch_up(lab.where, other)
        lab.env["DATABASE_URL"] = url(other)
        source, lab.where = lab.where, other
        try:
            return while_copying(lab, name, times, lambda _: standby.conflict(source))
        finally:
            lab.where = source
            lab.env["DATABASE_URL"] = url(source)


def twice(lab: Lab, times: int) -> Fault:
    """Two dvc repro in one checkout: one waits, or says that the other is at it."""
    fault = Fault("two dvc repro at once")
    for _ in lab.tries(times):
        lab.reset()
        (lab.folder / "dvc.lock").unlink(missing_ok=True)
        both = [lab.process([*DVC, "repro"]) for _ in range(2)]
        said = [process.communicate(timeout=180)[1] for process in both]
        good = 0 in [process.returncode for process in both]
        words = all(process.returncode == 0 or "lock" in text for process, text in zip(both, said, strict=True))
        record(lab, fault, 0 if good and words else 255, " ".join(said))
    return fault


def wrong_clock(lab: Lab, times: int) -> Fault:
    """refresh on a machine whose clock is days or years off, by libfaketime: the pins stay as they were."""
    fault = Fault("a wrong clock while refresh runs")
    installed = next(iter(find_spec("libfaketime").submodule_search_locations))  # type: ignore[union-attr,arg-type]
    library = lab.folder / "libfaketime.so.1"  # LD_PRELOAD takes no path with a space
    shutil.copy2(next(Path(installed).rglob(library.name)), library)
    good = (lab.folder / "watermark.yaml").read_bytes()
    for number in lab.tries(times):
        shift = ("-2d", "@2020-01-01 00:00:00", "+1d")[number % 3]
        lab.env |= {"LD_PRELOAD": str(library), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        code, said = lab.attempt("refresh")
        for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            del lab.env[name]
        if code == 0 or (lab.folder / "watermark.yaml").read_bytes() != good:
            fault.unclear.append(f"refresh believed a clock of {shift}")
            (lab.folder / "watermark.yaml").write_bytes(good)
        record(lab, fault, code, said)
    return fault


def silent(lab: Lab, times: int, chance: random.Random) -> Fault:
    """Each connection passes so many bytes and no more, staying open; once it ends of itself, once it gets SIGTERM."""
    fault = Fault("a network that goes silent, staying open")
    params = lab.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    short = re.sub(r"(?m)^  (stall_timeout|lock_timeout|attempts): \d+", r"  \1: 1", text)
    for number in lab.tries(times):
        lab.reset()
        params.write_text(short, encoding="utf-8")
        with relay(lab.where, chance.choice([0, 200, 1_500, 300_000])) as way:
            host = f"postgresql://{lab.where['user']}@127.0.0.1:{way.port}/{lab.where['dbname']}"
            lab.env["DATABASE_URL"] = f"{host}?sslmode=disable&connect_timeout=2"
            process = lab.start("extract")
            begin = time.monotonic()
            if number % 2:
                way.silent.wait(30)
                process.terminate()
            _, said = process.communicate(timeout=120)
            if time.monotonic() - begin > 30:
                fault.unclear.append("it took longer than its bounds")
        lab.env["DATABASE_URL"] = url(lab.where)
        params.write_text(text, encoding="utf-8")
        record(lab, fault, process.returncode, said)
    return fault


def words(lab: Lab, times: int) -> Fault:
    """A row of 20 MB with a word in its text that begins as a number would that JSON has not."""
    fault = Fault("a body with words such as nan and info")
    for number in lab.tries(times):
        word = ("some info", "nan", "-Infinity, NaN")[number % 3]
        lab.sql(
            'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp, "timeOfDay") '
            f"SELECT 'c' || repeat('w', 24), \"userId\", 'FLASHCARD_FLIP', jsonb_build_object('x', "
            f"repeat('QUJDREVGR0hJSktM', 1250000), 'k', '{word}'), timestamp, 0 FROM behavioral_events LIMIT 1"
        )
        lab.must("refresh", "--until", UNTIL)
        lab.rows = lab.expected()
        record(lab, fault, 0, "")
        lab.sql("DELETE FROM behavioral_events WHERE id LIKE 'cw%'")
        lab.must("refresh", "--until", UNTIL)
        lab.rows = lab.expected()
    return fault


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="kill -9 in all, over the four stages; 100 by default")
    parser.add_argument("--times", type=int, default=3, help="tries of each other fault; 3 by default")
    parser.add_argument("--minutes", type=float, default=40, help="no try begins after these; 40 by default")
    parser.add_argument("--skip", type=int, default=0, help="faults from the begin of the list")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    home = pgserver.private_folder(f"behavioral-events-faults-{os.urandom(4).hex()}")
    second = pgserver.private_folder(f"{home.name}-standby")
    found: list[Fault] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="behavioral-events-") as name,
            pgserver.running(home, "faults", fill, **standby.PRIMARY) as where,
        ):
            lab = Lab(where, home, Path(name), args.minutes)
            faults: list[Callable[[], Fault]] = [
                *(lambda stage=stage: killed(lab, stage, args.kills // 4, chance) for stage in STAGES),
                lambda: terminated(lab, args.times),
                lambda: restarted(lab, args.times),
                lambda: refused(lab, 1),
                lambda: full(lab, args.times),
                *(lambda stage=stage: disk_full(lab, stage, args.times) for stage in STAGES),
                *all_moves(lab, args.times, chance),
                *(lambda link=link: damaged_object(lab, link, max(args.times, 4), chance) for link in LINKS),
                lambda: wrong_clock(lab, args.times),
                lambda: silent(lab, args.times, chance),
                lambda: words(lab, args.times),
                lambda: held_open(lab, args.times),
                lambda: read_only(lab, args.times),
                lambda: twice(lab, args.times),
                lambda: cancelled_by_replay(lab, args.times, second),
            ]
            for fault in faults[args.skip :] if args.times else faults[: len(STAGES)]:
                found.append(fault())
                print(f"faults: {found[-1].name}: {found[-1].tries} tries", file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(second, ignore_errors=True)
    conclude("faults", found)


if __name__ == "__main__":
    main()
