"""Pin what the source holds: rewrite watermark.yaml, and say what moved since the last refresh.

The only command that reads the clock: by default the window ends at today's midnight in UTC (on the embedded sample,
whose clock stands still, at 2025-10-28). Reads the source and writes watermark.yaml. A day whose rows are older than
the last refresh is not hashed again; what that found is kept in a local cache that may be lost.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection

from pipeline import source
from pipeline.checks import moved
from pipeline.checks.declared import check_declared
from pipeline.core import digest, progress, watermark
from pipeline.core.digest import Pin
from pipeline.core.errors import ParamsError, PinError, PipelineError, TransientSourceError
from pipeline.core.params import MAX_DAYS, Extract, Params, load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import Progress, count
from pipeline.core.watermark import Watermark
from pipeline.days.pin import PinTask, pin_days
from pipeline.engine.executor import executor
from pipeline.files import manifest, verified
from pipeline.files.verified import Verified
from pipeline.postgres import statements, unchanged
from pipeline.postgres.catalog import by_day, check_contract, check_instants, together
from pipeline.postgres.retry import retrying
from pipeline.postgres.session import shared_snapshot, transaction
from pipeline.postgres.target import Target
from pipeline.postgres.unchanged import Saved, SnapshotAge, enum_labels, snapshot_age
from schemas import types
from schemas.table import Table
from schemas.tables import TABLES, chosen

# Seconds that the clocks of this machine and of PostgreSQL may differ: what Kerberos allows (RFC 4120, 5 minutes).
MAX_SKEW = 300

Pins = Mapping[str, Mapping[date, Pin]]

# The labels of the enums, and how old the transaction snapshot of each table is.
State = tuple[list[tuple[Any, ...]], dict[str, SnapshotAge]]


class Options(NamedTuple):
    """What the command line says; None where it says nothing."""

    until: date | None = None
    days: int | None = None
    full: bool = False
    accept: bool = False


def refresh(paths: Paths, params: Params, options: Options) -> None:
    """Rewrite watermark.yaml, or leave it as it is if nothing moved.

    Raises ContractError, RowsInvalidError, SourceError, PinError where the sample would replace another source, and
    QualityError where too many days lost rows or the window would move back.
    """
    check_declared(TABLES)
    old = watermark.load(paths.watermark) if paths.watermark.exists() else None
    if options.full:
        paths.verified("refresh").unlink(missing_ok=True)
    new = retrying("refresh", params.source, lambda: pin_source(paths, params, options, old))
    lines = list(moved.told(old, new))
    if old is not None and lines:
        change = moved.changed_days(old, new)
        accepted = moved.check_back(old.until, new.until, options.accept or options.until is not None)
        accepted += moved.check_shrunk(change, new, params.quality.shrunk_days, options.accept)
        new = new._replace(moved=change._replace(accepted=accepted))
    elif old is not None:
        new = old
    watermark.save(new, paths.watermark)
    for line in lines:
        print(f"refresh: {line}")
    rows = sum(pin.rows for days in new.tables.values() for pin in days.values())
    if lines:
        print(f"refresh: {paths.watermark} now pins {count(rows, 'row')}; next: dvc repro, then git commit -a")
    else:
        print(f"refresh: nothing moved; {paths.watermark} stays as it was ({count(rows, 'row')})")


def pin_source(paths: Paths, params: Params, options: Options, old: Watermark | None) -> Watermark:
    """What the source holds now."""
    with source.connect(params.source, chosen(TABLES, params.tables)) as target:
        until = options.until or default_until(target)
        if old is not None and not target.is_sample:  # before all days are hashed; the sample has more to be told first
            moved.check_back(old.until, until, options.accept or options.until is not None)
        check_future(until, options.accept)
        window = watermark.window(until, options.days or params.extract.days)
        print(f"refresh: pinning {count(len(window), 'day')} before {until} in {target.name}", flush=True)
        # On the sample also what was pinned before, to see whether that was another source.
        before = dict(old.tables) if target.is_sample and old is not None else {}
        wanted = {table.name: watermark.parts(table, window) for table in chosen(TABLES, params.tables)}
        days = {name: sorted({*some, *before.get(name, ())}) for name, some in wanted.items()}
        found = pin_tables(paths, params.extract, target, days)
        check_source(paths, before, found)
        pins = {name: {day: some[day] for day in wanted[name]} for name, some in found.items()}
        return Watermark(until, pins, source="sample" if target.is_sample else "database")


def check_future(until: date, accept: bool) -> None:
    """Say that a day is not over yet. Raises ParamsError for one far off: its days are empty, and would take the place
    of others."""
    today = datetime.now(UTC).date()
    if until > today + timedelta(days=1) and not accept:
        raise ParamsError(
            f"{until} lies in the future; today is {today}",
            where="--until",
            expected="a day that has begun; nothing was pinned",
            next_step="python -m commands.refresh; or, if it shall, the same command with --accept",
        )
    if until > today:
        progress.say(f"refresh: notice: {until} lies in the future; rows may still come")


def pin_tables(
    paths: Paths, params: Extract, target: Target, days: Mapping[str, list[date]]
) -> dict[str, dict[date, Pin]]:
    """The pins of the days of each table, all in one snapshot. Raises what check_contract and check_instants raise."""
    with executor(params.workers) as pool, shared_snapshot(target, pool) as snapshot:
        for notice in snapshot.run(check_contract, target):
            progress.say(f"refresh: notice: {notice}")
        snapshot.run(check_instants, target, params.user_id)
        encoding = snapshot.run(statements.encoding)
        labels, ages = snapshot.run(state, target)
        for name, age in ages.items():
            if age.why:
                progress.say(f"refresh: notice: {name}: {age.why}")
        tasks = []
        for relation in target.relations:
            name = relation.table.name
            saved = recall(paths, relation.table, ages[name])
            tasks += [
                PinTask(relation, some, encoding, saved)
                for some in together(snapshot.run(by_day, relation), days[name])
            ]
        pins: dict[str, dict[date, Pin]] = {name: {} for name in days}
        with Progress("refresh", "days", sum(len(task.days) for task in tasks)):
            for task, found in snapshot.map(pin_days, tasks):
                pins[task.relation.table.name] |= found
        with transaction(target) as now:
            check_still(target, (labels, ages), state(now, target))
    save(paths, ages, pins)
    return pins


def state(connection: Connection, target: Target) -> State:
    """The labels of the enums, and how old the connection's snapshot of each table is, by the catalog of the moment."""
    ages = {relation.table.name: snapshot_age(connection, target, relation) for relation in target.relations}
    return enum_labels(connection, target), ages


