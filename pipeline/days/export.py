"""One day, or month, of a table from data/raw to a file of data/export."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.core import progress
from pipeline.core.days import DAYS, TIME
from pipeline.core.errors import DataError
from pipeline.core.progress import Progress
from pipeline.engine.executor import Workers
from pipeline.files import manifest, pseudonyms, writer
from pipeline.files.layout import sha256
from pipeline.files.manifest import File
from pipeline.files.slices import Pieces, put_together, slice_path
from pipeline.files.writer import ROW_GROUP_ROWS, DayWriter, alike, batches, open_file, placed, retyped
from schemas.table import Table


class ExportTask(NamedTuple):
    """A day or a month to export from the raw file `source` to `path`, without the rows at the places `quarantined`.

    Of a slice of it, those from row `begin` on and before `end`.
    """

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
    begin: int = 0
    end: int | None = None

    @property
    def rows(self) -> int:
        """Raw rows that there should be."""
        return (self.file.rows if self.end is None else self.end) - self.begin

    @property
    def whole(self) -> bool:
        return not self.begin and self.end is None

    @property
    def copied(self) -> bool:
        """Whether the file is the raw one but for its types."""
        schemas = (self.table.arrow_schema("raw"), self.table.arrow_schema("export"))
        return not self.quarantined and not self.needs_key and alike(*schemas)

    @property
    def needs_key(self) -> bool:
        return self.pseudonymize and any(column.pseudonym for column in self.table.columns)


def export_days(run: Workers, tasks: Sequence[ExportTask]) -> Iterator[tuple[ExportTask, File]]:
    """Each of `tasks` with what `export_day` returns for it. Large files that are written anew are so in slices."""
    slices = {task.path: _slices(task) if run.apart else [task] for task in tasks}
    large = {task.path: task for task in tasks if len(slices[task.path]) > 1}
    with Progress("export", "rows", sum(task.rows for task in tasks)):
        parts = [part for some in slices.values() for part in some]
        for part, file in run.each_small(export_day, parts, lambda part: part.rows):
            if part.path in slices:
                yield part, file
    if large:
        with Progress("export", "files", len(large)):
            pieces = [Pieces(tuple(part.path for part in slices[path]), path) for path in large]
            for joined, (rows, sha256) in run.each(put_together, pieces, lambda _: 1):
                for path in joined.slices:
                    path.unlink()
                task = large[joined.path]
                _check_rows(task, task.rows, rows)
                yield task, File(rows, sha256, task.made_from)


def _slices(task: ExportTask) -> list[ExportTask]:
    """Tasks that write the rows of the file one after the other, or the task itself where it is small, or copied."""
    rows, size = task.rows - len(task.quarantined), writer.SLICE_ROWS
    if rows <= size or task.copied:
        return [task]
    # Where the row that is the first of a slice stands in the raw file: behind those in quarantine before it.
    before = [place - n for n, place in enumerate(sorted(task.quarantined))]
    begins = [0, *(place + bisect_right(before, place) for place in range(size, rows, size))]
    return [
        task._replace(
            path=slice_path(task.path, number),
            begin=begin,
            end=end,
            quarantined=tuple(place for place in task.quarantined if begin <= place and (end is None or place < end)),
        )
        for number, (begin, end) in enumerate(zip(begins, [*begins[1:], None], strict=True))
    ]


def export_day(task: ExportTask) -> File:
    """Write the file.

    Raises DataError unless the raw file is the one that extract wrote, and raw rows = exported + quarantined; and
    ParamsError when there is no key for pseudonyms.
    """
    # A worker reads the key itself; it is in no task.
    key = pseudonyms.key() if task.needs_key else None
    if key is None and not task.quarantined and task.whole and (copied := _copied(task)):
        return copied
    if not task.begin and sha256(task.source) != task.file.sha256:  # of slices the first one looks
        raise _damaged(task)
    facts = {**task.facts, **({manifest.PSEUDONYMS: pseudonyms.fingerprint(key)} if key else {})}
    source = open_file(task.source, task.table.arrow_schema("raw"))
    rows = 0
    with DayWriter(task.path, task.table.arrow_schema("export"), task.table.distinct, facts) as file:
        for place, batch in placed(source, task.batch_size, task.begin, task.end):
            file.write(_publishable(task.table, _without(batch, place, task.quarantined), key))
            rows += batch.num_rows
            progress.add(batch.num_rows)
    _check_rows(task, rows, file.rows)
    return File(file.rows, file.sha256, task.made_from)


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
    if found != task.rows or exported + len(task.quarantined) != found:
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
    source_file = open_file(source, schema)
    there = {name.decode(): value.decode() for name, value in (source_file.metadata.metadata or {}).items()}
    facts = {name: there[name] for name in (DAYS, TIME) if name in there}
    if any(column.pseudonym for column in table.columns):
        facts[manifest.PSEUDONYMS] = pseudonyms.fingerprint(key)
    with DayWriter(path, schema, table.distinct, facts) as file:
        for batch in batches(source_file, ROW_GROUP_ROWS):
            file.write(_publishable(table, batch, key))
    return file.rows, file.sha256


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
