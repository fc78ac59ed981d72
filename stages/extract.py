"""Pull the window out of PostgreSQL: one Parquet file a day, or month, and table in data/raw, and the list of them as a
report.

Reads from the source only the days whose files do not yet hold what watermark.yaml pins, in one read-only snapshot
that all connections share. Publishes every row of every day, or nothing: PostgreSQL's own counts, the pins of
watermark.yaml and the rows that arrived have to agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline import source
from pipeline.checks import made_from
from pipeline.checks.declared import check_declared
from pipeline.core import progress, watermark
from pipeline.core.days import divided
from pipeline.core.digest import Pin, total
from pipeline.core.errors import PinError
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import Progress, count
from pipeline.days.copy import CopyTask, Wanted, check_arrived
from pipeline.days.slices import copies
from pipeline.engine.executor import Workers, workers
from pipeline.files import manifest
from pipeline.files.layout import day_path, part_name, replacing_days, write_report
from pipeline.files.manifest import File
from pipeline.postgres import statements
from pipeline.postgres.catalog import by_day, check_contract, check_instants, together
from pipeline.postgres.retry import retrying
from pipeline.postgres.session import shared_snapshot, transaction
from pipeline.postgres.target import Target
from schemas.tables import TABLES, chosen

# More files, each with fewer rows, are better made of months: docs/internals.md.
MANY_FILES, FEW_ROWS = 1_000, 2_000

# Days that a message names before the rest is only counted.
NAMED = 5

Pins = Mapping[str, Mapping[date, Pin]]

# Of each table what every file is to hold: the days of the window.
Parts = Mapping[str, Mapping[date, tuple[date, ...]]]


def extract(paths: Paths, params: Params) -> None:
    """Make data/raw and extract.json. Raises what read_days raises, and PinError when a day was never pinned."""
    check_declared(TABLES)
    inputs = Inputs(paths, params, lambda p: (p.tables, p.source, p.extract), [paths.watermark])
    pinned = watermark.load(paths.watermark, inputs.text(paths.watermark))
    tables = chosen(TABLES, params.tables)
    pins = {table.name: watermark.pinned(pinned, table, params.extract.days) for table in tables}
    shared = {table.name: made_from.raw(table, params.extract) for table in tables}
    parts = {name: divided(days, params.extract.files == "month") for name, days in pins.items()}
    asked = Asked(params, pins, parts, shared)
    with workers("extract", params.extract.workers, source.told) as run:
        kept = {name: known(paths, asked, name, run) for name in pins}
        to_read = {
            name: {part: days for part, days in some.items() if part not in kept[name]} for name, some in parts.items()
        }
        read = sum(map(len, to_read.values()))
        dropped = sum(count_dropped(paths.raw / name, parts[name]) for name in pins)
        asked = asked._replace(parts=to_read)
        with replacing_days(paths.raw, kept) as staging:
            new = retrying("extract", params.source, lambda: read_days(asked, run, staging)) if read else {}
            inputs.check()
    files = {name: {part: kept[name].get(part) or new[name, part] for part in some} for name, some in parts.items()}
    made = [{**one, "stage": made_from.code(*made_from.EXTRACT_REPORT)} for one in shared.values()]
    window = watermark.window(pinned.until, params.extract.days)
    write_report(paths.extract_report, {"source": pinned.source, **report(files, made, window)})
    rows, all_ = (sum(file.rows for some in files.values() for file in some.values()), sum(map(len, files.values())))
    print(f"extract: kept {all_ - read}, read {read}, dropped {dropped}")
    print(f"extract: {count(rows, 'row')} in {count(all_, 'file')} under {paths.raw}")
    if params.extract.files == "day" and all_ > MANY_FILES and rows < FEW_ROWS * all_:
        print(f"extract: notice: {all_:,} files of few rows; with extract.files: month in params.yaml all is quicker")
    if not rows:
        of = " of the users in extract.user_id" if params.extract.user_id else ""
        print(f"extract: notice: the window holds no rows{of}; the files are there, empty", file=sys.stderr)


def count_dropped(folder: Path, parts: Iterable[date]) -> int:
    """The files in the folder of a table that have left the window."""
    names = set(map(part_name, parts))
    return sum(entry.name not in names for entry in folder.glob("event_*=*"))


class Asked(NamedTuple):
    """The files of each table that are wanted, and what all of them are made from. `pins` has the whole window's."""

    params: Params
    pins: Pins
    parts: Parts
    shared: Mapping[str, Mapping[str, str]]

    def pins_of(self, name: str, part: date) -> dict[date, Pin]:
        return {day: self.pins[name][day] for day in self.parts[name][part]}

    def pin(self, name: str, part: date) -> Pin:
        return total(self.pins_of(name, part).values())

    def made_from(self, name: str, part: date) -> str:
        return made_from.raw_file(self.shared[name], part, self.pins_of(name, part))

    @property
    def days(self) -> Pins:
        """The pins of the days that are to be read."""
        return {
            name: {day: pin for part in some for day, pin in self.pins_of(name, part).items()}
            for name, some in self.parts.items()
        }


