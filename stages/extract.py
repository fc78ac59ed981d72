"""Pull the window out of PostgreSQL: one Parquet file a day in data/raw, and what PostgreSQL counted as a report.

Reads from the source only the days whose files do not yet hold what watermark.yaml pins, in one read-only snapshot
that all connections share. Publishes every row of every day, or nothing: PostgreSQL's own counts, the pins of
watermark.yaml and the rows that arrived have to agree.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
from psycopg2.extensions import connection as Connection

from pipeline import source
from pipeline.core import params, watermark
from pipeline.core.errors import DataError, PinError
from pipeline.core.process import run
from pipeline.core.progress import Progress, count
from pipeline.files import manifest as extracted
from pipeline.files import seal
from pipeline.files.layout import PREFIX, day_path, replacing
from pipeline.files.manifest import File
from pipeline.files.writer import DayWriter, fingerprint
from pipeline.postgres import copy as pgcopy
from pipeline.postgres import session as postgres
from pipeline.postgres import statements as events
from pipeline.postgres.catalog import check_contract, check_instants
from pipeline.postgres.retry import retrying
from pipeline.postgres.target import Target
from schemas.contract import arrow_schema


def check_pins(pins: Mapping[date, watermark.Day], found: Mapping[date, watermark.Day], target: Target) -> None:
    """Raise PinError that names the days which do not hold what watermark.yaml says."""
    moved = [
        f"{day}: pinned {pin.rows:,}, now {found[day].rows:,}"
        if pin.rows != found[day].rows
        else f"{day}: {count(pin.rows, 'row')} as pinned, but of other content"
        for day, pin in pins.items()
        if found[day] != pin
    ]
    if moved:
        some = "; ".join(moved[:5])
        more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
        if target.embedded:
            raise PinError(
                f"watermark.yaml does not pin the embedded sample: {some}{more}",
                where=f"{target.name}, which is the source because DATABASE_URL is not set",
                expected="the database that watermark.yaml was pinned from",
                next_step="set DATABASE_URL (environment or .env); or dvc pull; or, to pin the sample instead, "
                "rm watermark.yaml, then python -m commands.refresh",
            )
        raise PinError(
            f"the source has moved on {count(len(moved), 'day')} since watermark.yaml was written: {some}{more}",
            where=target.name,
            expected="the rows a day that watermark.yaml pins",
            next_step="python -m commands.refresh, look at git diff watermark.yaml, then dvc repro",
        )


def check_arrived(counted: Mapping[date, int], arrived: Mapping[date, int], where: str) -> None:
    """Raise DataError that names the first day on which rows were lost or doubled on the way."""
    for day, rows in arrived.items():
        if rows != counted.get(day, 0):
            raise DataError(
                f"{day}: PostgreSQL counted {counted.get(day, 0):,} rows and {rows:,} arrived",
                where=where,
                expected="every row once",
                next_step="dvc repro; if it stays, REINDEX the table: an index may be corrupt",
            )


def origin(pin: watermark.Day, users: Sequence[str]) -> dict[str, str]:
    """What decides the bytes of a day's file, as its footer says it: the pin, the user filter, contract and code."""
    # Of the users only a digest: a file without rows of theirs shall not name them.
    chosen = hashlib.sha256("\n".join(users).encode()).hexdigest()[:16] if users else "all"
    return {
        "pipeline.pin": str(pin),
        "pipeline.users": chosen,
        "pipeline.contract": fingerprint("raw", events.__file__, pgcopy.__file__),
    }


