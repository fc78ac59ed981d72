"""Values that stand twice are found whatever became of the indexes of earlier runs, and no others are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from pipeline.checks import duplicates
from pipeline.checks.duplicates import Index, IndexTask, Window
from pipeline.engine.executor import executor
from pipeline.files.layout import day_path, sha256
from pipeline.files.manifest import File
from pipeline.files.writer import DayWriter
from schemas.rules import unique
from schemas.table import Column, Table

DAYS = [date(2025, 10, 1) + timedelta(days=n) for n in range(5)]

THINGS = Table(
    name="things",
    description="One row is one thing.",
    columns=(
        Column("id", "text", "Free text.", rules=(unique(),)),
        Column("number", "int", "A number.", rules=(unique(),)),
        Column("note", "text", "Not unique."),
        Column('o"dd name', "timestamp", "An instant.", rules=(unique(),)),
    ),
    order=("id",),
    key="id",
    time=None,
)
OTHERS = THINGS._replace(name="others")

Rows = list[tuple[Any, ...]]


class Machine(NamedTuple):
    """A folder as runs leave it: the rows that should be there, and what passed, by day."""

    root: Path
    rows: dict[date, Rows]
    passed: dict[date, str]

    @property
    def notes(self) -> Path:
        return self.root / "duplicates.json"

    def indexes(self, table: Table = THINGS) -> list[Path]:
        return sorted((self.root / "duplicates" / table.name).glob("*"))


def some_rows(chance: random.Random, number: int, many: int) -> Rows:
    """Rows with values out of so many; a tenth is NULL."""

    def value(make: Callable[[int], Any]) -> Any:
        return make(chance.randrange(many)) if chance.random() > 0.1 else None

    return [
        (
            value(lambda n: f"é{n}" if n else ""),
            value(lambda n: n - 3),
            value(str),
            value(lambda n: datetime(1969, 12, 31) + timedelta(milliseconds=n)),
        )
        for _ in range(number)
    ]


def write(machine: Machine, table: Table) -> dict[date, File]:
    files, schema = {}, table.arrow_schema("raw")
    for day, rows in machine.rows.items():
        path = day_path(machine.root / "raw" / table.name, day)
        with DayWriter(path, schema, ()) as writer:
            columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write(pa.RecordBatch.from_arrays(arrays, schema=schema))
        files[day] = File(len(rows), sha256(path), "", "")
    return files


def search(machine: Machine, table: Table = THINGS) -> dict[str, set[object]]:
    """What `validate` does, with its memory of the days without a finding."""
    files = write(machine, table)
    new = {day for day, file in files.items() if machine.passed.get(day) != file.sha256}
    window = Window(table, machine.root / "raw" / table.name, files, new, machine.notes, machine.root / "spill")
    with executor(threads=0) as pool:
        found, index = duplicates.duplicates(window, pool)
    duplicates.save(machine.notes, {table.name: index})
    assert all(len(values) == len(set(values)) for values in found.values())
    values = {name: set(of) for name, of in found.items()}
    machine.passed.clear()
    machine.passed.update(
        {day: file.sha256 for day, file in files.items() if not failing(table, machine.rows[day], values)}
    )
    return {name: of for name, of in values.items() if of}


def failing(table: Table, rows: Rows, values: Mapping[str, set[object]]) -> bool:
    places = {name: number for number, name in enumerate(table.names)}
    return any(row[places[name]] in of for row in rows for name, of in values.items())


def oracle(machine: Machine, table: Table = THINGS) -> dict[str, set[object]]:
    found = {}
    for number, name in enumerate(table.names):
        counts = Counter(row[number] for rows in machine.rows.values() for row in rows)
        twice = {value for value, n in counts.items() if n > 1 and value is not None}
        if name in table.unique and twice:
            found[name] = twice
    return found


def flip(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def step(machine: Machine, chance: random.Random) -> None:
    """Something that happens between two runs."""
    name = chance.choice(["change", "add", "copy row", "remove", "quiet"] * 2 + ["index", "notes", "code", "table"])
    day, indexes = chance.choice(DAYS), machine.indexes()
    if name in ("change", "add"):
        machine.rows[day] = some_rows(chance, chance.choice([0, 1, 6]), 10_000)
    elif name == "copy row":
        rows = [row for rows in machine.rows.values() for row in rows]
        machine.rows[day] = [*machine.rows.get(day, []), *chance.sample(rows, min(len(rows), 1))]
    elif name == "remove":
        machine.rows.pop(day, None)
    elif name == "index" and indexes:
        index = chance.choice(indexes)
        kind = chance.choice(["lose", "flip", "cut", "another day's"])
        if kind == "lose":
            index.unlink()
        elif kind == "flip":
            flip(index, chance)
        else:
            index.write_bytes(index.read_bytes()[:8] if kind == "cut" else chance.choice(indexes).read_bytes())
    elif name == "notes" and machine.notes.exists():
        damage = chance.choice(["lose", "flip", "cut"])
        if damage == "flip":
            flip(machine.notes, chance)
        else:
            machine.notes.unlink() if damage == "lose" else machine.notes.write_text("{")
    elif name == "code" and machine.notes.exists():  # as another version of this code, or another DuckDB, left it
        machine.notes.write_text(machine.notes.read_text().replace('"key": "', '"key": "0'))
    elif name == "table" and machine.notes.exists():
        machine.notes.write_text(machine.notes.read_text().replace(THINGS.name, OTHERS.name))


@pytest.mark.parametrize(
    ("hash_", "at_once"),
    [
        (duplicates.HASH, duplicates.AT_ONCE),
        (duplicates.HASH, 3),
        ("(hash({}) % 5)::UBIGINT", 3),
        ("18446744073709551615::UBIGINT", duplicates.AT_ONCE),
    ],
    ids=["DuckDB's hash", "in parts", "five hashes", "one hash"],
)
def test_whatever_happened_between_runs_the_findings_are_those_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hash_: str, at_once: int
) -> None:
    """The oracle counts all values of all rows, without a memory. A hash that many values share is no finding."""
    monkeypatch.setattr(duplicates, "HASH", hash_)
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    found = 0
    for seed in range(3):
        chance = random.Random(f"{seed} {hash_}")
        machine = Machine(tmp_path / str(seed), {day: some_rows(chance, 4, 10_000) for day in DAYS}, {})
        for _ in range(12):
            expected = oracle(machine)
            assert search(machine) == expected, seed
            found += len(expected)
            step(machine, chance)
    assert found > 15  # the histories had something to find


def test_a_run_reads_the_new_files_only_and_keeps_no_other_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed: list[Path] = []
    real = duplicates.index_files

    def recorded(task: IndexTask) -> list[Index]:
        indexed.extend(source for source, _ in task.files)
        return real(task)

    monkeypatch.setattr(duplicates, "index_files", recorded)
    chance = random.Random(1)
    machine = Machine(tmp_path, {day: some_rows(chance, 4, 10_000_000) for day in DAYS[:4]}, {})
    assert search(machine) == {}
    assert len(indexed) == 4
    del machine.rows[DAYS[0]]
    machine.rows[DAYS[4]] = some_rows(chance, 4, 10_000_000)
    assert search(machine) == {}
    assert indexed[4:] == [day_path(tmp_path / "raw" / "things", DAYS[4])]
    assert [index.name for index in machine.indexes()] == [str(day) for day in DAYS[1:]]
    assert search(machine) == {}  # nothing is new
    assert len(indexed) == 5


def test_work_can_be_handed_to_other_processes(tmp_path: Path) -> None:
    twice = (None, 7, None, None)
    machine = Machine(tmp_path, {DAYS[0]: [twice], DAYS[1]: [twice, (None, 8, None, None)]}, {})
    files = write(machine, THINGS)
    folder = tmp_path / "raw" / THINGS.name
    window = Window(THINGS, folder, files, set(files), machine.notes, tmp_path / "spill")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert duplicates.duplicates(window, pool)[0]["number"] == [7]
