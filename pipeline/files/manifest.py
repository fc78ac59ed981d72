"""The manifest: the list of files in a report, by which a file is known.

extract.json lists the files of data/raw, quality.json those of data/export: for each table and day its rows, the
SHA-256 of the file (what `sha256sum` prints) and `made_from`, one hash of all that decided its bytes. A file that is
not what the manifest says is made again by the stage that wrote it, and refused by the stages that read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from pipeline.core.days import parse_part, word
from pipeline.core.digest import Pin
from pipeline.core.errors import DataError
from pipeline.core.progress import count
from pipeline.core.reports import read_report
from pipeline.files.layout import day_path, days_in, is_folder, sha256
from schemas.table import Table

if TYPE_CHECKING:
    from pipeline.engine.executor import Workers

# Under what name the fingerprint of the key of pseudonyms stands in a footer, and in the comment of a table in DuckDB.
PSEUDONYMS = "pipeline.pseudonyms"

# Files read side by side; hashing leaves Python's lock alone.
THREADS = 2

# Hashing so many takes as long as the rest of the work does for a row (docs/scale.md).
BYTES_OF_A_ROW = 1_000


class File(NamedTuple):
    """One file of data/raw or data/export. Those of data/raw have the digest of the rows that they should hold."""

    rows: int
    sha256: str
    made_from: str
    digest: str | None = None

    @property
    def pin(self) -> Pin:
        assert self.digest is not None
        return Pin(self.rows, self.digest)


Files = Mapping[str, Mapping[date, File]]


def made_from(*parts: object) -> str:
    """One hash of all that decides a file's bytes. What all days share is one part, and stands in the report once."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def code(*modules: Path) -> str:
    """The fingerprint of modules, by their files. A change of their text may change the bytes of what they make."""
    return hashlib.sha256(repr([file.read_bytes() for file in modules]).encode()).hexdigest()[:16]


def entries(files: Files) -> list[dict[str, object]]:
    """The files as a report lists them. A list, because DVC leaves lists out of its tables of metrics."""
    return [
        {"table": table, "day": str(day), **{key: value for key, value in file._asdict().items() if value is not None}}
        for table, days in files.items()
        for day, file in sorted(days.items())
    ]


def read(report: Path, tables: Sequence[Table]) -> dict[str, dict[date, File]]:
    """The files that a report lists, by table and day.

    Raises DataError when the report is missing or damaged, or does not list just these tables.
    """
    try:
        found = parse(read_report(report, "files")["files"])
        if _stage(report) == "extract" and any(not f.digest for days in found.values() for f in days.values()):
            raise ValueError(report)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{report} is damaged",
            where=str(report),
            expected="the report of a finished run",
            next_step="dvc repro extract, then dvc repro; or git checkout -- data/reports",
        ) from None
    names = {table.name for table in tables}
    if found.keys() != names:
        raise DataError(
            f"{report} lists files of {', '.join(sorted(found)) or 'no table'}",
            where=str(report),
            expected=f"files of {', '.join(sorted(names))}, the tables of schemas/tables.py",
            next_step="dvc repro, which makes it anew",
        )
    return found


def parse(listed: Iterable[Mapping[str, object]]) -> dict[str, dict[date, File]]:
    """The files that a report lists. Raises ValueError, TypeError or KeyError where it is damaged."""
    found: dict[str, dict[date, File]] = {}
    for entry in listed:
        match entry:
            case {"table": str(table), "day": str(day), "rows": int(rows), "sha256": str(sha), "made_from": str(made)}:
                digest = entry.get("digest")
                if isinstance(rows, bool) or not (digest is None or isinstance(digest, str)):
                    raise ValueError(entry)
                found.setdefault(table, {})[parse_part(day)] = File(rows, sha, made, digest)
            case _:
                raise ValueError(entry)
    return found


def kept(report: Path, folder: Path, wanted: Mapping[date, str], run: Workers | None = None) -> dict[date, File]:
    """The files in the folder of a table that need not be made again: whole, and made from what is `wanted`.

    Where the report is missing or damaged nothing is known of any file.
    """
    try:
        listed = parse(read_report(report, "files")["files"]).get(folder.name, {})
    except (DataError, KeyError, TypeError, ValueError):
        return {}
    same = {day: listed[day] for day, made in wanted.items() if day in listed and listed[day].made_from == made}
    found = checksums(folder, same, run)
    return {day: file for day, file in same.items() if found.get(day) == file.sha256}


