"""Folders of a table with one Parquet file for each UTC day or month, or one for all, and how files and folders are
replaced.

Every day, or month, of the window has exactly one file, with rows or without, so a missing one can't be mistaken for an
empty one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from pipeline.core.days import WHOLE, Month, month_of, parse_part
from pipeline.core.errors import DataError
from pipeline.core.signals import publishing

# What the folders of days and of months are called. A reader takes the first word for a column, and must not find a
# month among dates.
DAY, MONTH = "event_date=", "event_month="
PART = "part-0.parquet"


def part_name(part: date) -> str:
    """What the folder of a day or a month is called."""
    return f"{MONTH if isinstance(part, Month) else DAY}{part}"


def day_path(folder: Path, day: date) -> Path:
    """The file of a day or a month in the folder of a table."""
    return folder / part_name(day) / PART


def pattern(folder: Path) -> str:
    """The pattern by which DuckDB finds all files in the folder of a table."""
    return f"{folder}/event_*=*/{PART}"


def days_in(folder: Path) -> list[date]:
    """The days, or months, that have a file in the folder of a table. Anything else there is a DataError."""
    days = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            day = parse_part(entry.name.partition("=")[2])
        except ValueError:
            raise _foreign(entry) from None
        if entry.name != part_name(day) or not is_folder(entry):
            raise _foreign(entry)
        for part in entry.iterdir():
            if part.name != PART:
                raise _foreign(part)
            days.append(day)
    return days


def is_folder(path: Path) -> bool:
    """Tells whether there is a folder, and no link to one: what is written to a link lands in another place."""
    return path.is_dir() and not path.is_symlink()


def _foreign(entry: Path) -> DataError:
    return DataError(
        f"{entry} does not belong there",
        where=str(entry.parent),
        expected=f"{DAY}YYYY-MM-DD or {MONTH}YYYY-MM folders with one {PART} each",
        next_step=f"move it away, then dvc repro (or dvc checkout {entry.parent})",
    )


@contextmanager
def replacing_days(root: Path, keep: Mapping[str, Collection[date]]) -> Iterator[Path]:
    """A folder beside `root` to write days into, each below its table. When the block ends well, they take their place.

    `keep` has the days of each table whose files stay. Files are moved in one by one with os.replace, those that stand
    beside the tables last. Tables, days and other files that are neither new nor kept are removed. When the block
    fails, `root` is as it was. DVC lets only one run at a time do this.
    """
    root = root.resolve()  # a link to a larger disk: the new files must be on that disk
    with _beside(root) as staging:
        yield staging
        publishing()
        root.mkdir(exist_ok=True)
        beside = sorted(entry.name for entry in staging.iterdir() if entry.is_file())
        for entry in list(root.iterdir()):
            if entry.name not in keep and (entry.name not in beside or is_folder(entry)):
                _remove(entry)
        for table, days in keep.items():
            _replace_days(root / table, staging / table, days)
        for name in beside:
            os.replace(staging / name, root / name)


def _replace_days(folder: Path, staging: Path, keep: Collection[date]) -> None:
    if folder.is_symlink():
        _remove(folder)
    folder.mkdir(exist_ok=True)
    new = {entry.name for entry in staging.iterdir()} if staging.is_dir() else set()
    kept = {day_path(folder, day).parent.name for day in keep}
    for entry in list(folder.iterdir()):
        if entry.name not in new | kept:
            _remove(entry)
        elif entry.name in kept:
            _remove_all_but_part(entry)  # a copy beside it would double its rows
    for name in sorted(new):
        target = folder / name
        if is_folder(target):
            _remove_all_but_part(target)
        elif target.is_symlink() or target.exists():
            _remove(target)
        target.mkdir(exist_ok=True)
        os.replace(staging / name / PART, target / PART)


def _remove_all_but_part(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != PART or entry.is_dir():
            _remove(entry)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write files into. When the block ends well, they become all that is in it."""
    with _beside(folder) as staging:
        yield staging
        publishing()
        folder.mkdir(exist_ok=True)
        new = {entry.name for entry in staging.iterdir() if entry.is_file()}
        for entry in list(folder.iterdir()):
            if entry.name not in new or entry.is_dir():
                _remove(entry)
        for name in sorted(new):
            os.replace(staging / name, folder / name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file to. When the block ends well, it takes the place of `path` in one step."""
    with _beside(path) as staging:
        yield staging / path.name
        publishing()
        os.replace(staging / path.name, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder on the same disk as `path`, for the length of the block. What a killed run left there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")  # as tempfile names them
    for old in [entry for entry in path.parent.iterdir() if own.fullmatch(entry.name)]:
        shutil.rmtree(old, ignore_errors=True)
    # A worker on another machine, which nobody can end, may still write into it.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def write_report(path: Path, content: Mapping[str, object]) -> None:
    """Replace a JSON report in one step, so that a full disk leaves the old one and not half of the new.

    Each entry of a list stands on a line of its own, so that Git shows which ones changed.
    """

    def text(value: object) -> str:
        if not isinstance(value, list) or not value:
            return json.dumps(value, ensure_ascii=False)
        return "[\n" + ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in value) + "\n  ]"

    lines = [f"  {json.dumps(key)}: {text(value)}" for key, value in content.items()]
    with replacing(path) as new:
        new.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def quarantined_rows(file: Path, months: bool) -> dict[date, tuple[int, ...]]:
    """For each file of data/raw, by its day or month, with rows in a file of data/quarantine their places in it."""
    import pyarrow.parquet as pq  # and not its read_table, which imports pandas: a quarter of a second

    rows = pq.ParquetFile(file).read(columns=["event_date", "row_number"])
    found: dict[date, list[int]] = {}
    for day, number in zip(*(rows.column(name).to_pylist() for name in rows.column_names), strict=True):
        part = WHOLE if day == WHOLE else month_of(day) if months else day
        found.setdefault(part, []).append(number)
    return {part: tuple(numbers) for part, numbers in found.items()}


def md5(path: Path) -> str:
    """What DVC names a file by."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink()


def dangling_links(folder: Path) -> list[Path]:
    """Symbolic links that lead nowhere, as to a file of DVC's cache that is gone; DVC ends at each."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() and not path.exists())


def remove_dangling_links(folder: Path) -> int:
    """Remove them; returns how many there were."""
    found = dangling_links(folder)
    for path in found:
        path.unlink()
    return len(found)
