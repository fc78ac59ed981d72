"""Words of SQL for DuckDB, where a statement takes no parameter."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.core.explain import is_lack_of_memory

if TYPE_CHECKING:
    import duckdb

Result = TypeVar("Result")


def with_memory(
    limit: str, work: Callable[[duckdb.DuckDBPyConnection], Result], config: Mapping[str, Any] | None = None
) -> Result:
    """What `work` returns on a connection to DuckDB that uses so much memory.

    Where that is too little, as for a value of 100 MB, once more with as much as DuckDB takes of itself. Raises
    duckdb.OutOfMemoryException when that does not do, either.
    """
    import duckdb

    settings = dict(config or {})
    # DuckDB names what it spills the same in every process; it makes the folder when it needs it, and removes it.
    folder = Path(settings.get("temp_directory", ""))
    folder.mkdir(parents=True, exist_ok=True)
    settings["temp_directory"] = str(folder / f".spill.{secrets.token_hex(4)}")
    try:
        with duckdb.connect(config=settings | {"memory_limit": limit}) as small:
            return work(small)
    except duckdb.Error as error:
        if not is_lack_of_memory(error):
            raise
    with duckdb.connect(config=settings) as large:
        return work(large)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def parquet(files: Iterable[Path], more: str = "") -> str:
    """The rows of all these files, without the columns that DuckDB would make of the folders' names."""
    return f"read_parquet({listed(files)}, hive_partitioning = false{more})"


def listed(files: Iterable[Path]) -> str:
    return "[" + ", ".join(literal(str(file)) for file in files) + "]"