def check_still(target: Target, before: State, now: State) -> None:
    """Raise TransientSourceError when labels or histories are not what they were before the days were hashed.

    Days that were hashed before a label was renamed, and after it, would stand side by side.
    """
    changed = ["labels of an enum"] if before[0] != now[0] else []
    changed += [f"the history of {name}" for name, age in before[1].items() if age.history != now[1][name].history]
    if changed:
        raise TransientSourceError(
            f"{' and '.join(changed)} changed while the days were hashed",
            where=target.name,
            expected="no ALTER TYPE, ATTACH PARTITION or the like meanwhile",
            next_step="the same command again when the migration is done; nothing was noted",
        )


def recall(paths: Paths, table: Table, age: SnapshotAge) -> dict[date, Saved]:
    """What earlier refreshes found of each day, if it is of the same history; empty where nothing can be said."""
    if not age.history:
        return {}
    found = verified.recall(paths.verified("refresh"), table.name, cache_key(table, age))
    saved = {day: parse(value) for day, value in found.items()}
    return {day: value for day, value in saved.items() if value is not None and age.reaches(value.xmin)}


def parse(value: Any) -> Saved | None:
    """A saved value as `save` wrote it; None for anything else."""
    match value:
        case {"xmin": int(xmin), "rows": int(rows), "digest": str(text)} if re.fullmatch("[0-9a-f]{16}", text):
            return Saved(xmin, Pin(rows, text))
    return None


def save(paths: Paths, ages: Mapping[str, SnapshotAge], pins: Pins) -> None:
    tables = {table.name: table for table in TABLES}
    known = {
        name: Verified(
            cache_key(tables[name], age),
            {day: {"xmin": age.xmin, **pin._asdict()} for day, pin in pins[name].items()},
        )
        for name, age in ages.items()
        if age.history
    }
    if known:
        verified.save(paths.verified("refresh"), known)


def cache_key(table: Table, age: SnapshotAge) -> str:
    code = manifest.code(*(Path(str(module.__file__)) for module in (digest, statements, types, unchanged)))
    return verified.cache_key(age.history, table.fingerprint("raw"), code)


def check_source(paths: Paths, before: Pins, sample: Pins) -> None:
    """Raise PinError when the sample is not what was pinned `before`: an app's snapshots shall not become the sample's.

    `before` is empty where the source is not the sample.
    """
    others = [day for name, days in before.items() for day, pin in days.items() if sample.get(name, {}).get(day) != pin]
    if others:
        raise PinError(
            f"DATABASE_URL is not set, and {paths.watermark} pins another source than the embedded sample: "
            f"{count(len(others), 'day')} of other rows, the first is {min(others)}",
            where="the environment or .env",
            expected="the DATABASE_URL of what is pinned",
            next_step=f"set DATABASE_URL; or, to pin the sample instead, rm {paths.watermark}, then the same command",
        )


def default_until(target: Target) -> date:
    """Today's midnight in UTC, which lies within no day that has ended; on the sample its own.

    Raises PipelineError where this machine's clock or PostgreSQL's must be wrong.
    """
    if target.is_sample:
        from pipeline.sample import rows

        return rows.UNTIL
    with transaction(target) as connection:
        theirs = statements.clock(connection)
    ours = datetime.now(UTC).replace(tzinfo=None)
    skew = abs((ours - theirs).total_seconds())
    if skew > MAX_SKEW:
        raise PipelineError(
            f"this machine's clock says {ours:%Y-%m-%d %H:%M} UTC, PostgreSQL's {theirs:%Y-%m-%d %H:%M}",
            where=target.name,
            expected=f"clocks that differ by at most {MAX_SKEW} s, since the window ends with the last whole day",
            next_step="set the wrong clock; or say the day: python -m commands.refresh --until DATE",
        )
    return min(ours, theirs).date()


def _day(text: str) -> date:
    try:
        return watermark.parse_until(text, Path("--until"))
    except ParamsError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2025-10-28") from None


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_DAYS}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.refresh", description=__doc__)
    parser.add_argument("--until", type=_day, metavar="DATE", help="the exclusive end of the window, a UTC date")
    parser.add_argument("--days", type=_days, metavar="N", help="days to pin; extract.days by default")
    parser.add_argument("--full", action="store_true", help="hash the rows of all days, also where none is newer")
    parser.add_argument(
        "--accept", action="store_true", help="yes, once, to many days with fewer rows or a window that moves back"
    )
    args = parser.parse_args()
    paths = project()
    refresh(paths, load_params(paths.params), Options(args.until, args.days, args.full, args.accept))


if __name__ == "__main__":
    run("refresh", main)
