"""What the bench found, as Markdown tables that can stand in the README, and the targets it is held against."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeAlias

from pipeline.core.progress import count

STAGES = ("extract", "validate", "export", "load")
FLOOR, NO_OP, EMPTY = "COPY to /dev/null (the floor)", "dvc repro, no-op", "empty DVC, no-op"
# From the source to the database. What counts the data for people has its own lines.
COLD, COLD_REPORT = "dvc repro load, cold", "dvc repro, report alone"
REFRESH, TABLE_LOAD, PLAIN = "refresh", "load (table)", "the plain way"
VALIDATE_WORDS = "validate (a word such as nan in every row)"
REPORT = "report"
NIGHT_REFRESH, NIGHT_REPRO, NIGHT = "refresh, a night on", "dvc repro load, a night on", "both together"
FOLDERS = "empty stages with the same folders, no-op"
IMPORTING = "DVC and four stages that only import"
EXECUTIONS = 20  # of each query
NO_OPS = 3  # a round: short, so that noise is a large part of each

# Rows from which other limits hold, since what a start takes is a smaller part.
MANY_ROWS = 5_000_000
COLD_LIMIT, COLD_LIMIT_OF_MANY = 3.0, 2.2  # times the floor
NIGHT_LIMIT, NIGHT_LIMIT_OF_MANY = 0.35, 0.10  # times the cold run


@dataclass(frozen=True)
class Run:
    """One process from start to end, and the workers that it left to themselves."""

    seconds: float
    peak_mb: float
    core_seconds: float = 0.0  # user and system, without the workers'
    worker_seconds: float = 0.0  # of cores, of all workers
    worker_mb: float = 0.0  # the peak of the largest

    def then(self, other: Run) -> Run:
        """This one and another after it, as one."""
        seconds, peak = self.seconds + other.seconds, max(self.peak_mb, other.peak_mb)
        cores, of_workers = self.core_seconds + other.core_seconds, self.worker_seconds + other.worker_seconds
        return Run(seconds, peak, cores, of_workers, max(self.worker_mb, other.worker_mb))


@dataclass
class Results:
    settings: dict[str, float | bool]
    machine: str = ""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    queries: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # strategy, query, milliseconds
    night: dict[str, int] = field(default_factory=dict)  # rows and bytes of the night after: see bench.night
    fewer: dict[str, float] = field(
        default_factory=dict
    )  # rows of another run of the bench, and seconds of its cold run

    def seconds(self, name: str) -> float:
        return median(run.seconds for run in self.runs[name])

    def ratio(self, name: str, to: str, of: Callable[[Run], float] = lambda run: run.seconds) -> float:
        """The median of the rounds' own ratios: a machine's speed drifts, and what is compared ran side by side."""
        runs, others = self.runs[name], self.runs[to]
        each = max(len(runs) // len(others), 1)  # runs a round; the plain way has fewer rounds
        return median(of(run) / of(other) for n, run in enumerate(runs) for other in others[n // each :][:1])

    def peak(self, name: str) -> float:
        return max(run.peak_mb for run in self.runs[name])


def machine(settings: Mapping[str, float], postgres: str) -> str:
    """What has to be known about a figure before it is compared with another."""
    size = f"{count(int(settings['rows']), 'row')} over {count(int(settings['days']), 'day')}"
    return f"{computer(postgres)}; {size}, skew {settings['skew']:g}, {count(int(settings['runs']), 'run')}"


def computer(postgres: str) -> str:
    """The machine, and the versions of what works on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cpu_info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpu_info.read_text()) if cpu_info.exists() else None
    cpu = named[1] if named else platform.processor() or platform.machine()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("pyarrow", "duckdb", "dvc")]
    return (
        f"{cores} cores, {memory:.1f} GB, {cpu}; Python {platform.python_version()}, PostgreSQL {postgres}, "
        f"{', '.join(versions)}"
    )


def table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; every column but the first is set to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join([f"{title}\n", *("| " + " | ".join(line) + " |" for line in lines)])


def process_table(results: Results, title: str, names: list[str]) -> str:
    rows = []
    for name in (name for name in names if name in results.runs):
        times = [run.seconds for run in results.runs[name]]
        ratio = f"{results.ratio(name, FLOOR):.2f}"
        span = f"{min(times):.2f} to {max(times):.2f}"
        rows.append([name, f"{median(times):.2f}", span, ratio, f"{results.peak(name):.0f}"])
    return table(title, ["process", "median s", "min to max s", "x floor", "peak MB"], rows)


