"""An input that is changed at a random moment while a stage runs, as by an editor, `git pull` or another run.

A try that ends with 0 is held against a run from nothing with the input as it is now, which is what DVC will note: the
outputs are the same, or what the stage left says that it is of another input.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import TABLE, UNTIL, Fault, Lab, record
from benchmarks.report import STAGES

DAY = "event_date=2025-10-26"
USER = "c" + "1".rjust(24, "u")

OUTS = {
    "extract": ("data/raw", "data/reports/extract.json"),
    "validate": ("data/quarantine", "data/reports/validation.json"),
    "export": ("data/export", "data/reports/quality.json"),
    "load": ("data/analytics.duckdb", "data/reports/load.json"),
}

# Prints the stages of whose outputs it is known that they are not what is asked for now.
TELL = """
import sys
from pipeline.checks.current import differences
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
paths = Paths()
print(*[stage for stage, _ in differences(paths, load_params(paths.params), int(sys.argv[1]))])
"""


@dataclass(frozen=True)
class Move:
    """An input of a stage, and what is done to it."""

    stage: str
    name: str
    change: Callable[[Lab], None]


def replaced(file: str, old: str, new: str) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        path = lab.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def edited(file: str) -> Callable[[Lab], None]:
    """A line more at the end of a module."""

    def change(lab: Lab) -> None:
        path = lab.folder / file
        path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")

    return change


def damaged(file: str) -> Callable[[Lab], None]:
    """Another byte in the middle; the file of a name that DVC and people know is replaced, not written to."""

    def change(lab: Lab) -> None:
        path = lab.folder / file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        new = path.with_name("new")
        new.write_bytes(content)
        new.replace(path)

    return change


def part(root: str) -> str:
    return f"data/{root}/{TABLE}/{DAY}/part-0.parquet"


def refreshed(lab: Lab) -> None:
    """Rows of the last day are gone, and pinned so, as by a refresh at the same time."""
    lab.sql(f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM rows_aside)")
    shutil.copy2(lab.folder / "watermark.later", lab.folder / "watermark.yaml")


MOVES = [
    Move("extract", "params.yaml", replaced("params.yaml", "user_id: null", f"user_id: {USER}")),
    Move("extract", "watermark.yaml", refreshed),
    Move("extract", "its code", edited("pipeline/days/copy.py")),
    Move("validate", "params.yaml", replaced("params.yaml", "mode: strict", "mode: quarantine")),
    Move("validate", "extract.json", damaged("data/reports/extract.json")),
    Move("validate", "data/raw", damaged(part("raw"))),
    Move("validate", "its code", edited("pipeline/checks/batches.py")),
    Move("export", "params.yaml", replaced("params.yaml", "pseudonymize: false", "pseudonymize: true")),
    Move("export", "validation.json", damaged("data/reports/validation.json")),
    Move("export", "data/raw", damaged(part("raw"))),
    Move("export", "data/quarantine", damaged(f"data/quarantine/{TABLE}.parquet")),
    Move("export", "its code", edited("pipeline/days/export.py")),
    Move("load", "params.yaml", replaced("params.yaml", "strategy: view", "strategy: table")),
    Move("load", "quality.json", damaged("data/reports/quality.json")),
    Move("load", "data/export", damaged(part("export"))),
    Move("load", "its code", edited("stages/load.py")),
]


@contextmanager
def later(lab: Lab) -> Iterator[None]:
    """What `refreshed` puts in place: watermark.later, with 3,000 rows fewer in the last day."""
    lab.sql(f"CREATE TABLE rows_aside AS SELECT * FROM {TABLE} ORDER BY timestamp DESC, id LIMIT 3000")
    good = (lab.folder / "watermark.yaml").read_bytes()
    lab.sql(f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM rows_aside)")
    lab.must("refresh", "--until", UNTIL)
    (lab.folder / "watermark.yaml").rename(lab.folder / "watermark.later")
    (lab.folder / "watermark.yaml").write_bytes(good)
    put_back(lab)
    try:
        yield
    finally:
        lab.sql("DROP TABLE rows_aside")


def put_back(lab: Lab) -> None:
    lab.sql(f"INSERT INTO {TABLE} SELECT * FROM rows_aside ON CONFLICT DO NOTHING")


def moved(lab: Lab, move: Move, times: int, chance: random.Random) -> Fault:
    fault = Fault(f"{move.name} changed while {move.stage} runs")
    kept = ("params.yaml", "watermark.yaml", "pipeline", "stages")
    with later(lab):
        for _ in lab.tries(times):
            lab.reset()
            for before in STAGES[: STAGES.index(move.stage)]:
                lab.must(before)
            inputs = {file: file.read_bytes() for name in kept for file in files(lab.folder / name)}
            process = lab.start(move.stage)
            time.sleep(chance.uniform(0.1, 0.8))
            move.change(lab)
            _, said = process.communicate(timeout=120)
            if process.returncode == 0 and (wrong := hidden(lab, move.stage)):
                fault.unclear.append(wrong)
            for file, content in inputs.items():
                if file.read_bytes() != content:
                    file.write_bytes(content)
            put_back(lab)
            record(lab, fault, process.returncode, said)
    return fault


def hidden(lab: Lab, stage: str) -> str | None:
    """What is wrong about the stage's outputs and said by nobody, after it ended with 0."""
    left = outputs(lab, stage)
    code, told = lab.run([sys.executable, "-c", TELL, str(STAGES.index(stage) + 1)])
    if code or stage in told.split():
        return None  # what can't be read is no secret either
    for out in OUTS[stage]:
        path = lab.folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(lab.folder / "data" / ".verified", ignore_errors=True)
    code, _ = lab.attempt(stage)
    other = [name for name, content in outputs(lab, stage).items() if left.get(name) != content] if code == 0 else []
    return f"{stage} left another {other[0]} than its inputs give, and nothing says so" if other else None


def outputs(lab: Lab, stage: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(lab.folder)): file.read_bytes() for out in OUTS[stage] for file in files(lab.folder / out)
    }


def files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def labels_swapped(lab: Lab, times: int, chance: random.Random) -> Fault:
    """Two labels of an enum change places while refresh hashes, and back: what it pins is what is there in the end."""
    fault = Fault("enum labels swapped and back while refresh runs")
    good = (lab.folder / "watermark.yaml").read_bytes()
    for _ in lab.tries(times):
        process = lab.start("refresh", "--until", UNTIL, "--full")
        time.sleep(chance.uniform(0.15, 0.5))
        for _ in range(2):
            lab.sql(SWAP)
            time.sleep(chance.uniform(0, 0.1))
        _, said = process.communicate(timeout=120)
        if (lab.folder / "watermark.yaml").read_bytes() != good:
            fault.unclear.append("refresh pinned labels that are not there")
            (lab.folder / "watermark.yaml").write_bytes(good)
        record(lab, fault, process.returncode, said)
    return fault


SWAP = """
ALTER TYPE "EventType" RENAME VALUE 'FLASHCARD_FLIP' TO 'aside';
ALTER TYPE "EventType" RENAME VALUE 'SESSION_STARTED' TO 'FLASHCARD_FLIP';
ALTER TYPE "EventType" RENAME VALUE 'aside' TO 'SESSION_STARTED';
"""


def all_moves(lab: Lab, times: int, chance: random.Random) -> list[Callable[[], Fault]]:
    each = [lambda move=move: moved(lab, move, times, chance) for move in MOVES]
    return [*each, lambda: labels_swapped(lab, times, chance)]
