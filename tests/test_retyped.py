"""A file whose types are named anew is, byte for byte, the one that would be written of its rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core.errors import DataError
from pipeline.days import export as days
from pipeline.files.writer import DayWriter, Retyped, retyped
from tests.helpers import Project, files

RAW = pa.schema([("id", pa.string()), ("body", pa.string()), ("n", pa.int32()), ("at", pa.timestamp("ms"))])
EXPORT = RAW.set(1, pa.field("body", pa.json_()))
DISTINCT = ("id", "body")
ODD = "\x16\0\x19\x0c"


def rows(number: int, size: int = 20) -> pa.RecordBatch:
    chance = random.Random(number)
    texts = ['"' + "ä" * chance.randrange(size) + '"' for _ in range(number)]
    columns = [
        [f"c{n}" for n in range(number)],
        [text if chance.random() > 0.1 else None for text in texts],
        [chance.choice([None, 0, -1, 2**31 - 1]) for _ in texts],
        [datetime(2025, 10, 1, microsecond=chance.randrange(1000) * 1000) for _ in texts],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, RAW, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW)


def write(path: Path, schema: pa.Schema, batch: pa.RecordBatch, facts: dict[str, str] | None = None) -> str:
    columns = [
        pa.ExtensionArray.from_storage(field.type, values) if isinstance(field.type, pa.BaseExtensionType) else values
        for field, values in zip(schema, batch.columns, strict=True)
    ]
    with DayWriter(path, schema, DISTINCT, facts) as writer:
        writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))
    return writer.sha256


@pytest.mark.parametrize("facts", [{}, {"pipeline.days": "2025-10-03/2025-10-27"}], ids=["a day", "a month"])
@pytest.mark.parametrize(
    "batch",
    [rows(0), rows(1), rows(500), rows(40_000), rows(60, 1_000_000), rows(30).slice(0, 0)],
    ids=["no rows", "one row", "rows", "three row groups", "large texts", "a slice of nothing"],
)
def test_a_copy_is_what_would_have_been_written(tmp_path: Path, batch: pa.RecordBatch, facts: dict[str, str]) -> None:
    raw, export = (write(tmp_path / name, schema, batch, facts) for name, schema in (("raw", RAW), ("export", EXPORT)))
    assert retyped(tmp_path / "raw", tmp_path / "copy", (RAW, EXPORT), DISTINCT, facts) == Retyped(raw, export)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "export").read_bytes()


@pytest.mark.parametrize(
    ("raw", "export"),
    [
        (RAW, EXPORT.set(2, pa.field("n", pa.int64()))),
        (RAW.set(0, pa.field(ODD, pa.string())), EXPORT.set(0, pa.field(ODD, pa.string()))),
    ],
    ids=["another type", "a name like a part of the footer"],
)
def test_what_is_not_alike_is_not_copied(tmp_path: Path, raw: pa.Schema, export: pa.Schema) -> None:
    write(tmp_path / "raw", raw, rows(10))
    assert retyped(tmp_path / "raw", tmp_path / "copy", (raw, export), DISTINCT, {}) is None
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("size", [0, 3, 8, 12, 700, -1], ids=str)
def test_what_is_no_such_file_is_not_copied(tmp_path: Path, size: int) -> None:
    write(tmp_path / "raw", RAW, rows(10))
    content = (tmp_path / "raw").read_bytes()
    (tmp_path / "raw").write_bytes(content[:size])
    assert retyped(tmp_path / "raw", tmp_path / "copy", (RAW, EXPORT), DISTINCT, {}) is None
    assert not (tmp_path / "copy").exists()


def test_export_gives_the_same_bytes_either_way(loaded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """On rows that are hard to carry."""
    found: list[object] = []

    def recorded(*arguments: Any) -> object:
        found.append(retyped(*arguments))
        return found[-1]

    outputs = []
    for way in (recorded, lambda *_: None):
        monkeypatch.setattr(days, "retyped", way)
        loaded.paths.quality_report.unlink()
        loaded.export()
        outputs.append((files(loaded.paths.export), loaded.paths.quality_report.read_bytes()))
    assert any(found)
    assert outputs[0] == outputs[1]


def damage(content: bytes, place: float) -> bytes:
    where = min(int(len(content) * place), len(content) - 1)
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


CUTS: list[Callable[[bytes], bytes]] = [
    *(lambda content, place=place: damage(content, place) for place in (0, 0.2, 0.7, 0.97, 1)),
    lambda content: content[:-1],
    lambda content: content[:5],
    lambda content: b"",
]


@pytest.mark.parametrize("cut", CUTS, ids=["begin", "page", "later", "footer", "end", "cut", "short", "empty"])
def test_a_damaged_raw_file_is_refused(loaded: Project, cut: Callable[[bytes], bytes]) -> None:
    file = max(loaded.raw.rglob("*.parquet"), key=lambda path: path.stat().st_size)
    before = files(loaded.paths.export)
    file.write_bytes(cut(file.read_bytes()))
    loaded.paths.quality_report.unlink()
    with pytest.raises(DataError, match="is damaged, or not the one that was validated"):
        loaded.export()
    assert files(loaded.paths.export) == before
