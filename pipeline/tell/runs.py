"""The memory of runs on this machine: data/runs.jsonl, a line when a run starts and one when it ends.

The start comes first, so that a run that was killed shows. The file is local: Git and DVC have the snapshots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.paths import STAGES, Paths
from pipeline.core.process import RUN

# What people and monitors read of a run.
GOOD, BAD, KILLED, RUNNING = "OK", "FAILED", "killed", "running"


# What is noted beside stages: commands.refresh, and commands.preflight by what it looks at.
BEFORE = ("refresh", "params")


class Stage(NamedTuple):
    """What a stage that ran came to."""

    stage: str
    seconds: float
    peak_mb: float
    error: str | None = None
    words: str = ""
    next_step: str = ""
    exit_code: int = 0


class Run(NamedTuple):
    what: str  # repro or night
    start: datetime
    pid: int
    commit: str | None
    end: datetime | None = None
    result: str = KILLED
    exit_code: int | None = None
    reason: str = ""
    next_step: str = ""
    verdict: str | None = None
    sentence: str = ""
    until: str | None = None
    rows: int | None = None
    snapshot: str | None = None  # the commit that a night made or found
    stages: tuple[Stage, ...] = ()

    @property
    def seconds(self) -> float | None:
        return (self.end - self.start).total_seconds() if self.end else None

    @property
    def good(self) -> bool:
        return self.result == GOOD


def begin(paths: Paths, what: str, commit: str | None) -> Run:
    """Note that a run starts."""
    run = Run(what, _now(), os.getpid(), commit, result=RUNNING)
    os.environ[RUN] = f"{_text(run.start)} {run.pid}"
    _append(paths.runs, {"event": "start", "what": what, "start": _text(run.start), "pid": run.pid, "commit": commit})
    return run


def finish(paths: Paths, run: Run) -> None:
    """Note how a run ended."""
    entry = {**run._asdict(), "event": "end", "start": _text(run.start), "end": _text(run.end or _now())}
    entry["stages"] = [stage._asdict() for stage in run.stages]
    _append(paths.runs, entry)


def stages(paths: Paths) -> tuple[Stage, ...]:
    """The stages of this run that ran, and what ran before them, as they noted themselves."""
    found = []
    for stage in (*BEFORE, *STAGES):
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(paths.note(stage).read_text(encoding="utf-8"))
            if note.pop("run") == os.environ[RUN]:
                found.append(Stage(stage, **note))
    return tuple(found)


def read(file: Path) -> list[Run]:
    """All runs, oldest first. A start without an end is a run that goes on, or was killed."""
    started: dict[tuple[str, int], Run] = {}
    for entry in _entries(file):
        with suppress(KeyError, ValueError, TypeError, OverflowError):  # what somebody wrote by hand
            key = (entry["start"], entry["pid"])
            if entry["event"] == "start":
                start = _instant(entry["start"])
                result = RUNNING if _lives(entry["pid"]) else KILLED
                started[key] = Run(entry["what"], start, entry["pid"], entry["commit"], result=result)
            else:
                started[key] = _run(entry)
    return list(started.values())


def _run(entry: Mapping[str, Any]) -> Run:
    known = {name: entry.get(name) for name in Run._fields}
    start, end = (_instant(entry[name]) for name in ("start", "end"))
    if not isinstance(entry["rows"], int | None):
        raise ValueError("rows is no number")
    stages = tuple(Stage(**stage) for stage in entry["stages"])
    return Run(**(known | {"start": start, "end": end, "stages": stages}))  # type: ignore[arg-type]


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("a time without a zone")
    return instant


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file; one that a full disk or a kill cut off is left out."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _append(file: Path, entry: Mapping[str, Any]) -> None:
    with suppress(OSError):  # a full disk, or one that nobody may write to, ends no run
        file.parent.mkdir(parents=True, exist_ok=True)
    # In one write, so that two runs don't mix; on a line of its own, also after one that was cut off.
    text = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
    with suppress(OSError), open(file, "ab+") as opened:
        if opened.tell() and not _ends_line(opened):
            text = "\n" + text
        opened.write(text.encode())


def _ends_line(opened: Any) -> bool:
    opened.seek(-1, os.SEEK_END)
    return bool(opened.read(1) == b"\n")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def last_good(runs: Sequence[Run], what: str) -> Run | None:
    return next((run for run in reversed(runs) if run.what == what and run.good), None)


def _now() -> datetime:
    return datetime.now(UTC)


def _text(instant: datetime) -> str:
    return instant.isoformat()
