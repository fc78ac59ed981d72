"""The archive of a bundle: a ZIP, which everybody's computer opens, with its files stored as they are.

Parquet is compressed in itself, so nothing is lost, and no version of a compressor decides the bytes. Nor do a clock, a
time zone, an umask, an owner or the order in which a disk lists files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from pipeline.core.errors import DataError

# A file that its owner may write and all may read, as UNIX has it, in the upper half of what ZIP keeps.
MODE = 0o100644 << 16
UNIX = 3


def write(archive: Path, folder: str, day: date, files: Mapping[str, tuple[Path, str] | bytes]) -> None:
    """Make the archive of these files, in their order, in a folder of this name. `day` is the one that they all get.

    Raises DataError for a file whose SHA-256 is not the one that is given with it.
    """
    day = min(max(day, date(1980, 1, 1)), date(2107, 12, 31))  # ZIP knows no other
    with ZipFile(archive, "w", ZIP_STORED) as made:
        for name, content in files.items():
            entry = ZipInfo(f"{folder}/{name}", (day.year, day.month, day.day, 0, 0, 0))
            entry.external_attr, entry.create_system = MODE, UNIX
            if isinstance(content, bytes):
                made.writestr(entry, content)
                continue
            path, sha256 = content
            entry.file_size = path.stat().st_size  # beyond 4 GB it needs another form
            found = hashlib.sha256()
            with open(path, "rb") as source, made.open(entry, "w") as target:
                while block := source.read(1024 * 1024):
                    found.update(block)
                    target.write(block)
            if found.hexdigest() != sha256:
                raise DataError(
                    f"{name} was altered while the archive was made",
                    where=str(path.resolve()),
                    expected="a file that stays as it is",
                    next_step="python -m commands.mend, then the same command again",
                )
