"""Objects of DVC's cache that a disk has damaged, for each way that DVC links them, and the way out."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.lab import DVC, PYTHON_M, Fault, Lab, record

LINKS = ("copy", "hardlink", "symlink")

QUERY = [*PYTHON_M, "commands.query", "SELECT count(*) FROM behavioral_events"]
MEND = [*PYTHON_M, "commands.mend"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [flip, zero, empty, Path.unlink]


def by_the_disk(file: Path, damage: Callable[[Path], None]) -> None:
    """The file keeps its rights, by which DVC takes it for whole."""
    file.chmod(0o644)
    damage(file)
    if file.exists():
        file.chmod(0o444)


def damaged_object(lab: Lab, link: str, times: int, chance: random.Random) -> Fault:
    """An object is damaged, the data are brought back from the cache and asked; then what the messages say is done."""
    fault = Fault(f"a damaged object of the cache ({link})")
    lab.reset()
    lab.run([*DVC, "config", "cache.type", link])
    for number in lab.tries(times):
        lab.run([*DVC, "repro"])
        objects = sorted(file for file in (lab.folder / ".dvc/cache/files").rglob("*") if file.is_file())
        by_the_disk(chance.choice(objects), DAMAGES[number % len(DAMAGES)])
        shutil.rmtree(lab.folder / "data")
        code, said = lab.run([*DVC, "checkout", "--force"])
        if code == 0:
            code, said = lab.run(QUERY)
            if code == 0 and lab.found() != lab.rows:
                fault.unclear.append("a query answers from damaged files")
        else:
            code, said = 4, f"next: {said}"  # DVC's own words
        for command in (MEND, [*DVC, "repro", "--force"], QUERY):
            ended, answer = lab.run(command)
            # What was whole nowhere is removed, and that is said with an error.
            if ended and command is not MEND:
                fault.unclear.append(f"{' '.join(command[2:4])} after mend: {answer[-300:]}")
        record(lab, fault, code, said)
    for left in ("data", ".dvc/cache"):
        shutil.rmtree(lab.folder / left, ignore_errors=True)
    (lab.folder / "dvc.lock").unlink()
    lab.run([*DVC, "config", "--unset", "cache.type"])
    return fault
