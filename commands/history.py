"""The last runs on this machine, good or bad: when, what came of it, rows, seconds; and how often it went well."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pipeline.core.process import project, run
from pipeline.core.progress import count, printable
from pipeline.tell import runs
from pipeline.tell.runs import RUNNING, Run

LAST = 20

BLOCKS = "▁▂▃▄▅▆▇█"


def history(all_: Sequence[Run], last: int, now: datetime) -> Iterator[str]:
    if not all_:
        yield "no run is remembered on this machine; next: make repro"
        return
    yield f"{'started (UTC)':<17} {'what':<6} {'result':<8} {'verdict':<7} {'rows':>11} {'seconds':>8}  reason"
    for one in all_[-last:]:
        rows = "" if one.rows is None else f"{one.rows:,}"
        seconds = "" if one.seconds is None else f"{one.seconds:,.1f}"
        line = (
            f"{one.start:%Y-%m-%d %H:%M}  {one.what:<6} {one.result:<8} {one.verdict or '':<7} {rows:>11} {seconds:>8}"
        )
        yield f"{line}  {printable(one.reason)}".rstrip()
    ended = [one for one in all_ if one.result != RUNNING]
    for days in (7, 30):
        recent = [one for one in ended if one.start >= now - timedelta(days=days)]
        good = sum(one.good for one in recent)
        yield f"last {days:>2} days: {count(len(recent), 'run')}" + (
            f", {good / len(recent):.0%} good" if recent else ""
        )
    night = runs.last_good(all_, "night")
    known = f"{night.end:%Y-%m-%d %H:%M} UTC, {night.sentence}" if night and night.end else "none"
    yield f"last good night: {known}"
    rows_ = [one.rows for one in ended if one.good and one.rows is not None][-last:]
    if rows_:
        yield f"rows: {trend(rows_)} {rows_[0]:,} to {rows_[-1]:,}; least {min(rows_):,}, most {max(rows_):,}"


def trend(rows: Sequence[int]) -> str:
    """A block for each, the lowest for the least and the highest for the most."""
    least, most = min(rows), max(rows)
    return "".join(BLOCKS[(number - least) * (len(BLOCKS) - 1) // ((most - least) or 1)] for number in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.history", description=__doc__)
    parser.add_argument("--last", type=int, default=LAST, metavar="N", help=f"runs to list; {LAST} by default")
    last = max(1, parser.parse_args().last)
    for line in history(runs.read(project().runs), last, datetime.now(UTC)):
        print(line)


if __name__ == "__main__":
    run("history", main)
