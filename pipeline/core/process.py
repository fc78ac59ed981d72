"""A stage or a command as a process: what is printed of an error, exit codes, and how long it took."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from pipeline.core import signals
from pipeline.core.errors import PipelineError
from pipeline.core.explain import explain, is_lack_of_memory, no_memory
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths

# The variable that names the run, for the notes of its stages.
RUN = "PIPELINE_RUN"

# A stage imports this module before any other, since imports are a good part of its time.
STARTED = time.perf_counter()


def run_stage(name: str, stage: Callable[[Paths, Params], None], description: str) -> None:
    """Run a stage in the current folder, with its params.yaml."""

    def main() -> None:
        argparse.ArgumentParser(prog=f"python -m stages.{name}", description=description).parse_args()
        paths = project()
        stage(paths, load_params(paths.params))

    run(name, main)


def project() -> Paths:
    """The project in the current folder. Raises PipelineError where there is none: modules can be run anywhere."""
    paths = Paths()
    if not paths.dvc_yaml.exists() and not paths.params.exists():
        raise PipelineError(
            f"there is no {paths.dvc_yaml} and no {paths.params} in this folder",
            where=str(Path.cwd()),
            expected="the project's folder",
            next_step="cd to the project's folder, then the same command again",
        )
    return paths


def run(stage: str, main: Callable[[], None]) -> None:
    """Run a stage's main, turn what it raises into a message and an exit code, and note both with what it took.

    The note is data/.notes/STAGE.json, for the summary and the memory of runs: DVC makes 255 of every exit code, and
    reports hold no clock.
    """
    _open_standard_files()
    signals.handle()
    try:
        signals.watch()
        main()
        signals.end_if_stopped()  # a signal whose exception a library caught
    except PipelineError as error:
        _fail(stage, error)
    except BrokenPipeError:
        os._exit(1)  # whoever read the output has gone; there is nobody to tell
    except Exception as error:
        signals.end_if_stopped()  # what libraries make of the signal
        if isinstance(error, OSError) and not _can_print():
            with suppress(OSError):
                print(f"{stage}: error: standard output can't be written: {error}", file=sys.stderr)
            os._exit(1)
        known = explain(stage, error)
        if known is None:
            _note(stage, type(error).__name__, exit_code=1)
            raise  # a mistake of the code: the traceback is for whoever mends it
        _fail(stage, known)
    _note(stage, None)
    _leave()


def _fail(stage: str, error: PipelineError) -> NoReturn:
    print(f"{stage}: error: {error}", file=sys.stderr)
    _note(stage, type(error).__name__, error.what, error.next_step, error.exit_code)
    _leave(error.exit_code)


def _leave(code: int = 0) -> NoReturn:
    """End the process at once: all is written, and taking apart what the imports made takes up to 0.2 s, and makes
    libraries say on the terminal what is left of them."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(1)  # nobody reads what was to be said
    os._exit(code)


def _open_standard_files() -> None:
    """Give what was closed (>&-) a place, or the next file to be opened would take it and be written to by prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _can_print() -> bool:
    try:
        print(end="", flush=True)
    except OSError:
        return False
    return True


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of errors that come before `run`, as an import may raise: a line in place of a traceback where it is known."""
    if isinstance(error, KeyboardInterrupt):
        signals.say_stopped(signal.SIGINT)
    elif isinstance(error, Exception) and is_lack_of_memory(error):
        print(f"error: {no_memory(error)}", file=sys.stderr)
    # psycopg2 prints this on the side when a server goes down within a COPY; the error itself is raised as well.
    elif not (isinstance(error, SystemError) and "returned a result with an exception set" in str(error)):
        sys.__excepthook__(kind, error, trace)


def _note(stage: str, error: str | None, words: str = "", next_step: str = "", exit_code: int = 0) -> None:
    """Keep what the run of a stage came to. `words` hold no value of an event, as those of all errors."""
    import resource  # not on Windows, where nothing else of this runs, either

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    seconds = round(time.perf_counter() - STARTED, 2)
    took = {"run": os.environ.get(RUN, ""), "seconds": seconds, "peak_mb": round(peak)}
    note = {**took, "error": error, "words": words, "next_step": next_step, "exit_code": exit_code}
    if not Paths().params.exists():
        return  # another folder than the project
    try:
        path = Paths().note(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note) + "\n", encoding="utf-8")
    except OSError:
        pass  # a nicety; the stage has done its work


sys.excepthook = _report
