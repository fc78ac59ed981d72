"""Prove that data/raw holds the rows that were pinned and that each obeys the contract, before anything is published.

Reads data/raw in batches, and the end of the window in extract's report; writes validation.json, the failing cases
(local only) and, in quarantine mode, the failing rows to data/quarantine. Checks everything before it fails; every
count is exact. A day whose file passed the same checks on this machine before is not checked again; which ones did is
noted in a local file that may be lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from importlib import metadata
from pathlib import Path

import duckdb
import pyarrow

from pipeline.checks import pins
from pipeline.checks.chunks import Piece, ahead, chunks
from pipeline.checks.findings import Findings, invalid, show, write_cases
from pipeline.core import digest, params, watermark
from pipeline.core.process import run
from pipeline.core.progress import Progress, count
from pipeline.files import manifest as extracted
from pipeline.files import seal
from pipeline.files import verified as memory
from pipeline.files.layout import day_path, listed, replacing_file, sha256, write_report
from pipeline.files.writer import DayWriter
from schemas import contract
from schemas.contract import arrow_schema

# What is added to a quarantined row: its raw file and where it stands there, counted from 0, and why it is here.
QUARANTINE_FIELDS = [
    pyarrow.field("event_date", pyarrow.date32()),
    pyarrow.field("row_number", pyarrow.int64()),
    pyarrow.field("failed_checks", pyarrow.string()),
]


def rules(phases: Sequence[str]) -> str:
    """A checksum of all that decides whether a day passes: the checks' code, the libraries, the params."""
    libraries = [metadata.version(name) for name in ("pandera", "pandas", "pyarrow", "duckdb")]
    folder = Path(contract.__file__).parent
    files = [folder / "behavioral_events.py", folder / "contract.py", Path(__file__), Path(digest.__file__)]
    files += sorted(Path(pins.__file__).parent.glob("*.py"))
    return memory.rules(libraries, list(phases), [file.read_bytes() for file in files])


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
        files = listed(day_path(raw, day) for day in sorted(of))
        return f"(SELECT id FROM read_parquet({files}, hive_partitioning = false) WHERE id IS NOT NULL)"

    if not new:
        return []
    among = f"WHERE id IN {rows(new)}" if len(new) < len(days) else ""
    with duckdb.connect(config=config) as connection:
        twice = connection.execute(f"SELECT id FROM {rows(days)} {among} GROUP BY id HAVING count(*) > 1")
        return [row[0] for row in twice.fetchall()]


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
    extracted_file: Path,
    raw: Path,
    report_file: Path,
    failures_file: Path,
    quarantine: Path,
    passed_file: Path,
) -> None:
    wish = params.load(params_file)
    wrote = extracted.read(extracted_file)
    until = watermark.midnight(max(wrote) + timedelta(days=1))
    findings = Findings(wish.validate.failure_cases, wish.validate.report_values)
    files = seal.sealed_days(raw)
    checksums = {day: file.sha256 for day, file in files.items()}
    extracted.check(extracted_file, wrote, raw, checksums)
    these_rules = rules(wish.validate.experiment_phases)
    passed = memory.recall(passed_file, these_rules)
    known = [day for day in files if files[day].sha256 == passed.get(day)]
    unknown = files.keys() - set(known)
    with ThreadPoolExecutor(1) as pool, replacing_file(quarantine) as new:
        twice = pool.submit(duplicate_ids, raw, list(files), unknown, new.parent / "spill")
        moved = pool.submit(pins.not_as_pinned, raw, files, unknown)

        # Half a second of pandas and Pandera, to be had while DuckDB looks for duplicates.
        from pipeline.checks import batches as checks
        from schemas.behavioral_events import build_schema

        duplicates = twice.result()
        schema = build_schema(until, phases=wish.validate.experiment_phases, unique=False)
        findings.counts = dict.fromkeys(checks.names(schema), 0)
        # A row that passed before may be the twin of a new one.
        known = [] if duplicates else checks.within_time_rules(known, schema)
        to_check = [day for day in files if day not in known]
        findings.rows = sum(files[day].rows for day in known)
        total = sum(files[day].rows for day in to_check)
        with DayWriter(new, quarantine_schema()) as writer, Progress("validate", "rows", total) as progress:
            for pieces in ahead(chunks(raw, to_check, wish.extract.batch_size)):
                reasons = checks.check_chunk(pieces, schema, duplicates, findings)
                for piece, why in zip(pieces, reasons, strict=False):
                    writer.write(quarantined(piece, why))
                progress.add(sum(piece.batch.num_rows for piece in pieces))
        pins.check(raw, moved.result())
        write_report(report_file, findings.report(wish.validate.mode, seal.digest_of(checksums), sha256(new)))
        write_cases(findings, failures_file)
        clean = {day: sha for day, sha in checksums.items() if day not in findings.failed_days}
        memory.note(passed_file, these_rules, clean)
        show(findings, failures_file)
        if findings.failed_rows and wish.validate.mode == "strict":
            raise invalid(findings, report_file)

    print(f"validate: {count(findings.rows, 'row')}, {len(findings.counts)} checks, ", end="")
    print(f"{count(findings.failed_rows, 'row')} to {quarantine}" if findings.failed_rows else "all passed", end="")
    print(f"; {count(len(known), 'day')} had passed before and not changed" if known else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="stages.validate", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--extracted", type=Path, default=Path("data/reports/extract.json"))
    parser.add_argument("--raw", type=Path, default=Path("data/raw/behavioral_events"))
    parser.add_argument("--report", type=Path, default=Path("data/reports/validation.json"))
    parser.add_argument("--failures", type=Path, default=Path("data/reports/validation_failures.csv"))
    parser.add_argument("--quarantine", type=Path, default=Path("data/quarantine/behavioral_events.parquet"))
    parser.add_argument("--passed", type=Path, default=Path("data/.passed.json"))
    args = parser.parse_args()
    validate(args.params, args.extracted, args.raw, args.report, args.failures, args.quarantine, args.passed)


if __name__ == "__main__":
    run("validate", main)
