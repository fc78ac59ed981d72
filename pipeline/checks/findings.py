"""What the checks found in the rows of a table: exact counts, a bounded list of findings, and words for both."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow
from pyarrow import csv

from pipeline.checks.chunks import Piece
from pipeline.core.days import WHOLE
from pipeline.core.errors import RowsInvalidError
from pipeline.core.progress import count
from pipeline.files.layout import replacing
from schemas.rules import CUID

# Findings that the terminal shows; the file has more.
SHOWN = 10


class Finding(NamedTuple):
    """One failing check on one row. `column` names several, with commas, where the check speaks of several."""

    table: str
    day: date
    id: str | None
    column: str
    check: str
    value: str | None


@dataclass
class Findings:
    """What the checks found in the rows of one table so far: exact counts, and a bounded list."""

    table: str
    key: str  # the column that names a row
    per_check: int  # of them that are listed
    with_values: bool = True
    rows: int = 0
    failed_rows: int = 0
    failed_days: set[date] = field(default_factory=set)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)  # by column and check
    listed: list[Finding] = field(default_factory=list)

    def add(self, piece: Piece, columns: Sequence[str], check: str, failing: pyarrow.Array) -> None:
        """Count the rows of `piece` where the mask `failing` is true."""
        column, n = ", ".join(columns), failing.true_count
        if n:
            self.failed_days.add(piece.day)
        before = self.counts.get((column, check), 0)
        self.counts[column, check] = before + n
        room = max(self.per_check - before, 0)
        if n and room:
            some = piece.batch.filter(failing).slice(0, room)
            ids = some.column(self.key).cast(pyarrow.string()).to_pylist()
            if not self.with_values:  # an id that is no cuid may be anything
                ids = [id_ if id_ and re.fullmatch(CUID, id_) else None for id_ in ids]
            days = (WHOLE if day == WHOLE else day for day in piece._replace(batch=some).days.to_pylist())
            for day, id_, value in zip(days, ids, self._values(some, columns), strict=True):
                self.listed.append(Finding(self.table, day, id_, column, check, value))

    @property
    def in_order(self) -> list[Finding]:
        """What is listed by check, then as the rows stand: the same however the rows were divided."""
        each: dict[tuple[str, str], list[Finding]] = {check: [] for check in self.counts}
        for finding in self.listed:
            each[finding.column, finding.check].append(finding)
        return [finding for some in each.values() for finding in some[: self.per_check]]

    def take(self, others: Sequence[Findings]) -> None:
        """Take over what was found in other rows of the table, in their order."""
        for other in others:
            self.rows, self.failed_rows = self.rows + other.rows, self.failed_rows + other.failed_rows
            self.failed_days |= other.failed_days
            self.listed += other.listed
            for check, n in other.counts.items():
                self.counts[check] = self.counts.get(check, 0) + n

    def _values(self, rows: pyarrow.RecordBatch, columns: Sequence[str]) -> list[str | None]:
        if not self.with_values:
            return [None] * rows.num_rows
        texts = [rows.column(column).cast(pyarrow.string()).to_pylist() for column in columns]
        if len(texts) == 1:
            return list(texts[0])
        return [json.dumps(values, ensure_ascii=False) for values in zip(*texts, strict=True)]


def report(found: Mapping[str, Findings], asked: Mapping[str, object], checked: Mapping[str, str]) -> dict[str, object]:
    """validation.json: headline figures, failing rows by check, all checks that ran, and the files that were `checked`.

    Lists, because DVC leaves lists out of its tables of metrics.
    """
    counts = [(table, *check, n) for table, findings in found.items() for check, n in findings.counts.items()]
    return {
        "failed_rows": sum(findings.failed_rows for findings in found.values()),
        "tables": [{"table": f.table, "rows": f.rows, "failed_rows": f.failed_rows} for f in found.values()],
        "made_from": [dict(asked)],
        "failures": [{"table": t, "column": c, "check": name, "rows": n} for t, c, name, n in counts if n],
        "checks": [f"{t}.{c}.{name}" for t, c, name, _ in counts],
        # What export compares, so that it publishes exactly what was checked.
        "checked": [{"files": files, "sha256": sha256} for files, sha256 in checked.items()],
    }


def write(found: Mapping[str, Findings], path: Path) -> None:
    listed = [finding for findings in found.values() for finding in findings.in_order]
    names = ["table", "event_date", "id", "column", "check", "value"]
    columns = [[str(f[i]) if f[i] is not None else None for f in listed] for i in range(len(names))]
    # Texts in quotes, whatever is in them; NULL is empty without quotes.
    options = csv.WriteOptions(quoting_style="all_valid")
    with replacing(path) as new:
        csv.write_csv(pyarrow.table([pyarrow.array(c, pyarrow.string()) for c in columns], names), new, options)


def show(found: Mapping[str, Findings], failures_file: Path) -> None:
    listed = [finding for findings in found.values() for finding in findings.in_order]
    if not any(findings.failed_rows for findings in found.values()):
        return
    for finding in listed[:SHOWN]:
        what = f": {finding.value!r}" if found[finding.table].with_values else ""
        column = f"{finding.table}.{finding.column}" if len(found) > 1 else finding.column
        print(f"validate: {finding.day} {finding.id!r}: {column} fails {finding.check}{what}", file=sys.stderr)
    print(f"validate: {count(len(listed), 'finding')} in {failures_file}", file=sys.stderr)


def accept_new(found: Mapping[str, Findings]) -> str:
    """How to let a value pass that is new and right, where a rule that lists values failed."""
    listed = [
        f"schemas/{name}.py"
        for name, findings in found.items()
        if any(check == "isin" and n for (_, check), n in findings.counts.items())
    ]
    return f", or accept a value that is new by a line in {', '.join(listed)} (docs/evolving.md)" if listed else ""


def invalid(found: Mapping[str, Findings], report_file: Path) -> RowsInvalidError:
    failed = ", ".join(
        f"{name}.{column}.{check} ({n:,})" if len(found) > 1 else f"{column}.{check} ({n:,})"
        for name, findings in found.items()
        for (column, check), n in findings.counts.items()
        if n
    )
    failed_rows, rows = (sum(getattr(f, name) for f in found.values()) for name in ("failed_rows", "rows"))
    return RowsInvalidError(
        f"{count(failed_rows, 'row')} of {rows:,} break the contract: {failed}",
        where=str(report_file),
        expected="no failing row, since validate.mode is strict; nothing was exported and the last export stands",
        next_step="mend the rows in PostgreSQL and python -m commands.refresh, or set validate.mode: quarantine"
        f"{accept_new(found)}; then dvc repro",
    )
