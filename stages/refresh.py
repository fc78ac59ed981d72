"""Look at the source and rewrite watermark.yaml; say what moved since the last look.

The only command that reads the clock: by default the window ends at today's midnight in UTC (on the embedded sample,
whose clock stands still, at 2025-10-28). Reads the source; writes watermark.yaml and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from stages.shared import params, watermark
from stages.shared.errors import ParamsError, run
from stages.shared.progress import Progress, count
from stages.shared.watermark import Day, Watermark
from stages.source import events, postgres
from stages.source.catalog import check_contract, check_instants
from stages.source.retry import retrying

# Days that are listed one by one before the rest is only counted.
LISTED = 10


def moved(old: Watermark | None, new: Watermark) -> list[str]:
    """What is different between two looks at the source, a line each; empty when nothing moved."""
    if old is None:
        return [f"a first look: {count(len(new.days), 'day')}"]
    before = old.days
    kinds: dict[str, list[str]] = {"new": [], "more rows": [], "fewer rows": [], "changed rows": [], "left": []}
    for day, pin in new.days.items():
        was = before.get(day)
        if was is None:
            kinds["new"].append(f"{day} ({pin.rows:,})")
        elif pin.rows > was.rows:
            kinds["more rows"].append(f"{day} ({was.rows:,} -> {pin.rows:,})")
        elif pin.rows < was.rows:
            kinds["fewer rows"].append(f"{day} ({was.rows:,} -> {pin.rows:,})")
        elif pin.digest != was.digest:
            kinds["changed rows"].append(f"{day} ({pin.rows:,})")
    kinds["left"] = [str(day) for day in before if day not in new.days]
    titles = {"left": "left the window"}
    return [
        f"{count(len(days), 'day')} {'with ' + kind if 'rows' in kind else titles.get(kind, kind)}: "
        + ", ".join(days[:LISTED])
        + (f" and {len(days) - LISTED} more" if len(days) > LISTED else "")
        for kind, days in kinds.items()
        if days
    ]


def look(target: postgres.Target, days: Sequence[date], workers: int, users: Sequence[str]) -> dict[date, Day]:
    """Rows and digest of each day, all in one snapshot. Raises what check_contract and check_instants raise."""

    encoding = ""

    def check(connection: sa.Connection) -> None:
        nonlocal encoding
        for notice in check_contract(connection, target):
            print(f"refresh: notice: {notice}", file=sys.stderr)
        check_instants(connection, target, users)
        encoding = events.encoding(connection)

    def digest(connection: sa.Connection, day: date) -> Day:
        pin = Day(*events.day_digest(connection, target.schema, day, encoding))
        progress.add(1)
        return pin

    with Progress("refresh", "days", len(days)) as progress:
        _, pins = postgres.per_day(target, days, workers, check, digest)
    return {day: pins[day] for day in days}


def _default_until(target: postgres.Target) -> date:
    if target.embedded:
        from stages.source import sample

        return sample.UNTIL
    return datetime.now(UTC).date()


def refresh(params_file: Path, watermark_file: Path, until: date | None, days: int | None) -> None:
    wish = params.load(params_file)
    old = watermark.load(watermark_file) if watermark_file.exists() else None

    def look_once() -> Watermark:
        with postgres.connect(wish.source) as target:
            end = until or _default_until(target)
            if end > datetime.now(UTC).date():
                print(f"refresh: notice: {end} lies in the future; rows may still come", file=sys.stderr)
            window = watermark.window(end, days or wish.extract.days)
            print(f"refresh: looking at {count(len(window), 'day')} before {end} in {target.name}", flush=True)
            found = Watermark(end, look(target, window, wish.extract.workers, wish.extract.user_id))
            if target.embedded and old is not None and old != found:
                print("refresh: notice: DATABASE_URL is not set, so this pins the embedded sample", file=sys.stderr)
            return found

    new = retrying("refresh", wish.source, look_once)
    lines = moved(old, new)
    watermark.save(new, watermark_file)
    for line in lines:
        print(f"refresh: {line}")
    rows = sum(pin.rows for pin in new.days.values())
    if lines:
        print(f"refresh: {watermark_file} now pins {count(rows, 'row')}; next: dvc repro, then git commit")
    else:
        print(f"refresh: nothing moved; {watermark_file} stays as it was ({count(rows, 'row')})")


def _day(text: str) -> date:
    try:
        return watermark.parse_until(text, Path("--until"))
    except ParamsError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2025-10-28") from None


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= params.MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {params.MAX_DAYS}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.refresh", description=__doc__)
    parser.add_argument("--until", type=_day, metavar="DATE", help="the exclusive end of the window, a UTC date")
    parser.add_argument("--days", type=_days, metavar="N", help="days to pin; extract.days by default")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--watermark", type=Path, default=Path("watermark.yaml"))
    args = parser.parse_args()
    refresh(args.params, args.watermark, args.until, args.days)


if __name__ == "__main__":
    run("refresh", main)