def known(paths: Paths, asked: Asked, name: str, run: Workers) -> dict[date, File]:
    """The files of a table that are there and hold what its pins say."""
    pins = {part: asked.pin(name, part) for part in asked.parts[name]}
    wanted = {part: asked.made_from(name, part) for part in pins}
    there = manifest.kept(paths.extract_report, paths.raw / name, wanted, run)
    # A report that says other rows than were pinned is damaged. With a user filter it says fewer.
    filtered = bool(asked.params.extract.user_id)
    return {part: file for part, file in there.items() if file.digest and (filtered or file.pin == pins[part])}


def read_days(asked: Asked, run: Workers, staging: Path) -> dict[tuple[str, date], File]:
    """Write the files that are asked for under `staging`; returns what the report says of each.

    The rows of each file are counted against its pin. Whether they are those that were pinned, validate finds out from
    the file; with a user filter a file holds fewer, so their digest is computed here. Raises ContractError,
    RowsInvalidError, PinError when the source has moved, DataError when rows are lost on the way, and SourceError.
    """
    params, pins = asked.params, asked.days
    users = params.extract.user_id
    days = sorted({day for some in pins.values() for day in some})
    expected = None if users else sum(pin.rows for some in pins.values() for pin in some.values())
    files = {}
    with (
        source.connect(params.source, chosen(TABLES, params.tables)) as target,
        shared_snapshot(target, run.pool) as snapshot,
    ):
        days_of = f"{count(len(days), 'day')} from {target.name}"
        print(f"extract: reading {days_of}, read only, in one transaction", flush=True)
        for notice in snapshot.run(check_contract, target):
            progress.say(f"extract: notice: {notice}")
        snapshot.run(check_instants, target, users)
        if users:  # else COPY itself says how many rows a day has, and a second count would only cost time
            snapshot.run(check_counts, target, pins)
        encoding = snapshot.run(statements.encoding)
        tasks = [
            CopyTask(relation, wanted, users, encoding, params.extract.batch_size)
            for relation in target.relations
            for wanted in together(snapshot.run(by_day, relation), wanted_of(asked, relation.table.name, staging))
        ]
        with Progress("extract", "rows", expected):
            for task, copied in copies(run, snapshot, target, tasks, params.extract.workers):
                for wanted in task.wanted:
                    day, pin, held = wanted.day, wanted.pin, copied[wanted.day].source
                    if held.rows != pin.rows:
                        snapshot.run(check_counts, target, pins)  # the source moved, or
                        check_arrived(day, pin.rows, held.rows)  # the COPY was short
                    if held != pin:
                        rows = count(pin.rows, "row")
                        raise moved(target, [f"{day}: {rows} as pinned, but of other content"])
                    files[task.relation.table.name, day] = copied[day].file
    return files


def wanted_of(asked: Asked, name: str, staging: Path) -> list[Wanted]:
    """The files of a table that are to be written."""
    return [
        Wanted(part, days, asked.pin(name, part), asked.made_from(name, part), day_path(staging / name, part))
        for part, days in asked.parts[name].items()
    ]


def check_counts(connection: Connection, target: Target, pins: Pins) -> None:
    """Raise PinError that names the days which have more or fewer rows than watermark.yaml says."""
    others = []
    for relation in target.relations:
        days = pins[relation.table.name]
        found = statements.day_counts(connection, relation, list(days)) if days else {}
        others += [
            f"{day}: pinned {pin.rows:,}, now {found[day]:,}" for day, pin in days.items() if found[day] != pin.rows
        ]
    if others:
        raise moved(target, others)


def moved(target: Target, others: list[str]) -> PinError:
    some = "; ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
    if target.is_sample:
        return PinError(
            f"watermark.yaml does not pin the embedded sample: {some}",
            where=f"{target.name}, which is the source because DATABASE_URL is not set",
            expected="the database that watermark.yaml was pinned from",
            next_step="set DATABASE_URL (environment or .env); or dvc pull; or, to pin the sample instead, "
            "rm watermark.yaml, then python -m commands.refresh",
        )
    return PinError(
        f"the source has moved on {count(len(others), 'day')} since watermark.yaml was written: {some}",
        where=target.name,
        expected="the rows a day that watermark.yaml pins",
        next_step="python -m commands.refresh, look at git diff watermark.yaml, then dvc repro",
    )


def report(files: manifest.Files, shared: list[dict[str, str]], window: Sequence[date]) -> dict[str, Any]:
    """extract.json: headline figures, the window, what all files of a table are made from, and the files."""
    return {
        "days": len(window),
        "tables": [{"table": t, "rows": sum(file.rows for file in some.values())} for t, some in files.items()],
        "window": [str(window[0]), str(window[-1] + timedelta(days=1))],
        "made_from": shared,
        "files": manifest.entries(files),
    }


def check(params: Params) -> None:
    """Only compare the contract with the database, as a deploy of the app may ask before it migrates."""

    def compare() -> tuple[str, list[str]]:
        with source.connect(params.source, chosen(TABLES, params.tables)) as target, transaction(target) as connection:
            return target.name, check_contract(connection, target)

    name, notices = retrying("extract", params.source, compare)
    for notice in notices:
        progress.say(f"extract: notice: {notice}")
    print(f"extract: the table in {name} is what the contract describes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.extract", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare the contract with the database")
    only_check = parser.parse_args().check
    paths = project()
    params = load_params(paths.params)
    if only_check:
        check(params)
        sys.exit()  # it is no run whose time the summary would tell
    extract(paths, params)


if __name__ == "__main__":
    run("extract", main)
