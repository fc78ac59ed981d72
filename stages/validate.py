"""Prove that every row of data/raw obeys the contract, before anything is published.

Reads data/raw in batches; writes validation.json, the failing cases (local only) and, in quarantine mode, the failing
rows to data/quarantine. Checks everything before it fails; every count is exact. A day whose file passed the same
checks on this machine before is not checked again; which ones did is noted in a local file that may be lost.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import pandas as pd
import pandera
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc
from pandera.errors import SchemaErrors

from schemas import behavioral_events, contract
from schemas.behavioral_events import build_schema
from schemas.contract import COLUMNS, arrow_schema
from stages.shared import params, seal, watermark
from stages.shared.errors import RowsInvalidError, run
from stages.shared.layout import day_path, literal, replacing_file, sha256, write_report
from stages.shared.parquet import DayWriter, batches, open_day
from stages.shared.progress import Progress, count

Item = TypeVar("Item")

# A chunk ends after this many bytes, too, so that 1 MB bodies don't fill the memory.
BATCH_BYTES = 4 * 1024 * 1024

# What is added to a quarantined row: its raw file and where it stands there, counted from 0, and why it is here.
QUARANTINE_FIELDS = [
    pyarrow.field("event_date", pyarrow.date32()),
    pyarrow.field("row_number", pyarrow.int64()),
    pyarrow.field("failed_checks", pyarrow.string()),
]

# Failing cases that the terminal shows; the report has more.
SHOWN = 10


class Piece(NamedTuple):
    """Consecutive rows of one day's raw file, `offset` rows from its begin."""

    day: date
    offset: int
    batch: pyarrow.RecordBatch


def chunks(raw: Path, days: Sequence[date], batch_size: int) -> Iterator[list[Piece]]:
    """All rows in order, in lists of pieces of at most `batch_size` rows and about BATCH_BYTES bytes together.

    A check costs as much for ten rows as for a thousand, so small days are checked together.
    """
    pieces: list[Piece] = []
    room, size = batch_size, 0
    for day in days:
        offset = 0
        for batch in batches(open_day(raw, day, arrow_schema("raw")), batch_size):
            begin = 0
            while begin < batch.num_rows:
                part = batch.slice(begin, room)
                pieces.append(Piece(day, offset + begin, part))
                begin, room, size = begin + part.num_rows, room - part.num_rows, size + part.nbytes
                if not room or size > BATCH_BYTES:
                    yield pieces
                    pieces, room, size = [], batch_size, 0
            offset += batch.num_rows
    if pieces:
        yield pieces


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next one being read while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


@dataclass
class Findings:
    """What the checks found so far: exact counts, and a bounded number of cases."""

    per_check: int
    with_values: bool = True
    rows: int = 0
    failed_rows: int = 0
    failed_days: set[date] = field(default_factory=set)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    cases: list[tuple[date, str | None, str, str, str | None]] = field(default_factory=list)

    def add(self, piece: Piece, column: str, check: str, failing: pyarrow.Array) -> None:
        """Note the rows of `piece` where the mask `failing` is true."""
        n = failing.true_count
        if n:
            self.failed_days.add(piece.day)
        before = self.counts[column, check]
        self.counts[column, check] = before + n
        room = max(self.per_check - before, 0)
        if n and room:
            some = piece.batch.filter(failing).slice(0, room)
            values = some.column(column).cast(pyarrow.string()).to_pylist() if self.with_values else [None] * len(some)
            for id_, value in zip(some.column("id").to_pylist(), values, strict=True):
                self.cases.append((piece.day, id_, column, check, value))

    def report(self, mode: str, raw_sha256: str, quarantine_sha256: str) -> dict[str, object]:
        """validation.json: counts that are not zero by column and check, and the names of all checks that ran."""
        failures: dict[str, dict[str, int]] = {}
        for (column, check), n in self.counts.items():
            if n:
                failures.setdefault(column, {})[check] = n
        return {
            "rows": self.rows,
            "passed": not self.failed_rows,
            "mode": mode,
            "failed_rows": self.failed_rows,
            "failures": failures,
            "checks": [f"{column}.{check}" for column, check in self.counts],
            # What export compares, so that it publishes exactly what was checked.
            "raw_sha256": raw_sha256,
            "quarantine_sha256": quarantine_sha256,
        }


def rules(phases: Sequence[str]) -> str:
    """A digest of all that decides whether a row passes: the checks' code, the libraries, the params."""
    libraries = [pandera.__version__, pd.__version__, pyarrow.__version__, duckdb.__version__]
    code = [Path(str(module)).read_bytes() for module in (behavioral_events.__file__, contract.__file__, __file__)]
    return hashlib.sha256(repr([libraries, list(phases), code]).encode()).hexdigest()


