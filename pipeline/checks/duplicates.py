"""Values that stand on more than one row of the window, by hashes that are kept from run to run.

Each file of data/raw has an index in data/.verified/duplicates: the 64-bit hashes of its values, sorted. A hash that
stands in a new file and once more, there or in another one, is looked up in the files themselves, so two values with
the same hash are no finding. A run reads the values of the new files, and of the others 8 bytes a row.

An index may be lost. It is believed only as the index of a file with the same SHA-256, made by this code and this
DuckDB, and only with the bytes that it was written with.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from pipeline.checks import made_from
from pipeline.files import verified
from pipeline.files.layout import day_path, sha256
from pipeline.files.manifest import File
from pipeline.files.sql import parquet, quoted, with_memory
from pipeline.files.verified import Verified
from schemas.table import Table

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from pipeline.engine.executor import Workers

    Hashes = NDArray[np.uint64]

# DuckDB's, 64 bits. Equal values have equal hashes.
HASH = "hash({})"

# For what is read of the files. DuckDB spills to disk what does not fit.
MEMORY = "96MB"
THREADS = 2

# Hashes that are sorted, or searched for, at a time: 8 MB.
AT_ONCE = 1 << 20

# Rows whose hashes one task makes.
TASK_ROWS = 4 << 20

# By so many first bits of a hash it is told at once of most that no new one is the same. A byte each.
SIEVE_BITS = 20

MAX_HASH = 2**64 - 1


class Window(NamedTuple):
    """The files of a table to search. Those of other days than `new` were found to have no value twice among them."""

    table: Table
    folder: Path
    files: Mapping[date, File]
    new: Collection[date]
    notes: Path  # which indexes there are; they stand in a folder of the same name
    spill: Path  # a folder for what DuckDB can't hold in memory

    @property
    def indexes(self) -> Path:
        return self.notes.with_suffix("") / self.table.name

    @property
    def key(self) -> str:
        """The cache key of the indexes."""
        code = made_from.code("pipeline/checks/duplicates.py")
        return verified.cache_key(code, duckdb.__version__, self.table.name, self.table.unique)


class Index(NamedTuple):
    """The hashes of a file of data/raw, eight bytes each, in the file `path`: one unique column after the other.

    Of each column they are sorted in runs, of which `runs` has the lengths.
    """

    source: Path
    path: Path
    runs: tuple[tuple[int, ...], ...]


class IndexTask(NamedTuple):
    """Files of a table, and where their indexes go."""

    table: Table
    files: tuple[tuple[Path, Path], ...]
    spill: Path


class SearchTask(NamedTuple):
    """Hashes from `low` to `high`, both included, of the unique column with this number."""

    column: int
    new: tuple[Index, ...]
    others: tuple[Index, ...]
    low: int
    high: int


class Candidates(NamedTuple):
    """Hashes that stand in a new file and once more, and the files of data/raw with rows that have one of them."""

    hashes: Hashes
    files: frozenset[Path]


def duplicates(window: Window, pool: Executor | Workers) -> tuple[dict[str, list[object]], Verified]:
    """The values that stand on more than one row, by column of those that should be unique; and what `save` takes.

    Only values of which a row is in a new file. Work that can be done apart is given to `pool`.
    """
    saved = verified.recall(window.notes, window.table.name, window.key)
    if not window.new or not window.table.unique:
        return {}, Verified(window.key, saved)
    there = {day: index for day in sorted(window.files) if (index := _saved(window, day, saved.get(day)))}
    missing = [day for day in sorted(window.files) if day not in there]
    known = {day: saved[day] for day in there}
    window.indexes.mkdir(parents=True, exist_ok=True)
    tasks = [
        IndexTask(
            window.table,
            tuple((day_path(window.folder, day), _place(window, day)) for day in days),
            window.spill,
        )
        for days in _groups(window, missing)
    ]
    made = [index for indexes in pool.map(index_files, tasks) for index in indexes]
    for day, one in zip(missing, made, strict=True):
        os.replace(one.path, _place(window, day))
        there[day] = index = one._replace(path=_place(window, day))
        known[day] = [_mark(window, day, index), index.runs]
    return _found(window, there, pool), Verified(window.key, known)


def save(notes: Path, tables: Mapping[str, Verified]) -> None:
    """Keep the indexes for the next run, and no others."""
    verified.save(notes, tables)
    wanted = {notes.with_suffix("") / table / str(day) for table, (_, days) in tables.items() for day in days}
    with suppress(OSError):  # they may be lost
        for file in list(notes.with_suffix("").glob("*/*")):
            if file not in wanted:
                file.unlink()


def _place(window: Window, day: date) -> Path:
    return window.indexes / str(day)


def _mark(window: Window, day: date, index: Index) -> str:
    """What an index is known by: the file that it is of, its own bytes, and how they are divided."""
    return verified.cache_key(window.files[day].sha256, sha256(index.path), index.runs)


def _saved(window: Window, day: date, note: Any) -> Index | None:
    """The index of the day's file from an earlier run, if it is whole and the file is still the same."""
    with suppress(OSError, TypeError, ValueError):
        mark, runs = note
        index = Index(day_path(window.folder, day), _place(window, day), tuple(map(tuple, runs)))
        if _mark(window, day, index) == mark:
            return index
    return None