def p95(times: list[float]) -> float:
    """The smallest time that at least 95 % of the executions did not exceed (nearest rank)."""
    return sorted(times)[-(-len(times) * 95 // 100) - 1]


def query_table(results: Results) -> str:
    rows = []
    for name in results.queries["view"]:
        of_both = [results.queries[strategy][name] for strategy in ("view", "table")]
        rows.append([name, *(f"{f(times):.0f}" for times in of_both for f in (median, p95, lambda all_: all_[0]))])
    title = f"Example queries, {EXECUTIONS} executions each in one process a strategy, in milliseconds"
    return table(title, ["query", *(f"{s} {of}" for s in ("view", "table") for of in ("p50", "p95", "first"))], rows)


# What is held against a limit: its words, the value or None where it was not measured, the limit, the value's format.
Found: TypeAlias = tuple[str, float | None, float, str]


def held(found: Iterable[Found]) -> list[list[str]]:
    """Target, limit, measured value, and whether it holds."""
    rows = []
    for what, value, limit, form in found:
        measured, met = (
            ("not measured", "-") if value is None else (format(value, form), "no" if value > limit else "yes")
        )
        rows.append([what, f"at most {limit:g}", measured, met])
    return rows


def target_table(title: str, rows: list[list[str]]) -> str:
    return table(title, ["target", "limit", "measured", "met"], rows)


def targets(results: Results) -> list[list[str]]:
    """What the pipeline is held against, as rows of the table."""
    found: list[Found] = []
    many = results.settings["rows"] >= MANY_ROWS
    if FLOOR in results.runs:
        found.append(("extract, times the floor", results.ratio("extract", FLOOR), 1.4, ".2f"))
        found.append(
            (
                "cold dvc repro, times the floor",
                results.ratio(COLD, FLOOR),
                COLD_LIMIT_OF_MANY if many else COLD_LIMIT,
                ".2f",
            )
        )
        plain = results.ratio(COLD, PLAIN) if PLAIN in results.runs else None
        found.append(("cold dvc repro, times the plain way", plain, 0.45, ".2f"))
        no_op = results.ratio(NO_OP, FOLDERS)
        found.append(("no-op dvc repro, times that of empty stages with the same folders", no_op, 1.35, ".2f"))
    if results.fewer and COLD in results.runs:
        fewer, seconds = int(results.fewer["rows"]), results.fewer["seconds"]
        limit = results.settings["rows"] / fewer
        found.append((f"cold dvc repro, times that of {fewer:,} rows", results.seconds(COLD) / seconds, limit, ".2f"))
    if results.night:
        found.append(
            (
                "a night on, times the cold run",
                results.ratio(NIGHT, COLD),
                NIGHT_LIMIT_OF_MANY if many else NIGHT_LIMIT,
                ".2f",
            )
        )
        sent = results.night["rows_sent"] / results.night["rows_changed"]
        found.append(("a night on, rows sent by PostgreSQL, times the new day's", sent, 1, ".2f"))
        pushed = results.night["bytes_pushed"] / results.night["bytes_changed"]
        found.append(("a night on, bytes pushed, times the new day's two files", pushed, 1.2, ".2f"))
    if REPORT in results.runs:
        # Of a million rows; the bench tells more, or less, with other numbers.
        found.append(("report, seconds", results.seconds(REPORT), 1, ".2f"))
        found.append(("report, peak MB", results.peak(REPORT), 200, ".0f"))
    if VALIDATE_WORDS in results.runs:
        found.append((f"{VALIDATE_WORDS}, times validate", results.ratio(VALIDATE_WORDS, "validate"), 1.1, ".2f"))
    peaks = {name: results.peak(name) for name in (*STAGES, VALIDATE_WORDS, TABLE_LOAD) if name in results.runs}
    worst = max(peaks, key=lambda name: peaks[name])
    found.append((f"peak MB of every stage (highest: {worst})", peaks[worst], 350, ".0f"))
    if results.queries:
        slowest = max((p95(times), name) for name, times in results.queries["view"].items())
        found.append((f"p95 ms of every query, view (highest: {slowest[1]})", slowest[0], 200, ".0f"))
    return held(found)


def markdown(results: Results) -> str:
    parts = [f"**{results.machine}**"]
    if results.settings["memory_only"]:
        once = [[name, f"{results.seconds(name):.2f}", f"{results.peak(name):.0f}"] for name in STAGES]
        parts.append(table("Each stage once, as a process of its own", ["process", "s", "peak MB"], once))
    else:
        each = [FLOOR, REFRESH, *STAGES, REPORT, VALIDATE_WORDS, TABLE_LOAD]
        parts.append(process_table(results, "Each stage as a process of its own", each))
        parts.append(process_table(results, "The whole pipeline, and the plain way", [COLD, COLD_REPORT, PLAIN]))
        parts.append(process_table(results, f"Nothing to do, {NO_OPS} times a round", [NO_OP, FOLDERS, EMPTY]))
        title = "The night after: one new day, the oldest leaves the window"
        parts.append(process_table(results, title, [NIGHT_REFRESH, NIGHT_REPRO, NIGHT, IMPORTING]))
        parts.append(query_table(results))
    parts.append(target_table("Targets", targets(results)))
    return "\n\n".join(parts)
