"""Folders with one Parquet file a UTC day: where the files are, and how a whole folder is replaced.

Every day of the window has exactly one file, with rows or without, so a missing day can't pass for an empty one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError

PREFIX = "event_date="
PART = "part-0.parquet"


def day_path(root: Path, day: date) -> Path:
    return root / f"{PREFIX}{day}" / PART


def glob(root: Path) -> str:
    """The pattern by which DuckDB finds all files under `root`."""
    return f"{root}/{PREFIX}*/{PART}"


def literal(text: str) -> str:
    """`text` as an SQL string, for the statements of DuckDB that take no parameter."""
    return "'" + text.replace("'", "''") + "'"


def listed(files: Iterable[Path]) -> str:
    """The files as an SQL list, for DuckDB's read_parquet."""
    return "[" + ", ".join(literal(str(file)) for file in files) + "]"


def days_in(root: Path) -> list[date]:
    """The days that have a file under `root`, oldest first. Anything else there is a DataError."""
    days = []
    for entry in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            day = date.fromisoformat(entry.name.removeprefix(PREFIX))
        except ValueError:
            raise _foreign(entry) from None
        if entry.name != f"{PREFIX}{day}" or not entry.is_dir():
            raise _foreign(entry)
        for part in entry.iterdir():
            if part.name != PART:
                raise _foreign(part)
            days.append(day)
    return days


def _foreign(entry: Path) -> DataError:
    return DataError(
        f"{entry} does not belong there",
        where=str(entry.parent),
        expected=f"{PREFIX}YYYY-MM-DD folders with one {PART} each",
        next_step=f"move it away, then dvc repro (or dvc checkout {entry.parent})",
    )


@contextmanager
def replacing(root: Path, keep: Collection[date] = ()) -> Iterator[Path]:
    """A folder beside `root` to write days into; when the block ends well, they and those to `keep` become all of it.

    Files are moved in one by one with os.replace, and days that are neither new nor kept are removed; when the block
    fails, `root` is as it was. DVC lets only one run at a time do this.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as name:
        staging = Path(name)
        yield staging
        root.mkdir(exist_ok=True)
        new = {entry.name for entry in staging.iterdir()}
        kept = {day_path(root, day).parent.name for day in keep}
        for old in list(root.iterdir()):
            if old.name not in new | kept:
                _remove(old)
            elif old.name in kept:
                for part in old.iterdir():
                    if part.name != PART:  # a copy beside it would double its rows
                        _remove(part)
        for entry in sorted(new):
            target = root / entry
            if {p.name for p in target.iterdir()} - {PART} if target.is_dir() else target.exists():
                _remove(target)
            target.mkdir(exist_ok=True)
            os.replace(staging / entry / PART, target / PART)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; when the block ends well it takes the place of `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        new = Path(name) / path.name
        yield new
        os.replace(new, path)


def write_report(path: Path, content: Mapping[str, object]) -> None:
    """Replace a JSON report in one step, so that a full disk leaves the old one and not half of the new."""
    with replacing_file(path) as new:
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_report(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON report; DataError when it is missing, damaged or has not these keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        content = None
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise DataError(
            f"{path} is missing or damaged",
            where=str(path),
            expected="the report of a finished run",
            next_step="dvc repro (make repro); or git checkout -- data/reports",
        )
    return content


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sweep(path: Path) -> None:
    """Remove what a killed run left beside `path`."""
    for old in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(old, ignore_errors=True)
