"""Run the pipeline: preflight, `dvc repro`, the summary. The run is remembered in data/runs.jsonl, and told."""

from __future__ import annotations

import argparse
import subprocess
import sys

from pipeline.core.process import project, run
from pipeline.tell import outcome, runs
from pipeline.tell.told import tell
from pipeline.versions import git

STEPS = (
    ("preflight", [sys.executable, "-m", "commands.preflight"]),
    ("dvc repro", [sys.executable, "-m", "dvc", "repro"]),
    ("summary", [sys.executable, "-m", "commands.summary"]),
)


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.repro", description=__doc__).parse_args()
    paths = project()
    before = runs.read(paths.runs)
    started = runs.begin(paths, "repro", git.head())
    for _, command in STEPS:
        code = subprocess.run(command, check=False).returncode
        if code:
            break
    ended = outcome.of(paths, started, code)
    runs.finish(paths, ended)
    for line in tell(paths, outcome.params(paths), ended, before[-1] if before else None):
        print(f"repro: {line}", file=sys.stderr)
    if code:
        raise SystemExit(ended.exit_code)


if __name__ == "__main__":
    run("repro", main)