def read_days(
    settings: params.Source,
    wish: params.Extract,
    pins: Mapping[date, watermark.Day],
    origins: Mapping[date, Mapping[str, str]],
    staging: Path,
) -> dict[date, File]:
    """Write the files of the days in `pins` under `staging`; returns what the report says of each.

    The rows of each day are counted against its pin. Whether they are those that were pinned, validate finds out from
    the file; but not from one of some users only, so with a filter the digests are compared here. Raises what
    check_contract, check_pins and check_arrived raise, and SourceError.
    """
    schema, days = arrow_schema("raw"), list(pins)
    expected = None if wish.user_id else sum(pin.rows for pin in pins.values())
    with source.connect(settings) as target, Progress("extract", "rows", expected) as progress:
        print(f"extract: reading {count(len(days), 'day')} from {target.name}, read only, in one snapshot", flush=True)

        def counts(connection: Connection) -> dict[date, int]:
            """Rows of each day, of the users asked for; raises PinError when the source has moved."""
            found = events.day_counts(connection, target.schema, days, wish.user_id)
            check_pins(pins, {day: watermark.Day(rows, pins[day].digest) for day, (rows, _) in found.items()}, target)
            return {day: chosen for day, (_, chosen) in found.items()}

        encoding = ""

        def before(connection: Connection) -> dict[date, int]:
            nonlocal encoding
            for notice in check_contract(connection, target):
                print(f"extract: notice: {notice}", file=sys.stderr)
            check_instants(connection, target, wish.user_id)
            encoding = events.encoding(connection)
            # Without a filter COPY itself says how many rows a day has, and a second count would only cost time.
            return counts(connection) if wish.user_id else {}

        def copy(connection: Connection, day: date) -> File:
            with DayWriter(day_path(staging, day), schema, origins[day]) as writer:

                def write(batch: pa.RecordBatch) -> None:
                    writer.write(batch)
                    progress.add(batch.num_rows)

                # PostgreSQL checks or converts every text, but for a database that does not know its encoding.
                decoder = pgcopy.Decoder(wish.batch_size, schema, write, check_utf8=encoding == "SQL_ASCII")
                sent = events.copy_day(connection, target.schema, day, wish.user_id, decoder)
                decoder.finish()
            check_arrived({day: sent}, {day: writer.rows}, target.name)
            if not wish.user_id and sent != pins[day].rows:
                counts(connection)  # the source moved, or
                check_arrived({day: pins[day].rows}, {day: sent}, target.name)  # the COPY was short
            if wish.user_id:
                now = watermark.Day(*events.day_digest(connection, target.schema, day, encoding))
                check_pins({day: pins[day]}, {day: now}, target)
            return File(sent, writer.sha256)

        counted, files = postgres.per_day(target, days, wish.workers, before, copy)
        if wish.user_id:
            check_arrived(counted, {day: file.rows for day, file in files.items()}, target.name)
    return files


def extract(params_file: Path, watermark_file: Path, out: Path, report_file: Path) -> None:
    everything = params.load(params_file)
    wish = everything.extract
    pins = watermark.pinned(watermark.load(watermark_file), wish.days, watermark_file)
    origins = {day: origin(pin, wish.user_id) for day, pin in pins.items()}
    wanted = {day_path(out, day).parent for day in pins}
    dropped = [folder for folder in out.glob(PREFIX + "*") if folder not in wanted]
    # With a filter a file has fewer rows than the pin says; else as many, whatever its footer claims.
    intact = seal.unchanged(out, origins)
    kept = {
        day: File(file.rows, file.sha256) for day, file in intact.items() if wish.user_id or file.rows == pins[day].rows
    }
    to_read = {day: pin for day, pin in pins.items() if day not in kept}
    with replacing(out, kept) as staging:

        def read() -> dict[date, File]:
            return read_days(everything.source, wish, to_read, origins, staging)

        files = kept | (retrying("extract", everything.source, read) if to_read else {})
    extracted.write(report_file, {day: files[day] for day in pins})
    rows = sum(file.rows for file in files.values())
    print(f"extract: kept {len(kept)}, read {len(to_read)}, dropped {len(dropped)}")
    print(f"extract: {count(rows, 'row')} in {count(len(pins), 'file')} under {out}")
    if not rows:
        of = " of the users in extract.user_id" if wish.user_id else ""
        print(f"extract: notice: the window holds no rows{of}; the files are there, empty", file=sys.stderr)


def check(params_file: Path) -> None:
    """Only compare the contract with the database, as a deploy of the app may ask before it migrates."""
    settings = params.load(params_file).source

    def compare() -> tuple[str, list[str]]:
        with source.connect(settings) as target, postgres.snapshot(target) as connection:
            return target.name, check_contract(connection, target)

    name, notices = retrying("extract", settings, compare)
    for notice in notices:
        print(f"extract: notice: {notice}", file=sys.stderr)
    print(f"extract: the table in {name} is what the contract describes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="stages.extract", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--watermark", type=Path, default=Path("watermark.yaml"))
    parser.add_argument("--out", type=Path, default=Path("data/raw/behavioral_events"))
    parser.add_argument("--report", type=Path, default=Path("data/reports/extract.json"))
    parser.add_argument("--check", action="store_true", help="only compare the contract with the database")
    args = parser.parse_args()
    if args.check:
        check(args.params)
        sys.exit()  # it is no run whose time the summary would tell
    extract(args.params, args.watermark, args.out, args.report)


if __name__ == "__main__":
    run("extract", main)
