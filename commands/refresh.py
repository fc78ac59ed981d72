"""Look at the source and rewrite watermark.yaml; say what moved since the last look.

The only command that reads the clock: by default the window ends at today's midnight in UTC (on the embedded sample,
whose clock stands still, at 2025-10-28). Reads the source and writes watermark.yaml. A day whose rows are older than an
earlier look is not hashed again; what that look found is noted in a local file that may be lost.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline import source
from pipeline.core import digest, params, watermark
from pipeline.core.errors import ParamsError, PinError
from pipeline.core.process import run
from pipeline.core.progress import Progress, count
from pipeline.core.watermark import Day, Watermark
from pipeline.files import verified as memory
from pipeline.postgres import session as postgres
from pipeline.postgres import statements as events
from pipeline.postgres import unchanged as horizon
from pipeline.postgres.catalog import check_contract, check_instants
from pipeline.postgres.retry import retrying
from pipeline.postgres.target import Target

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


def look(
    target: Target, days: Sequence[date], workers: int, users: Sequence[str], looked_file: Path
) -> dict[date, Day]:
    """Rows and digest of each day, all in one snapshot. Raises what check_contract and check_instants raise.

    Where the note `looked_file` has the day, and no row of it is newer than the note, what it says holds still.
    """
    encoding, now = "", horizon.Horizon(0, 0, "")
    noted: Mapping[date, Noted] = {}

    def first(connection: Connection) -> None:
        nonlocal encoding, now, noted
        for notice in check_contract(connection, target):
            print(f"refresh: notice: {notice}", file=sys.stderr)
        check_instants(connection, target, users)
        encoding, now = events.encoding(connection), horizon.look(connection, target)
        noted = recall(looked_file, now)

    def pin(connection: Connection, day: date) -> Day:
        was = noted.get(day)
        if was and horizon.rows_all_older(connection, target.schema, day, was.horizon) == was.pin.rows:
            found = was.pin
        else:
            found = Day(*events.day_digest(connection, target.schema, day, encoding))
        progress.add(1)
        return found

    with Progress("refresh", "days", len(days)) as progress:
        _, pins = postgres.per_day(target, days, workers, first, pin)
    if now.witness:
        pinned = {day: f"{now.oldest} {pin.rows} {pin.digest}" for day, pin in pins.items()}
        memory.note(looked_file, _rules(now), pinned)
    return {day: pins[day] for day in days}


class Noted(NamedTuple):
    """What an earlier look found of a day, and below which transaction it knew them all."""

    horizon: int
    pin: Day


def recall(looked_file: Path, now: horizon.Horizon) -> dict[date, Noted]:
    """What the note of earlier looks says, if it is of the same history; empty when it is lost or can't be read."""
    noted = {}
    for day, text in memory.recall(looked_file, _rules(now)).items() if now.witness else ():
        found = re.fullmatch(r"(\d+) (\d+) ([0-9a-f]{16})", str(text))
        if found and now.reaches(int(found[1])):
            noted[day] = Noted(int(found[1]), Day(int(found[2]), found[3]))
    return noted


def _rules(now: horizon.Horizon) -> str:
    code = [Path(file).read_bytes() for file in (digest.__file__, events.__file__, horizon.__file__)]
    return memory.rules(now.witness, code)


def check_source(before: Mapping[date, Day], sample: Mapping[date, Day], watermark_file: Path) -> None:
    """Raise PinError when the sample is not what was pinned `before`: an app's snapshots shall not become the sample's.

    `before` is empty where the source is not the sample.
    """
    other = [day for day, pin in before.items() if sample[day] != pin]
    if other:
        raise PinError(
            f"DATABASE_URL is not set, and {watermark_file} pins another source than the embedded sample: "
            f"{count(len(other), 'day')} of other rows, the first is {min(other)}",
            where="the environment or .env",
            expected="the DATABASE_URL of what is pinned",
            next_step=f"set DATABASE_URL; or, to pin the sample instead, rm {watermark_file}, then the same command",
        )


def _default_until(target: Target) -> date:
    if target.embedded:
        from pipeline.sample import rows as sample

        return sample.UNTIL
    return datetime.now(UTC).date()


def refresh(params_file: Path, watermark_file: Path, looked_file: Path, until: date | None, days: int | None) -> None:
    wish = params.load(params_file)
    old = watermark.load(watermark_file) if watermark_file.exists() else None

    def look_once() -> Watermark:
        with source.connect(wish.source) as target:
            end = until or _default_until(target)
            if end > datetime.now(UTC).date():
                print(f"refresh: notice: {end} lies in the future; rows may still come", file=sys.stderr)
            window = watermark.window(end, days or wish.extract.days)
            print(f"refresh: looking at {count(len(window), 'day')} before {end} in {target.name}", flush=True)
            before = old.days if target.embedded and old is not None else {}
            to_look = sorted({*window, *before})
            found = look(target, to_look, wish.extract.workers, wish.extract.user_id, looked_file)
            check_source(before, found, watermark_file)
            return Watermark(end, {day: found[day] for day in window})

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
    parser = argparse.ArgumentParser(prog="python -m commands.refresh", description=__doc__)
    parser.add_argument("--until", type=_day, metavar="DATE", help="the exclusive end of the window, a UTC date")
    parser.add_argument("--days", type=_days, metavar="N", help="days to pin; extract.days by default")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--watermark", type=Path, default=Path("watermark.yaml"))
    parser.add_argument("--looked", type=Path, default=Path("data/.looked.json"))
    parser.add_argument("--full", action="store_true", help="hash the rows of all days, also where none is newer")
    args = parser.parse_args()
    if args.full:
        args.looked.unlink(missing_ok=True)
    refresh(args.params, args.watermark, args.looked, args.until, args.days)


if __name__ == "__main__":
    run("refresh", main)
