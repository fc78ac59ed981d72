"""One day, or month, of a table from data/raw to a file of data/export."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.core import progress
from pipeline.core.days import DAYS
from pipeline.core.errors import DataError
from pipeline.files import manifest, pseudonyms
from pipeline.files.layout import sha256
from pipeline.files.manifest import File
from pipeline.files.writer import ROW_GROUP_ROWS, DayWriter, batches, open_file, retyped
from schemas.table import Table


class ExportTask(NamedTuple):
    """A day or a month to export from the raw file `source` to `path`, without the rows at the places `quarantined`."""

    table: Table
    day: date
    source: Path
    file: File  # what extract says of it
    quarantined: tuple[int, ...]
    pseudonymize: bool
    made_from: str
    batch_size: int
    path: Path
    facts: Mapping[str, str]  # for the footer


def export_day(task: ExportTask) -> File:
    """Write the file.

    Raises DataError unless the raw file is the one that extract wrote, and raw rows = exported + quarantined; and
    ParamsError when there is no key for pseudonyms.
    """
    # A worker reads the key itself; it is in no task.
    key = pseudonyms.key() if task.pseudonymize and any(column.pseudonym for column in task.table.columns) else None
    if key is None and not task.quarantined and (copied := _copied(task)):
        return copied
    if sha256(task.source) != task.file.sha256:
        raise _damaged(task)
    facts = {**task.facts, **({manifest.PSEUDONYMS: pseudonyms.fingerprint(key)} if key else {})}
    source = open_file(task.source, task.table.arrow_schema("raw"))
    offset = 0
    with DayWriter(task.path, task.table.arrow_schema("export"), task.table.distinct, facts) as writer:
        for batch in batches(source, task.batch_size):
            rows = batch.num_rows
            writer.write(_publishable(task.table, _without(batch, offset, task.quarantined), key))
            offset += rows
            progress.add(rows)
    _check_rows(task, offset, writer.rows)
    return File(writer.rows, writer.sha256, task.made_from)


def _copied(task: ExportTask) -> File | None:
    """The file, where it is the raw file but for types. None where its rows have to be written anew."""
    table = task.table
    schemas = (table.arrow_schema("raw"), table.arrow_schema("export"))
    copied = retyped(task.source, task.path, schemas, table.distinct, task.facts)
    if copied is None:
        return None
    if copied.source != task.file.sha256:
        raise _damaged(task)
    rows = open_file(task.path, schemas[1]).metadata.num_rows
    progress.add(rows)
    _check_rows(task, rows, rows)
    return File(rows, copied.copy, task.made_from)


def _damaged(task: ExportTask) -> DataError:
    return DataError(
        f"the file {task.source} is damaged, or not the one that was validated",
        where=str(task.source),
        expected="the file whose SHA-256 extract and validate reported",
        next_step=f"rm {task.source} && dvc repro",
    )


def _check_rows(task: ExportTask, found: int, exported: int) -> None:
    if found != task.file.rows or exported + len(task.quarantined) != found:
        raise DataError(
            f"{task.day}: {found:,} raw rows, {exported:,} exported, {len(task.quarantined):,} in quarantine",
            where=str(task.source),
            expected="raw = exported + quarantined",
            next_step="dvc repro --force validate, then dvc repro",
        )


def with_pseudonyms(table: Table, source: Path, path: Path, key: bytes) -> tuple[int, str]:
    """Write the file that an export with pseudonyms would have written in place of `source`, one without.

    Returns its rows and its SHA-256. Raises DataError where the file has other columns than the contract.
    """
    schema = table.arrow_schema("export")
    file = open_file(source, schema)
    kept = {key_.decode(): value.decode() for key_, value in (file.metadata.metadata or {}).items()}
    facts = {DAYS: kept[DAYS]} if DAYS in kept else {}
    if any(column.pseudonym for column in table.columns):
        facts[manifest.PSEUDONYMS] = pseudonyms.fingerprint(key)
    with DayWriter(path, schema, table.distinct, facts) as writer:
        for batch in batches(file, ROW_GROUP_ROWS):
            writer.write(_publishable(table, batch, key))
    return writer.rows, writer.sha256


def _without(batch: pa.RecordBatch, offset: int, places: tuple[int, ...]) -> pa.RecordBatch:
    """The rows of a batch, the first of which stands at `offset`, but for those at `places`."""
    if not places:
        return batch
    import pyarrow.compute as pc  # a twentieth of a second that most days do without

    numbers = pa.array(range(offset, offset + batch.num_rows), pa.int64())
    return batch.filter(pc.invert(pc.is_in(numbers, value_set=pa.array(places, pa.int64()))))


def _publishable(table: Table, batch: pa.RecordBatch, key: bytes | None) -> pa.RecordBatch:
    """The same rows with the export's types: text that is JSON says so. With a key, ids become pseudonyms."""
    schema = table.arrow_schema("export")
    columns = []
    for column, field, values in zip(table.columns, schema, batch.columns, strict=True):
        if key is not None and column.pseudonym is not None:
            values = pseudonyms.replace(key, column.pseudonym, values)
        elif values.type == field.type:
            pass
        elif isinstance(field.type, pa.BaseExtensionType):
            values = pa.ExtensionArray.from_storage(field.type, values)
        else:
            values = values.cast(field.type)
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
