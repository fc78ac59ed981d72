"""What the system, Arrow or DuckDB complain about, as a message with a next step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.core.errors import DataError, PipelineError
from pipeline.core.paths import STAGES

FOLDER_PROBLEMS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EFBIG,
}


def explain(stage: str, error: Exception) -> PipelineError | None:
    """The message for an error of a stage; None where it is none of those."""
    library = type(error).__module__.split(".")[0].lstrip("_") in ("pyarrow", "duckdb")
    said = " ".join(str(error).split())[:500]
    number = getattr(error, "errno", None)
    if number in FOLDER_PROBLEMS or "No space left" in said:
        file = getattr(error, "filename", None)
        where = f" ({file})" if file else ""
        return PipelineError(
            f"{os.strerror(number) if number else said}{where}",
            where=str(Path.cwd()),
            expected="a readable and writable data/ folder with free space",
            next_step=f"check df -h . and ls -ld data, then {again(stage)}; earlier outputs are as they were",
        )
    if is_lack_of_memory(error):
        return no_memory(error)
    if library or isinstance(error, OSError):
        return DataError(
            f"a file can't be read or written: {said}",
            where=str(Path.cwd() / "data"),
            expected="the files that the stages before wrote, unaltered",
            next_step="dvc checkout --force to bring them back, or dvc repro --force to make them again",
        )
    return None


def again(stage: str) -> str:
    """What to type to have a stage or a command run again."""
    return f"dvc repro {stage}" if stage in STAGES else "the same command again"


def is_lack_of_memory(error: Exception) -> bool:
    """Whether Python, Arrow or DuckDB got no memory, which they say in errors of several kinds."""
    names = {kind.__name__ for kind in type(error).__mro__}
    # Of DuckDB, Python and Arrow, and of the system's loader: no room for a block, a thread, or a library.
    said = (
        "could not allocate block",
        "can't start new thread",
        "Failed to launch worker thread",
        "malloc of size",
        "failed to map segment",
        "cannot allocate memory",
    )
    return bool(names & {"MemoryError", "OutOfMemoryException"}) or any(words in str(error) for words in said)


def no_memory(error: Exception) -> PipelineError:
    said = " ".join(str(error).split())[:500]
    return PipelineError(
        f"there is not enough memory: {said or 'Python got none'}",
        where=str(Path.cwd()),
        expected="memory for the largest values of a day, several times",
        next_step="end what else runs, raise ulimit -v, or take a larger machine; then the same command again",
    )
