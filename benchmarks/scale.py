"""Measure what comes beyond one machine and one year: engines at two sizes, all rows in one day, a window of years.

Fills a private PostgreSQL with synthetic events, works in copies of the checkout and removes all in the end. Progress
goes to stderr; stdout gets Markdown tables. As bench, it is a measurement and no test: a missed target is a "no".
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import days, engines, skewed, windows
from benchmarks.measuring import Filling, ask, database, environment, in_order
from benchmarks.report import Found, Results, computer, held, target_table
from pipeline.core.progress import count

ROWS, DAYS, MANY_DAYS, RUNS = 1_000_000, 90, 1825, 3


class Part(NamedTuple):
    """What came of a part: the machine, its tables, and what it is held against."""

    machine: str
    tables: list[str]
    found: list[Found]


@contextmanager
def place(fillings: Mapping[str, Filling], results: Results) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder to work in, and an environment that names a server with these events."""
    with database(fillings) as (url, psql), tempfile.TemporaryDirectory(prefix="behavioral-events-") as name:
        env = environment(url)
        results.machine = computer(ask(psql, env, "SHOW server_version"))
        yield Path(name), env


def of_engines(args: argparse.Namespace) -> Part:
    results = Results({"days": args.days, "runs": args.runs})
    with place(engines.fillings(args.sizes, args.days), results) as (folder, env):
        engines.measured(folder, env, args.sizes, results)
    tables = engines.markdown(results, args.sizes)
    return Part(results.machine, tables, engines.targets(results, args.sizes))


def of_skewed(args: argparse.Namespace) -> Part:
    rows = args.rows * 3 // 2
    results = Results({"rows": rows, "days": args.days, "runs": args.runs})
    with place(skewed.fillings(rows, args.days), results) as (folder, env):
        skewed.measured(folder, env, results)
    return Part(results.machine, skewed.markdown(results), skewed.targets(results))


def of_days(args: argparse.Namespace) -> Part:
    rows, wanted = args.rows // 5, windows.windows(args.days, args.many_days)
    results = Results({"rows": rows, "runs": args.runs})
    with place(windows.fillings(rows, wanted), results) as (folder, env):
        found = days.measured(folder, env, wanted, results)
    return Part(results.machine, days.markdown(found, wanted), days.targets(found, wanted))


PARTS = {"engines": of_engines, "skewed": of_skewed, "days": of_days}


def measured(parts: Sequence[str], args: argparse.Namespace) -> str:
    """The tables of the parts, one after the other, and one of all targets."""
    found = [PARTS[part](args) for part in parts]
    title = f"**{found[0].machine}; {count(args.runs, 'run')}**"
    rows = held(one for part in found for one in part.found)
    return "\n\n".join(
        [title, *(each for part in found for each in part.tables), target_table("Targets of scale", rows)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=[*PARTS, "all"], default="all", help="all by default")
    parser.add_argument(
        "--rows",
        type=int,
        default=ROWS,
        help=f"engines are measured at so many and at three times as many, the skewed day at one and a half times, "
        f"the long window at a fifth; {ROWS:,} by default",
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="ROWS", help="other sizes for the engines")
    parser.add_argument("--days", type=int, default=DAYS, help=f"the window; {DAYS} by default")
    parser.add_argument("--many-days", type=int, help=f"the long one; {MANY_DAYS:,} by default, of {DAYS}")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"rounds; {RUNS} by default")
    args = parser.parse_args()
    args.many_days = args.many_days or max(args.days * MANY_DAYS // DAYS, args.days + 1)
    args.sizes = sorted(set(args.sizes or (args.rows, 3 * args.rows)))
    if min(args.rows // 5, args.days, args.runs, *args.sizes) < 1 or args.many_days <= args.days:
        parser.error("--rows is at least 5, --days, --runs and --sizes at least 1, --many-days more than --days")
    if args.part in ("days", "all") and args.rows // 5 <= args.many_days:
        parser.error(
            f"a fifth of --rows is more than {args.many_days:,}, the longer window's days, so that each has rows"
        )
    print(in_order(lambda: measured(list(PARTS) if args.part == "all" else [args.part], args)))


if __name__ == "__main__":
    main()
