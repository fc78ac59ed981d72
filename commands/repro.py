"""Run the pipeline: preflight, `dvc repro`, the summary. The run is remembered in data/runs.jsonl, and told."""

from __future__ import annotations

import argparse
import subprocess
import sys

from pipeline.core.process import project, run
from pipeline.tell import outcome, runs
from pipeline.tell.told import finish
from pipeline.versions import git

STEPS = (
    [sys.executable, "-m", "commands.preflight"],
    [sys.executable, "-m", "dvc", "repro"],
    [sys.executable, "-m", "commands.summary"],
)


def wait_for(command: list[str]) -> int:
    """Run a command to its end; its exit code.

    Raises SystemExit after a signal, when the command has ended, too: a terminal sends Ctrl-C to both. subprocess.run
    would kill it in the middle of its cleaning up.
    """
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except SystemExit:
        process.wait()
        raise


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.repro", description=__doc__).parse_args()
    paths = project()
    started = runs.begin(paths, "repro", git.head())
    code, reason = 0, ""
    for command in STEPS:
        try:
            code = wait_for(command)
        except SystemExit as stopped:
            code, reason = stopped.code if isinstance(stopped.code, int) else 1, "it was stopped"
        if code:
            break
    ended = outcome.of(paths, started, code, reason)
    for line in finish(paths, ended):
        print(f"repro: {line}", file=sys.stderr)
    if code:
        raise SystemExit(ended.exit_code)


if __name__ == "__main__":
    run("repro", main)
