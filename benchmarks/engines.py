"""The same cold run with each engine at two sizes: what it takes of the driver and of the workers, and what follows
from that for a size that nobody measures.

The driver is `dvc repro` with the stages that it starts, and of LocalCluster the scheduler. PostgreSQL's own core
seconds are nobody's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.local_cluster import has_dask, local_cluster
from benchmarks.measuring import PYTHON_M, UNTIL, Filling, forget, measure, working_copy
from benchmarks.report import Found, Results, Run, table

WORKERS = 2
DASK = f"LocalCluster:{WORKERS}"
ENGINES = (f"threads:{WORKERS}", f"processes:{WORKERS}", DASK)
NO_DASK = "not measured: pip install -r requirements-dask.txt"
NO_LINUX = "not measured: what workers take is read on Linux alone"
PEAK_LIMIT = 350  # MB of a stage
WORKER_LIMIT = 1000  # MB of a worker, as docs/scale.md has it
APART = 1_000_000  # rows between two sizes, so that what a start takes by chance is little beside what rows take

ESTIMATED = 10**9
ASSUMES = (
    "the driver's core seconds a million rows times the millions, and those of the workers divided by their cores. It "
    "takes for granted that both grow on as between the two sizes, that the driver works while no worker does, that no "
    "core waits for another, that cores are as these, and that PostgreSQL and the file system keep up."
)
SETUPS = ((f"processes:{WORKERS}", "16", 16), (DASK, "16", 16), (DASK, "16 + 16", 32))


def fillings(sizes: Sequence[int], days: int) -> dict[str, Filling]:
    return {f"of_{rows}": Filling(rows, days) for rows in sizes}


def why_not(engine: str) -> str:
    """Why an engine can't be measured here; empty where it can."""
    if engine == DASK and not has_dask():
        return NO_DASK
    return "" if engine.startswith("threads") or sys.platform == "linux" else NO_LINUX


def cold(engine: str, copy: Path, env: Mapping[str, str]) -> Run:
    """All stages with all of their work to do."""
    forget(copy)
    command, expect = [*PYTHON_M, "dvc", "repro"], "Running stage 'report'"
    if engine != DASK:
        return measure(command, copy, {**env, "PIPELINE_ENGINE": engine}, expect=expect)[0]
    with local_cluster(copy, env, WORKERS) as cluster:
        before = cluster.took()
        run, _ = measure(command, copy, cluster.env, expect=expect)
        after = cluster.took()
    return replace(
        run,
        core_seconds=run.core_seconds + after.scheduler - before.scheduler,
        worker_seconds=after.workers - before.workers,
        worker_mb=after.peak_mb,
    )


def name(engine: str, rows: int) -> str:
    return f"{engine}, {rows:,} rows"


def measured(folder: Path, env: Mapping[str, str], sizes: Sequence[int], results: Results) -> None:
    """`runs` rounds of the engines that results.settings has, at each size; adds to results.runs."""
    days, runs = int(results.settings["days"]), int(results.settings["runs"])
    copies = {rows: folder / f"engines-{rows}" for rows in sizes}
    own = {rows: {**env, "DATABASE_URL": f"{env['DATABASE_URL']}&schema=of_{rows}"} for rows in sizes}
    for rows, copy in copies.items():
        working_copy(copy, days)
        measure([*PYTHON_M, "commands.refresh", "--until", UNTIL, "--days", str(days)], copy, own[rows])
    for number in range(1, runs + 1):
        for rows in sizes:
            for engine in ENGINES:
                if not why_not(engine):
                    run = cold(engine, copies[rows], own[rows])
                    results.runs.setdefault(name(engine, rows), []).append(run)
                    took = f"{run.seconds:.2f} s, cores {run.core_seconds:.2f} + {run.worker_seconds:.2f} s"
                    print(f"scale: round {number}/{runs}: {name(engine, rows)}: {took}", file=sys.stderr)


class Slope(NamedTuple):
    """What a million rows more take: by the clock, and in core seconds of the driver and of all workers.

    `start` is what the clock says of no rows at all.
    """

    clock: float
    driver: float
    workers: float
    start: float

    @property
    def told(self) -> bool:
        """Whether the sizes are far enough apart to tell what rows take from what a run takes in any case."""
        return self.driver > 0 and self.workers > 0

    def seconds(self, rows: float, cores: int) -> float:
        """Of so many rows with workers on so many cores, without the start: nothing of the driver's overlaps theirs."""
        return rows / 1e6 * (self.driver + self.workers / cores)


def slope(few: Run, many: Run, millions: float) -> Slope:
    """Of two runs of which the second has so many millions of rows more."""
    clock = (many.seconds - few.seconds) / millions
    driver = (many.core_seconds - few.core_seconds) / millions
    return Slope(clock, driver, (many.worker_seconds - few.worker_seconds) / millions, few.seconds)


