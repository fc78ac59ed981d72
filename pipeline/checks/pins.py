"""The proof that the files of data/raw hold what PostgreSQL held when watermark.yaml was written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from pipeline.core import digest
from pipeline.core.days import word
from pipeline.core.digest import EMPTY, Pin
from pipeline.core.errors import PinError
from pipeline.core.progress import count
from pipeline.files.layout import day_path
from pipeline.files.manifest import File
from pipeline.files.sql import parquet, with_memory
from schemas.table import Column, Table

# Days that a message names before the rest is only counted.
NAMED = 5


def pins_of(table: Table, files: Collection[Path]) -> dict[Path, Pin]:
    """The pin of each file's rows."""
    if not files:
        return {}

    def value(column: Column) -> str:
        return column.type.in_duckdb.format(column.quoted)

    row = digest.row_text(table.columns, value, "strlen({})")
    statement = (
        f"SELECT filename, count(*), sum(('0x' || right(md5({row}), 16))::UBIGINT) "
        f"FROM {parquet(files, ', filename = true')} GROUP BY filename"
    )
    # One thread: the other is for the checks, which run meanwhile.
    found = with_memory("96MB", lambda connection: connection.execute(statement).fetchall(), {"threads": 1})
    pins = {Path(name): digest.pin(rows, total) for name, rows, total in found}
    return {file: pins.get(file, EMPTY) for file in files}


class PinnedTask(NamedTuple):
    """Files in the folder of `table`, by day."""

    table: Table
    folder: Path
    files: Mapping[date, File]


def days_that_moved(task: PinnedTask) -> list[date]:
    """The days whose file holds other rows than were pinned."""
    paths = {day: day_path(task.folder, day) for day in sorted(task.files)}
    found = pins_of(task.table, list(paths.values()))
    return [day for day, path in paths.items() if found[path] != task.files[day].pin]


def check(raw: Path, moved: Sequence[date]) -> None:
    """Raise PinError that names the days in `moved`, if there are any."""
    if moved:
        more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
        raise PinError(
            f"the rows of {count(len(moved), word(moved))} are as many as watermark.yaml pins, but not the same: "
            + ", ".join(map(str, moved[:NAMED]))
            + more,
            where=str(raw),
            expected="the content that refresh saw; a row was changed in place before extract came, or a column's kind "
            "in schemas/",
            next_step=f"python -m commands.refresh, then dvc repro; if nothing moved, the same with refresh --full; "
            f"if again nothing (it was changed back), rm -r {quote(str(raw))}, then dvc repro",
        )
