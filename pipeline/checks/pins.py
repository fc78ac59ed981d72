"""The proof that the files of data/raw hold what PostgreSQL held when watermark.yaml was written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from pipeline.checks.chunks import Portion
from pipeline.core import digest
from pipeline.core.days import word
from pipeline.core.digest import EMPTY, Pin
from pipeline.core.errors import PinError
from pipeline.core.progress import count
from pipeline.files.layout import day_path
from pipeline.files.sql import parquet, with_memory
from schemas.table import Column, Table

# Days that a message names before the rest is only counted.
NAMED = 5


def pins_of(table: Table, files: Collection[Path]) -> dict[Path, Pin]:
    """The pin of each file's rows."""
    found = _pins(table, parquet(files, ", filename = true")) if files else {}
    return {file: found.get(file, EMPTY) for file in files}


def _pins(table: Table, rows: str) -> dict[Path, Pin]:
    """The pins of rows of files, by the file; of those that have a row among them."""

    def value(column: Column) -> str:
        return column.type.in_duckdb.format(column.quoted)

    row = digest.row_text(table.columns, value, "strlen({})")
    total = f"sum(('0x' || right(md5({row}), 16))::UBIGINT)"
    statement = f"SELECT filename, count(*), {total} FROM {rows} GROUP BY filename"
    # One thread: the other is for the checks, which run meanwhile.
    found = with_memory("96MB", lambda connection: connection.execute(statement).fetchall(), {"threads": 1})
    return {Path(name): digest.pin(rows, total) for name, rows, total in found}


class PinnedTask(NamedTuple):
    """Rows of files in the folder of `table`."""

    table: Table
    folder: Path
    portions: tuple[Portion, ...]


def pin_portions(task: PinnedTask) -> list[tuple[date, Pin]]:
    """The pin of each portion's rows, with the day of its file."""
    whole = {day_path(task.folder, portion.day): portion.day for portion in task.portions if portion.whole}
    found = [(whole[file], pin) for file, pin in pins_of(task.table, list(whole)).items()]
    for day, begin, end, _ in [portion for portion in task.portions if not portion.whole]:
        # DuckDB skips row groups by it.
        rows = parquet([day_path(task.folder, day)], ", filename = true, file_row_number = true")
        until = "" if end is None else f" AND file_row_number < {end}"
        found += [(day, pin) for pin in _pins(task.table, f"{rows} WHERE file_row_number >= {begin}{until}").values()]
    return found


def by_day(portions: Iterable[tuple[date, Pin]]) -> dict[date, Pin]:
    """The pins of whole files, of those of all their portions."""
    found: dict[date, list[Pin]] = {}
    for day, pin in portions:
        found.setdefault(day, []).append(pin)
    return {day: digest.total(some) for day, some in found.items()}


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
