"""Words of SQL for DuckDB, where a statement takes no parameter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def parquet(files: Iterable[Path], more: str = "") -> str:
    """The rows of all these files, without the columns that DuckDB would make of the folders' names."""
    return f"read_parquet({listed(files)}, hive_partitioning = false{more})"


def listed(files: Iterable[Path]) -> str:
    return "[" + ", ".join(literal(str(file)) for file in files) + "]"