def _groups(window: Window, days: Iterable[date]) -> Iterator[list[date]]:
    group: list[date] = []
    rows = 0
    for day in days:
        group.append(day)
        rows += window.files[day].rows
        if rows >= TASK_ROWS:
            yield group
            group, rows = [], 0
    if group:
        yield group


def index_files(task: IndexTask) -> list[Index]:
    """Make the index of each file, under a name of its own: a worker that was taken for lost may still write, too."""

    def write(connection: duckdb.DuckDBPyConnection) -> list[Index]:
        own = secrets.token_hex(4)
        indexes = [Index(source, path.with_name(f".{path.name}.{own}"), ()) for source, path in task.files]
        for index in indexes:
            index.path.write_bytes(b"")
        for name in task.table.unique:
            runs = _append(connection, indexes, name)
            indexes = [one._replace(runs=(*one.runs, tuple(own))) for one, own in zip(indexes, runs, strict=True)]
        return indexes

    return with_memory(MEMORY, write, {"threads": THREADS, "temp_directory": str(task.spill)})


def _append(connection: duckdb.DuckDBPyConnection, indexes: Sequence[Index], name: str) -> list[list[int]]:
    """Append the hashes of a column to the index of each file; returns the lengths of their runs."""
    import numpy as np

    runs: list[list[int]] = [[] for _ in indexes]
    column, files = quoted(name), parquet(index.source for index in indexes)
    rows = connection.sql(f"SELECT file_index, {HASH.format(column)} FROM {files} WHERE {column} IS NOT NULL")
    for batch in rows.to_arrow_reader(AT_ONCE):
        numbers, hashes = (values.to_numpy() for values in batch.columns)
        for begin, end in pairwise([0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]):
            number = int(numbers[begin])
            with indexes[number].path.open("ab") as file:
                file.write(np.sort(hashes[begin:end]).data)
            runs[number].append(end - begin)
    return runs


def _found(window: Window, indexes: Mapping[date, Index], pool: Executor | Workers) -> dict[str, list[object]]:
    new = tuple(index for day, index in indexes.items() if day in window.new)
    others = tuple(index for day, index in indexes.items() if day not in window.new)
    found: dict[str, list[object]] = {}
    for number, name in enumerate(window.table.unique):
        parts = sum(sum(index.runs[number]) for index in new) // AT_ONCE + 1
        ends = [MAX_HASH * n // parts for n in range(parts + 1)]
        tasks = [SearchTask(number, new, others, low + (low > 0), high) for low, high in pairwise(ends)]
        candidates = [some for some in pool.map(search, tasks) if len(some.hashes)]
        found[name] = _exactly(window, name, candidates) if candidates else []
    return found


def search(task: SearchTask) -> Candidates:
    """Candidates among the hashes of one part."""
    import numpy as np

    # Copies, because what is mapped counts as memory of the process.
    runs = [np.array(run) for index in task.new for run in _runs(index, task)]
    new = np.sort(np.concatenate([np.empty(0, np.uint64), *runs]))
    hits = [new[1:][new[1:] == new[:-1]]]
    sieve, bits = np.zeros(1 << SIEVE_BITS, bool), np.uint64(64 - SIEVE_BITS)
    sieve[new >> bits] = True
    hits += [_common(new, run[sieve[run >> bits]]) for index in task.others for run in _runs(index, task)]
    hashes = np.unique(np.concatenate(hits))
    all_ = (*task.new, *task.others) if len(hashes) else ()
    files = {index.source for index in all_ if any(len(_common(hashes, run)) for run in _runs(index, task))}
    return Candidates(hashes, frozenset(files))


def _runs(index: Index, task: SearchTask) -> Iterator[Hashes]:
    """The part of each run of the column that the task is about."""
    import numpy as np

    begin = sum(map(sum, index.runs[: task.column]))
    for length in index.runs[task.column]:
        if length:  # what is empty can't be mapped
            run: Hashes = np.memmap(index.path, np.uint64, "r", begin * 8, (length,))
            first = int(np.searchsorted(run, np.uint64(task.low), "left"))
            last = int(np.searchsorted(run, np.uint64(task.high), "right"))
            yield np.asarray(run[first:last])
        begin += length


def _common(one: Hashes, other: Hashes) -> Hashes:
    """The hashes of the shorter one that are in both; each is sorted."""
    import numpy as np

    few, many = sorted((one, other), key=len)
    if not len(few):
        return few
    places = np.searchsorted(many, few)
    places[places == len(many)] = 0  # larger than all, so than the first one
    both: Hashes = few[many[places] == few]
    return both


def _exactly(window: Window, name: str, candidates: Collection[Candidates]) -> list[object]:
    """The values behind the candidates that stand on more than one row."""
    import pyarrow

    hashes = pyarrow.table({"hash": pyarrow.concat_arrays([pyarrow.array(some.hashes) for some in candidates])})
    files = sorted({file for some in candidates for file in some.files})
    column = quoted(name)

    def group(connection: duckdb.DuckDBPyConnection) -> list[object]:
        connection.register("candidates", hashes)
        twice: list[tuple[object]] = connection.execute(
            f"SELECT {column} FROM {parquet(files)} WHERE {column} IS NOT NULL "
            f"AND {HASH.format(column)} IN (SELECT hash FROM candidates) GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
        return [value for (value,) in twice]

    return with_memory(MEMORY, group, {"threads": THREADS, "temp_directory": str(window.spill)})
