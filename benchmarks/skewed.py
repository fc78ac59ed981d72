"""All rows in one day, against as many spread evenly over the window."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.measuring import PYTHON_M, UNTIL, Filling, forget, measure, working_copy
from benchmarks.report import Found, Results, Run, table

EVEN, SKEWED = "even", "skewed"
LIMIT = 1.08
TITLES = {EVEN: "spread evenly", SKEWED: "all but one row a day in the last day"}


def fillings(rows: int, days: int) -> dict[str, Filling]:
    return {EVEN: Filling(rows, days), SKEWED: Filling(rows, days, last_day_rows=max(rows - days, 0))}


def measured(folder: Path, env: Mapping[str, str], results: Results) -> None:
    """`runs` rounds from extract to load, one after the other in turn; adds to results.runs."""
    days, runs = int(results.settings["days"]), int(results.settings["runs"])
    own = {name: {**env, "DATABASE_URL": f"{env['DATABASE_URL']}&schema={name}"} for name in TITLES}
    for name in TITLES:
        working_copy(folder / name, days)
        measure([*PYTHON_M, "commands.refresh", "--until", UNTIL, "--days", str(days)], folder / name, own[name])
    for number in range(1, runs + 1):
        for name in list(TITLES)[:: 1 if number % 2 else -1]:  # who comes first has no advantage
            forget(folder / name)
            command = [*PYTHON_M, "dvc", "repro", "load"]
            run, _ = measure(command, folder / name, own[name], expect="Running stage 'load'")
            results.runs.setdefault(name, []).append(run)
            print(f"scale: round {number}/{runs}: {name}: {run.seconds:.2f} s", file=sys.stderr)


def core_seconds(run: Run) -> float:
    return run.core_seconds + run.worker_seconds


def markdown(results: Results) -> list[str]:
    rows = []
    for name, title in TITLES.items():
        runs = results.runs[name]
        times = [run.seconds for run in runs]
        span, cores = f"{min(times):.2f} to {max(times):.2f}", f"{median(map(core_seconds, runs)):.1f}"
        ratios = (f"{results.ratio(name, EVEN):.2f}", f"{results.ratio(name, EVEN, core_seconds):.2f}")
        rows.append([title, f"{median(times):.2f}", span, cores, *ratios, f"{results.peak(name):.0f}"])
    columns = ["rows", "median s", "min to max s", "core s", "x even, s", "x even, core s", "peak MB"]
    many, days = int(results.settings["rows"]), int(results.settings["days"])
    return [table(f"{many:,} rows over {days} days, dvc repro load, cold", columns, rows)]


def targets(results: Results) -> list[Found]:
    what = (
        f"{int(results.settings['rows']):,} rows in one day, times those of {int(results.settings['days'])} even days"
    )
    return [
        (f"{what}, seconds", results.ratio(SKEWED, EVEN), LIMIT, ".2f"),
        (f"{what}, core seconds", results.ratio(SKEWED, EVEN, core_seconds), LIMIT, ".2f"),
    ]
