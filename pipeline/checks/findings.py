"""What the checks found: exact counts, a bounded number of failing cases, and the words for both."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pyarrow
from pyarrow import csv

from pipeline.checks.chunks import Piece
from pipeline.core.errors import RowsInvalidError
from pipeline.core.progress import count
from pipeline.files.layout import replacing_file
from schemas.contract import CUID

# Failing cases that the terminal shows; the report has more.
SHOWN = 10


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
            ids = some.column("id").to_pylist()
            if not self.with_values:  # an id that is no cuid may be anything
                ids = [id_ if id_ and re.fullmatch(CUID, id_) else None for id_ in ids]
            for id_, value in zip(ids, values, strict=True):
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


def write_cases(findings: Findings, path: Path) -> None:
    names = ["event_date", "id", "column", "check", "value"]
    columns = [[str(case[i]) if case[i] is not None else None for case in findings.cases] for i in range(len(names))]
    # Texts in quotes, whatever is in them; NULL is empty without quotes.
    options = csv.WriteOptions(quoting_style="all_valid")
    with replacing_file(path) as new:
        csv.write_csv(pyarrow.table([pyarrow.array(c, pyarrow.string()) for c in columns], names), new, options)


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
        next_step="mend the rows in PostgreSQL and python -m commands.refresh, or set validate.mode: quarantine; "
        "then dvc repro",
    )
