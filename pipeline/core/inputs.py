"""What a run was started with, and whether it still is when the run publishes.

DVC takes the hashes of params and dependencies for dvc.lock when a command has ended. What is changed while the command
runs would stand there as what its outputs were made from. So a stage takes its inputs once, at its start, and makes
sure before it publishes that they are the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from pipeline.core.errors import DataError
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths

ROOT = Path(__file__).absolute().parent.parent.parent

# The files of the project that Python runs, or that the sample and the page are made from.
CODE = ("*.py", "*.sql", "*.html", "*.css")


def _code() -> dict[Path, bytes]:
    folders = [ROOT / name for name in ("pipeline", "schemas", "stages", "analyses")]
    files = [file for folder in folders for kind in CODE for file in folder.rglob(kind)]
    return {file: file.read_bytes() for file in files if file.is_file()}  # and not an editor's link to nowhere


# `stages` imports this module before any other, so that no line of code is older than what is remembered of it.
_CODE_AT_START = _code()


@cache
def fingerprint() -> str:
    """Of all code as this process began with it, whichever of it was loaded. Equal on two machines."""
    files = [(str(file.relative_to(ROOT)), content) for file, content in sorted(_CODE_AT_START.items())]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


class Inputs:
    """The inputs of one run of a stage.

    `wanted` picks out of params.yaml what the stage uses. `files` are read whole; of `folders` it is remembered which
    files they hold, with the size and the time of each.
    """

    def __init__(
        self,
        paths: Paths,
        params: Params,
        wanted: Callable[[Params], object],
        files: Sequence[Path],
        folders: Sequence[Path] = (),
    ) -> None:
        self._params, self._wanted = paths.params, wanted
        self._values = wanted(params)
        self._files = {file: _read(file) for file in files}
        self._folders = {folder: _listed(folder) for folder in folders}

    def text(self, file: Path) -> str | None:
        """The content of one of `files` as it was taken; None where there was none."""
        content = self._files[file]
        return None if content is None else content.decode()

    def check(self) -> None:
        """Raise DataError that names what has changed since the inputs were taken. For right before publishing."""
        changed = [str(file) for file, content in self._files.items() if _read(file) != content]
        changed += [str(folder) for folder, files in self._folders.items() if _listed(folder) != files]
        changed += [str(file.relative_to(ROOT)) for file in _changed_code()]
        if self._wanted(load_params(self._params)) != self._values:
            changed.append(str(self._params))
        if changed:
            raise DataError(
                f"{', '.join(changed)} changed meanwhile",
                where=str(Path.cwd()),
                expected="the same inputs from the begin of a stage to its end, since DVC notes those of the end",
                next_step="dvc repro, when nobody changes them",
            )


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _listed(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Number, size and time of each file in `folder`: a file that is replaced or written to has others."""
    found = {}
    for place, _, names in os.walk(folder, followlinks=True):
        for path in (Path(place, name) for name in names):
            known = path.stat()
            found[str(path)] = (known.st_ino, known.st_size, known.st_mtime_ns)
    return found


def _changed_code() -> list[Path]:
    """Modules that this process runs, and SQL, whose files are no longer as they were at its start."""
    names = {file.name for file in _CODE_AT_START}  # a process has thousands of modules, and a Path takes its time
    found = (getattr(module, "__file__", None) or "" for module in list(sys.modules.values()))
    loaded = {Path(file) for file in found if file.rpartition(os.sep)[2] in names}
    used = [file for file in _CODE_AT_START if file in loaded or file.suffix != ".py"]
    return [file for file in used if _read(file) != _CODE_AT_START[file]]