def slopes(results: Results, sizes: Sequence[int]) -> dict[str, Slope]:
    """Of each engine that was measured, the median of the rounds' own slopes from the smallest to the largest size."""
    few, many = min(sizes), max(sizes)
    found = {}
    for engine in ENGINES if many > few else ():
        of_few, of_many = (results.runs.get(name(engine, rows), []) for rows in (few, many))
        each = [slope(one, other, (many - few) / 1e6) for one, other in zip(of_few, of_many, strict=True)]
        if each:
            middle = Slope(*(median(values) for values in zip(*each, strict=True)))
            found[engine] = middle._replace(start=max(middle.start - middle.clock * few / 1e6, 0.0))
    return found


def pays_from(one: tuple[Slope, int], other: tuple[Slope, int]) -> float | None:
    """The rows from which the other one, with so many cores, takes less time, its start included; None: no number."""
    saved = one[0].seconds(1, one[1]) - other[0].seconds(1, other[1])
    return max(other[0].start - one[0].start, 0.0) / saved if saved > 0 else None


def engine_table(results: Results, sizes: Sequence[int]) -> str:
    rows = []
    for engine in ENGINES:
        for size in sizes:
            runs = results.runs.get(name(engine, size))
            if not runs:
                rows.append([name(engine, size), why_not(engine), *["-"] * 5])
                continue
            times = [run.seconds for run in runs]
            apart = [f"{median(run.worker_seconds for run in runs):.1f}", f"{max(run.worker_mb for run in runs):.0f}"]
            cores = f"{median(run.core_seconds for run in runs):.1f}"
            workers, largest = ["-", "-"] if engine.startswith("threads") else apart
            span = f"{min(times):.2f} to {max(times):.2f}"
            peak = f"{results.peak(name(engine, size)):.0f}"
            rows.append([name(engine, size), f"{median(times):.2f}", span, cores, workers, peak, largest])
    columns = ["engine", "median s", "min to max s", "driver core s", "workers core s", "driver peak MB"]
    title = "A cold dvc repro with each engine, the report included; what threads take is the driver's"
    return table(title, [*columns, "largest worker MB"], rows)


def slope_table(found: Mapping[str, Slope]) -> str:
    rows = [
        [engine, f"{one.clock:.2f}", f"{one.driver:.2f}", "-" if engine.startswith("threads") else f"{one.workers:.2f}"]
        for engine, one in found.items()
    ]
    columns = ["engine", "s", "driver core s", "workers core s"]
    return table("What a million rows more take", columns, rows)


def estimate_table(found: Mapping[str, Slope]) -> str:
    rows = []
    for engine, cores, number in SETUPS:
        said = ["-"] * 3
        if engine in found and found[engine].told:
            one, millions = found[engine], ESTIMATED / 1e6
            parts = (one.driver * millions / 60, one.workers * millions / number / 60)
            said = [*(f"{part:.0f}" for part in parts), f"{one.seconds(ESTIMATED, number) / 3600:.1f}"]
        rows.append([engine.partition(":")[0], cores, *said])
    columns = ["engine", "cores", "driver min", "workers min", "hours"]
    return table(f"Estimate for {ESTIMATED:,} rows: " + ASSUMES, columns, rows)


def pays(found: Mapping[str, Slope]) -> str:
    """From which size on two machines are quicker than one, in a sentence."""
    (one, _, cores), *_, (other, _, both) = SETUPS
    if not all(engine in found and found[engine].told for engine in (one, other)):
        return (
            "From which size on a cluster pays can't be told from these figures; sizes have to be "
            f"{APART:,} rows apart, as those of ROWS=1000000 are."
        )
    rows = pays_from((found[one], cores), (found[other], both))
    where = "at no size" if rows is None else f"from {math.ceil(rows):,} rows on"
    return (
        f"By these slopes, and by what each takes without any row, a cluster with {both} cores for its workers is "
        f"quicker than one machine with {cores} {where}."
    )


def targets(results: Results, sizes: Sequence[int]) -> list[Found]:
    few, many = min(sizes), max(sizes)
    found: list[Found] = []
    for engine in ENGINES if many > few else ():
        value = results.ratio(name(engine, many), name(engine, few)) if name(engine, many) in results.runs else None
        found.append((f"{engine}: {many:,} rows, times the time of {few:,}", value, many / few, ".2f"))
    peaks = [(results.peak(step), step) for step in results.runs]
    workers = [(run.worker_mb, step) for step, runs in results.runs.items() for run in runs]
    for what, limit, (peak, step) in (("stage", PEAK_LIMIT, max(peaks)), ("worker", WORKER_LIMIT, max(workers))):
        found.append((f"peak MB of every {what} (highest: {step})", peak, limit, ".0f"))
    return found


def markdown(results: Results, sizes: Sequence[int]) -> list[str]:
    found = slopes(results, sizes)
    told = found if max(sizes) - min(sizes) >= APART else {}
    return [engine_table(results, sizes), slope_table(told), estimate_table(told), pays(told)]
