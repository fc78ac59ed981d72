"""What a worker sees: it has to be what the one who asks sees."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import PipelineError
from pipeline.core.inputs import fingerprint
from pipeline.core.paths import Paths

# What the bytes, the checks or a connection depend on.
LIBRARIES = ("pyarrow", "duckdb", "pandas", "pandera", "psycopg2-binary")

PREFIX = ".workers."
ASKED = "asked"


class Seen(NamedTuple):
    """By one process. `facts` are compared word by word, and hold no secret."""

    folder: bool
    facts: Mapping[str, str]
    stands: str = ""  # its own folder, which another machine may mount elsewhere; of other code it may be unknown


def see(meeting: Path, look: Callable[[], Mapping[str, str]]) -> Seen:
    """What this process sees; leaves a file of its own in the folder `meeting`, if it sees it, too."""
    try:
        folder = (meeting / ASKED).read_text(encoding="utf-8") == meeting.name
        (meeting / f"{platform.node()}-{os.getpid()}").write_text(meeting.name, encoding="utf-8")
    except OSError:
        folder = False
    versions = {name: _version(name) for name in LIBRARIES}
    facts = {"code": fingerprint(), "Python": platform.python_version(), **versions}
    try:
        return Seen(folder, {**facts, **look()}, str(Path.cwd()))
    except PipelineError as error:
        return Seen(folder, {**facts, "environment": error.what}, str(Path.cwd()))


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


@contextmanager
def meeting() -> Iterator[Path]:
    """A folder in data/ by which workers find out whether they see the same folder, for the length of the block."""
    data = Paths().data
    data.mkdir(exist_ok=True)
    for old in data.glob(f"{PREFIX}*"):  # of a run that was killed
        shutil.rmtree(old, ignore_errors=True)
    folder = data / f"{PREFIX}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        (folder / ASKED).write_text(folder.name, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def elsewhere(worker: str, stands: str) -> str:
    """That a worker is not in this folder, or in one of the same name on a disk of its own."""
    here = str(Path.cwd())
    return f"{worker} does not see {here}" if stands in (here, "") else f"{worker} stands in {stands}, not in {here}"


def differences(mine: Seen, theirs: Mapping[str, Seen]) -> list[str]:
    """What the workers see otherwise, in words; a worker is named by its address."""
    found = []
    for worker, seen in theirs.items():
        if not seen.folder:
            found.append(elsewhere(worker, seen.stands))
        for name in {**mine.facts, **seen.facts}:
            here, there = (facts.get(name, "nothing") for facts in (mine.facts, seen.facts))
            if here != there:
                found.append(f"{worker} has {name} {there}, not {here}")
    return found
