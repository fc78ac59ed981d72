"""extract.json: the files that extract wrote, by which the stages after it know data/raw."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.progress import count
from pipeline.files.layout import read_report, write_report


class File(NamedTuple):
    """One day's file in data/raw: its rows, as PostgreSQL counted them, and the checksum in its footer."""

    rows: int
    sha256: str


def write(path: Path, files: Mapping[date, File]) -> None:
    """Write the report of `files`, a day each, oldest first."""
    # A list, which DVC leaves out of its tables of metrics.
    by_day = [{"day": str(day), **file._asdict()} for day, file in files.items()]
    window = {"begin": str(min(files)), "until": str(max(files) + timedelta(days=1)), "days": len(files)}
    write_report(path, {**window, "rows": sum(file.rows for file in files.values()), "by_day": by_day})


def read(path: Path) -> dict[date, File]:
    """The days of the window, oldest first. Raises DataError when the report is missing or damaged."""
    try:
        by_day = read_report(path, "by_day")["by_day"]
        return {date.fromisoformat(day["day"]): File(day["rows"], day["sha256"]) for day in by_day}
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path} is damaged",
            where=str(path),
            expected="the report that extract wrote",
            next_step="dvc repro extract, then dvc repro; or git checkout -- data/reports",
        ) from None


def check(path: Path, files: Mapping[date, File], raw: Path, found: Mapping[date, str]) -> None:
    """Raise DataError unless the files under `raw`, with the checksums `found`, are those of the report, day by day.

    DVC sees to that before it runs a stage, but not with --single-item, --allow-missing or a frozen extract.
    """
    for day in sorted(files.keys() | found.keys()):
        if day in files and found.get(day) == files[day].sha256:
            continue
        fault = "missing" if day not in found else "altered" if day in files else "of no day in the window"
        at_all = f"; {len(found)} of {count(len(files), 'file')} are there"
        raise DataError(
            f"{raw} is not what extract wrote: the file of {day} is {fault}"
            + (at_all if len(found) != len(files) else ""),
            where=str(raw),
            expected=f"the files whose checksums {path} has",
            next_step=f"dvc checkout --force {raw} (dvc pull, where it never was) or dvc repro extract; then dvc repro",
        )