def passed_before(memory: Path, rules: str) -> dict[date, str]:
    """Days and their files' checksums that passed these rules when they were last checked, all in one run.

    Empty when the note is missing or can't be read: then everything is checked.
    """
    try:
        noted = json.loads(memory.read_text(encoding="utf-8"))
        return {date.fromisoformat(day): sha for day, sha in noted["days"].items()} if noted["rules"] == rules else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def within_time_rules(days: Sequence[date], schema: pa.DataFrameSchema) -> list[date]:
    """The days of which every instant passes the rules that speak of `until`, which moves while files stay."""
    if not days:
        return []
    begins = [watermark.midnight(day) for day in days]
    ends = [watermark.midnight(day + timedelta(days=1)) - timedelta(milliseconds=1) for day in days]
    instants = pyarrow.array(begins + ends, pyarrow.timestamp("ms"))
    series = pyarrow.table({"timestamp": instants}).to_pandas(types_mapper=pd.ArrowDtype)["timestamp"]
    passed = [True] * len(series)
    for check in schema.columns["timestamp"].checks:
        passed = [a and bool(b) for a, b in zip(passed, check(series).check_output, strict=True)]
    return [day for day, begin, end in zip(days, passed, passed[len(days) :], strict=False) if begin and end]


def duplicate_ids(raw: Path, days: Sequence[date], new: Collection[date], spill: Path) -> list[str]:
    """The ids that stand on more than one row of `days`, which no batch can see.

    The other days than `new` were found to have no id twice among them. DuckDB groups within a fixed memory and
    spills the rest into the folder `spill`.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "96MB",
        "threads": 2,
        "temp_directory": str(spill),
    }

    def rows(of: Collection[date]) -> str:
        files = ", ".join(literal(str(day_path(raw, day))) for day in sorted(of))
        return f"(SELECT id FROM read_parquet([{files}], hive_partitioning = false) WHERE id IS NOT NULL)"

    if not new:
        return []
    among = f"WHERE id IN {rows(new)}" if len(new) < len(days) else ""
    with duckdb.connect(config=config) as connection:
        twice = connection.execute(f"SELECT id FROM {rows(days)} {among} GROUP BY id HAVING count(*) > 1")
        return [row[0] for row in twice.fetchall()]


def failing_masks(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, duplicates: Sequence[str]
) -> Iterator[tuple[str, str, pyarrow.Array]]:
    """For each column and check the mask of failing rows: the checks of the Pandera schema, one by one."""
    for column in COLUMNS:
        declared, series = schema.columns[column.name], frame[column.name]
        if not column.nullable:
            yield column.name, "not_nullable", mask(series.isna())
        for check in declared.checks:
            # Pandera leaves NULLs out of what it checks; they pass.
            passed = check(series).check_output.reindex(series.index, fill_value=True)
            yield column.name, check.name, mask(~passed.astype(bool))
        if column.name == "id":
            yield "id", "unique", mask(series.isin(duplicates) & series.notna())


def mask(series: pd.Series[Any]) -> pyarrow.BooleanArray:
    return pyarrow.array(series.to_numpy(bool))


def check_chunk(
    pieces: Sequence[Piece], schema: pa.DataFrameSchema, duplicates: Sequence[str], findings: Findings
) -> list[pyarrow.Array]:
    """Why rows fail, for each piece one text a row (NULL: it passes); an empty list when all rows pass."""
    table = pyarrow.Table.from_batches([piece.batch for piece in pieces])
    findings.rows += table.num_rows
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        schema.validate(frame, lazy=True)
        if not duplicates:
            return []
    except SchemaErrors:
        pass  # Pandera says that rows fail; which and how many is counted below, without its bound
    reasons: list[list[str]] = [[] for _ in range(table.num_rows)]
    for column, check, failing in failing_masks(frame, schema, duplicates):
        for row in pc.indices_nonzero(failing).to_pylist():
            reasons[row].append(f"{column}.{check}")
        begin = 0
        for piece in pieces:
            findings.add(piece, column, check, failing.slice(begin, piece.batch.num_rows))
            begin += piece.batch.num_rows
    findings.failed_rows += sum(map(bool, reasons))
    texts = pyarrow.array([", ".join(reason) or None for reason in reasons], pyarrow.string())
    begins = itertools.accumulate((piece.batch.num_rows for piece in pieces), initial=0)
    return [texts.slice(begin, piece.batch.num_rows) for begin, piece in zip(begins, pieces, strict=False)]


def quarantined(piece: Piece, reasons: pyarrow.Array) -> pyarrow.RecordBatch:
    """The failing rows of a piece, whole, with their place in the raw file and the reason."""
    rows = piece.batch.num_rows
    where = [pyarrow.repeat(piece.day, rows), pyarrow.array(range(piece.offset, piece.offset + rows), pyarrow.int64())]
    batch = pyarrow.RecordBatch.from_arrays([*piece.batch.columns, *where, reasons], schema=quarantine_schema())
    return batch.filter(reasons.is_valid())


def quarantine_schema() -> pyarrow.Schema:
    return pyarrow.schema([*arrow_schema("raw"), *QUARANTINE_FIELDS])


def validate(
    params_file: Path,
    watermark_file: Path,
    raw: Path,
    report_file: Path,
    failures_file: Path,
    quarantine: Path,
    memory: Path,
) -> None:
    wish = params.load(params_file)
    until = watermark.midnight(watermark.load_until(watermark_file))
    schema = build_schema(until, phases=wish.validate.experiment_phases, unique=False)
    findings = Findings(wish.validate.failure_cases, wish.validate.report_values)
    no_rows = arrow_schema("raw").empty_table().to_pandas(types_mapper=pd.ArrowDtype)
    for column, check, _ in failing_masks(no_rows, schema, []):
        findings.counts[column, check] = 0
    files = seal.sealed_days(raw)
    these_rules = rules(wish.validate.experiment_phases)
    passed = passed_before(memory, these_rules)
    known = within_time_rules([day for day in files if files[day].sha256 == passed.get(day)], schema)

    with replacing_file(quarantine) as new:
        duplicates = duplicate_ids(raw, list(files), files.keys() - set(known), new.parent / "spill")
        if duplicates:
            known = []  # a row that passed before may be the twin of a new one
        to_check = [day for day in files if day not in known]
        findings.rows = sum(files[day].rows for day in known)
        total = sum(files[day].rows for day in to_check)
        with DayWriter(new, quarantine_schema()) as writer, Progress("validate", "rows", total) as progress:
            for pieces in ahead(chunks(raw, to_check, wish.extract.batch_size)):
                for piece, reasons in zip(pieces, check_chunk(pieces, schema, duplicates, findings), strict=False):
                    writer.write(quarantined(piece, reasons))
                progress.add(sum(piece.batch.num_rows for piece in pieces))
        write_report(report_file, findings.report(wish.validate.mode, seal.digest_of(files), sha256(new)))
        write_cases(findings, failures_file)
        clean = {str(day): files[day].sha256 for day in files if day not in findings.failed_days}
        write_report(memory, {"rules": these_rules, "days": clean})
        show(findings, failures_file)
        if findings.failed_rows and wish.validate.mode == "strict":
            raise invalid(findings, report_file)

    print(f"validate: {count(findings.rows, 'row')}, {len(findings.counts)} checks, ", end="")
    print(f"{count(findings.failed_rows, 'row')} to {quarantine}" if findings.failed_rows else "all passed", end="")
    print(f"; {count(len(known), 'day')} had passed before and not changed" if known else "")


def write_cases(findings: Findings, path: Path) -> None:
    with replacing_file(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["event_date", "id", "column", "check", "value"])
        rows.writerows(findings.cases)


def show(findings: Findings, failures_file: Path) -> None:
    if not findings.failed_rows:
        return
    for day, id_, column, check, value in findings.cases[:SHOWN]:
        what = f": {value!r}" if findings.with_values else ""
        print(f"validate: {day} {id_!r}: {column} fails {check}{what}", file=sys.stderr)
    print(f"validate: {count(len(findings.cases), 'failing case')} in {failures_file}", file=sys.stderr)


def invalid(findings: Findings, report_file: Path) -> RowsInvalidError:
    failed = ", ".join(f"{column}.{check} ({n:,})" for (column, check), n in findings.counts.items() if n)
    return RowsInvalidError(
        f"{count(findings.failed_rows, 'row')} of {findings.rows:,} break the contract: {failed}",
        where=str(report_file),
        expected="no failing row, since validate.mode is strict; nothing was exported and the last export stands",
        next_step="mend the rows in PostgreSQL and python -m stages.refresh, or set validate.mode: quarantine; "
        "then dvc repro",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="stages.validate", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--watermark", type=Path, default=Path("watermark.yaml"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw/behavioral_events"))
    parser.add_argument("--report", type=Path, default=Path("data/reports/validation.json"))
    parser.add_argument("--failures", type=Path, default=Path("data/reports/validation_failures.csv"))
    parser.add_argument("--quarantine", type=Path, default=Path("data/quarantine/behavioral_events.parquet"))
    parser.add_argument("--passed", type=Path, default=Path("data/.passed.json"))
    args = parser.parse_args()
    validate(args.params, args.watermark, args.raw, args.report, args.failures, args.quarantine, args.passed)


if __name__ == "__main__":
    run("validate", main)
