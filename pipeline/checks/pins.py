"""The proof that the files of data/raw hold what PostgreSQL held when watermark.yaml was written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path

import duckdb

from pipeline.core import digest
from pipeline.core.errors import PinError
from pipeline.core.progress import count
from pipeline.core.watermark import Day
from pipeline.files.layout import day_path, listed
from pipeline.files.seal import Sealed

# Days that a message names before the rest is only counted.
NAMED = 5


def content(files: Collection[Path]) -> dict[str, Day]:
    """The rows and the digest of each file, by its path; of a file without rows there is nothing."""
    if not files:
        return {}
    row = digest.row_text("epoch_ms({})", "strlen({})")
    # One thread: the other is for the checks, which run meanwhile.
    with duckdb.connect(config={"memory_limit": "96MB", "threads": 1}) as connection:
        found = connection.execute(
            f"SELECT filename, count(*), sum(('0x' || right(md5({row}), 16))::UBIGINT) "
            f"FROM read_parquet({listed(files)}, hive_partitioning = false, filename = true) GROUP BY filename"
        )
        return {name: Day(rows, digest.hexadecimal(total)) for name, rows, total in found.fetchall()}


def not_as_pinned(raw: Path, files: Mapping[date, Sealed], days: Collection[date]) -> list[date]:
    """Those of `days` whose file holds other rows than the pin in its footer says.

    A file of some users only can't be compared with the pin of all; extract has asked PostgreSQL.
    """
    paths = {day: day_path(raw, day) for day in sorted(days) if files[day].facts.get("pipeline.users") in (None, "all")}
    found = content(list(paths.values()))
    nothing = Day(0, digest.hexadecimal(None))
    return [
        day for day, path in paths.items() if str(found.get(str(path), nothing)) != files[day].facts.get("pipeline.pin")
    ]


def check(raw: Path, moved: Sequence[date]) -> None:
    """Raise PinError that names the days in `moved`, if there are any."""
    if moved:
        more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
        raise PinError(
            f"the rows of {count(len(moved), 'day')} are as many as watermark.yaml pins, but not the same: "
            + ", ".join(map(str, moved[:NAMED]))
            + more,
            where=str(raw),
            expected="the content that refresh saw; a row was changed in place before extract came",
            next_step=f"python -m commands.refresh, then dvc repro; if nothing moved (it was changed back), "
            f"rm -r {raw}, then dvc repro",
        )
