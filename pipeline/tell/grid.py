"""Rows as text for a terminal: a grid of columns, or a line a value where a grid would be too wide."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from pipeline.core.progress import printable

# Where the terminal's width is not known.
WIDTH = 100

# Titles are not broken into shorter lines.
NARROW = 40

# Blanks between two columns.
GAP = 2


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def heading(title: str, width: int) -> str:
    """The title as an SQL comment, in lines of `width`."""
    words = printable(" ".join(title.split()))
    return textwrap.fill(words, max(width, NARROW), initial_indent="-- ", subsequent_indent="   ")


def text(rows: pa.Table, width: int) -> str:
    """The rows with all columns, each value on a line of its own where a table would be wider than `width`."""
    cells = [[cell(value) for value in column] for column in zip(*texts(rows), strict=True)]
    cells = cells or [[] for _ in rows.column_names]
    names = [cell(name) for name in rows.column_names]  # which a PIVOT takes from the data
    widths = [max(map(len, [name, *column])) for name, column in zip(names, cells, strict=True)]
    if not rows.num_rows:
        return textwrap.fill("  ".join(names), max(width, NARROW))
    if sum(widths) + GAP * (len(widths) - 1) > width:
        return records(names, list(zip(*cells, strict=True)), width)
    numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    lines = [names, ["-" * n for n in widths], *zip(*cells, strict=True)]
    set_out = [
        [text.rjust(n) if right else text.ljust(n) for text, n, right in zip(line, widths, numeric, strict=True)]
        for line in lines
    ]
    return "\n".join((" " * GAP).join(line).rstrip() for line in set_out)


def texts(rows: pa.Table) -> list[tuple[str | None, ...]]:
    """The rows as DuckDB writes them. Python has no infinite timestamps and no years after 9999."""
    numbered = rows.rename_columns([f"column{n}" for n in range(rows.num_columns)])  # names may stand there twice
    with duckdb.connect() as connection:
        return connection.from_arrow(numbered).project("COLUMNS(*)::VARCHAR").fetchall()


def records(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Each value on a line of its own, cut off at `width`."""
    longest = max(map(len, names))
    lines = []
    for number, row in enumerate(rows, 1):
        lines.append(f"-- row {number}")
        for name, text in zip(names, row, strict=True):
            line = f"{name:<{longest}}  {text}"
            lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return "\n".join(lines)


def cell(value: str | None) -> str:
    """A value on one line. Control characters are named, because a terminal would obey them."""
    text = "NULL" if value is None else " ".join(value.split())
    return printable(text)
