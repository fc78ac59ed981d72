"""The same rows over a short and over a long window: what a day costs, however few its rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measuring import NOTHING_TO_DO
from benchmarks.report import NO_OPS, Found, Results, Run, table
from benchmarks.windows import Copy, Pushed, Window, copies

COLD, NO_OP, NIGHT, PUSH, PULL = (
    "dvc repro, cold",
    "dvc repro, no-op",
    "refresh and dvc repro, a night on",
    "push",
    "pull",
)
LIMITS = {COLD: 1.5, NO_OP: 1.3, NIGHT: 2, PULL: 3, PUSH: 3}
BYTES_LIMIT = 3  # times the files of the night


class Measured(NamedTuple):
    """By step and window: the runs. By window: the requests of each step, and what the last night pushed."""

    results: Results
    requests: dict[tuple[str, Window], int]
    nights: dict[Window, Pushed]


def name(step: str, window: Window) -> str:
    return f"{step}, {window.title}"


def measured(folder: Path, env: Mapping[str, str], wanted: list[Window], results: Results) -> Measured:
    """`runs` rounds, each step of all windows before the next step; adds to results.runs."""
    found = Measured(results, {}, {})
    runs = int(results.settings["runs"])
    with copies(folder, env, wanted) as made:
        for number in range(1, runs + 1):
            made[0].remote.empty()
            for copy in made:
                copy.begin()
            for step in (COLD, *[NO_OP] * NO_OPS, PUSH, PULL, NIGHT):
                for copy in made:
                    asked = len(copy.remote.requests())
                    run = one(step, copy, found)
                    results.runs.setdefault(name(step, copy.window), []).append(run)
                    found.requests[step, copy.window] = len(copy.remote.requests()) - asked
                    took = f"{run.seconds:.2f} s"
                    print(f"scale: round {number}/{runs}: {name(step, copy.window)}: {took}", file=sys.stderr)
    return found


def one(step: str, copy: Copy, found: Measured) -> Run:
    if step == COLD:
        return copy.dvc("repro", expect="Running stage 'report'")
    if step == NO_OP:
        return copy.dvc("repro", expect=NOTHING_TO_DO)
    if step == PUSH:
        return copy.dvc("push")
    if step == PULL:
        return copy.pull()
    run, found.nights[copy.window] = copy.night()
    return run


def markdown(found: Measured, wanted: list[Window]) -> list[str]:
    """A table a window beside the first, since what a day costs is the ratio of both."""
    first, results = wanted[0], found.results
    rows = []
    for step in LIMITS:
        line = [step]
        for window in wanted:
            times = [run.seconds for run in results.runs[name(step, window)]]
            line += [f"{median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}"]
        rows.append([*line, *(f"{ratio(results, step, window, first):.2f}" for window in wanted[1:])])
    titles = [window.title for window in wanted]
    columns = ["step", *(part for title in titles for part in (f"{title}, s", "min to max s"))]
    columns += [f"x {first.title}: {title}" for title in titles[1:]]
    many = f"{int(results.settings['rows']):,}"
    sent = [
        [
            window.title,
            *(f"{found.requests[step, window]:,}" for step in (PUSH, PULL)),
            *(f"{number:,}" for number in found.nights[window]),
            f"{excess(found, window):.2f}",
        ]
        for window in wanted
    ]
    of_sent = ["window", "push, requests", "pull, requests", "night's push, requests", "bytes", "of lists (.dir)"]
    of_sent += ["bytes of new data files", "bytes, x new data files"]
    return [
        table(f"{many} rows over windows of different length; remote: an S3 API on this machine", columns, rows),
        table("Requests, and what a night pushes", of_sent, sent),
    ]


def ratio(results: Results, step: str, window: Window, first: Window) -> float:
    return results.ratio(name(step, window), name(step, first))


def excess(found: Measured, window: Window) -> float:
    """Bytes that a night pushed, lists of folders included, for each byte of its new data files."""
    night = found.nights[window]
    return night.objects / night.files


def targets(found: Measured, wanted: list[Window]) -> list[Found]:
    first, last = wanted[0], wanted[-1]
    held: list[Found] = [
        (f"{step}: {last.title}, times {first.title}", ratio(found.results, step, last, first), limit, ".2f")
        for step, limit in LIMITS.items()
    ]
    what = f"a night on, bytes pushed, times its new data files: {last.title}"
    return [*held, (what, excess(found, last), BYTES_LIMIT, ".2f")]
