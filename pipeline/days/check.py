"""The rules of a table put to some of its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow

from pipeline.checks.chunks import Piece, Portion, ahead, chunks
from pipeline.checks.findings import Findings
from pipeline.core import progress
from pipeline.files.writer import ROW_GROUP_ROWS, DayWriter, batches, open_file
from schemas.rules import Settings
from schemas.table import Table

# What is added to a quarantined row: its day, where it stands in its raw file, counted from 0, and why it is here.
QUARANTINE_FIELDS = [
    pyarrow.field("event_date", pyarrow.date32()),
    pyarrow.field("row_number", pyarrow.int64()),
    pyarrow.field("failed_checks", pyarrow.string()),
]


class CheckTask(NamedTuple):
    """Rows to check, in order, of files in `folder`. Failing rows go to the file `quarantine`."""

    table: Table
    folder: Path
    portions: tuple[Portion, ...]
    settings: Settings
    duplicates: Mapping[str, Collection[object]]  # values that stand on more than one row of the window, by column
    findings: Findings  # empty
    batch_size: int
    quarantine: Path


def check_portions(task: CheckTask) -> Findings:
    """What the checks find. The quarantine file is made in any case."""
    from pipeline.checks.batches import all_checks, check_chunk  # pandas and Pandera: half a second

    table, findings = task.table, task.findings
    checks = all_checks(table, task.settings, task.duplicates)
    findings.counts = {(check.column, check.name): 0 for check in checks.each}
    with DayWriter(task.quarantine, quarantine_schema(table), table.distinct) as writer:
        for pieces in ahead(chunks(task.folder, task.portions, table, task.batch_size)):
            reasons = check_chunk(pieces, checks, findings)
            for piece, why in zip(pieces, reasons, strict=False):
                writer.write(_quarantined(table, piece, why))
            progress.add(sum(piece.batch.num_rows for piece in pieces))
    return findings


def join(table: Table, parts: Sequence[Path], path: Path) -> None:
    """One quarantine file of several, oldest first: the same bytes as if one task had written it."""
    schema = quarantine_schema(table)
    with DayWriter(path, schema, table.distinct) as writer:
        for part in parts:
            for batch in batches(open_file(part, schema), ROW_GROUP_ROWS):
                writer.write(batch)


def quarantine_schema(table: Table) -> pyarrow.Schema:
    return pyarrow.schema([*table.arrow_schema("raw"), *QUARANTINE_FIELDS])


def _quarantined(table: Table, piece: Piece, reasons: pyarrow.Array) -> pyarrow.RecordBatch:
    """The failing rows of a piece, whole, with their place in the raw file and the reason."""
    rows = piece.batch.num_rows
    where = [piece.days, pyarrow.array(range(piece.offset, piece.offset + rows), pyarrow.int64())]
    batch = pyarrow.RecordBatch.from_arrays([*piece.batch.columns, *where, reasons], schema=quarantine_schema(table))
    return batch.filter(reasons.is_valid())