def checksums(folder: Path, days: Iterable[date], run: Workers | None = None) -> dict[date, str]:
    """The SHA-256 of the files of `days`; those that can't be read are left out.

    By `run`, where its workers are other processes.
    """
    paths = {day_path(folder, day): day for day in days}
    if run is not None and run.apart:
        found = dict(run.each_small(_checksum, list(paths), _worth))
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(paths, pool.map(_checksum, paths), strict=True))
    return {day: value for path, day in paths.items() if (value := found[path]) is not None}


def _checksum(path: Path) -> str | None:
    try:
        return sha256(path) if is_folder(path.parent.parent) and is_folder(path.parent) else None
    except OSError:
        return None


def _worth(path: Path) -> int:
    """Its size, as so many rows that are copied or checked."""
    try:
        return path.stat().st_size // BYTES_OF_A_ROW
    except OSError:
        return 0


def check(report: Path, root: Path, files: Files, run: Workers | None = None) -> None:
    """Raise DataError unless the files under `root` are those that the report lists, table by table and day by day.

    So are the files that describe them, in a report that lists some (`metadata`).

    Checksums are computed by `run`, where its workers are other processes.

    DVC sees to that before it runs a stage, but not with --single-item, --allow-missing or a frozen stage.
    """
    beside = {entry["file"]: entry["sha256"] for entry in read_report(report).get("metadata", [])}
    for entry in sorted(root.iterdir()) if root.is_dir() else []:
        if entry.name not in beside and (entry.name not in files or entry.is_symlink()):
            fault = "a link" if entry.name in files else "of no table"
            raise _other(report, root, f"{entry.name} is {fault}", f"move {entry} away, then dvc repro")
    for name, own in beside.items():
        if not (root / name).is_file() or sha256(root / name) != own:
            fault = "altered" if (root / name).exists() else "missing"
            raise _other(report, root, f"{name} is {fault}", _bring_back(root / name, root))
    for table, listed in files.items():
        there = set(days_in(root / table))
        found = checksums(root / table, there & listed.keys(), run)
        for day in sorted(listed.keys() | there):
            if day not in listed or found.get(day) != listed[day].sha256:
                raise _other_file(report, root / table, day, listed, there)


def _other_file(report: Path, folder: Path, day: date, listed: Collection[date], there: Collection[date]) -> DataError:
    root = folder.parent
    foreign = (
        f"of no {word(listed)} in the window" if word([day]) == word(listed) else f"beside files of {word(listed)}s"
    )
    fault = "missing" if day not in there else "altered" if day in listed else foreign
    some = f"; {len(there)} of {count(len(listed), 'file')} are there" if len(there) != len(listed) else ""
    bring = f"dvc checkout --force {quote(str(root))} (dvc pull, where it never was)"
    next_step = f"{bring} or dvc repro {_stage(report)}; then dvc repro"
    if fault == "altered":  # dvc checkout alone takes a file of the same size and time for the same file
        next_step = _bring_back(day_path(folder, day), root)
    return _other(report, folder, f"the file of {day} is {fault}{some}", next_step)


def _bring_back(file: Path, root: Path) -> str:
    bring = f"rm -f {quote(str(file))} && dvc checkout {quote(str(root))}"
    return f"python -m commands.mend && {bring}; where that fails, dvc repro --force"


def _other(report: Path, folder: Path, fault: str, next_step: str) -> DataError:
    return DataError(
        f"{folder} is not what {_stage(report)} wrote: {fault}",
        where=str(folder),
        expected=f"the files whose SHA-256 {report} has",
        next_step=next_step,
    )


def _stage(report: Path) -> str:
    return "extract" if report.stem == "extract" else "export"


def sha256_of(files: Files) -> str:
    """One SHA-256 for all files of a manifest: over tables, days and the files' own."""
    lines = [f"{table} {day} {file.sha256}\n" for table, days in files.items() for day, file in sorted(days.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
