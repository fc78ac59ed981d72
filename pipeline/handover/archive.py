"""The archive of a bundle: a ZIP, which everybody's computer opens, with its files stored as they are.

Parquet is compressed in itself, so nothing is lost, and no version of a compressor decides the bytes. Nor do a clock, a
time zone, an umask, an owner or the order in which a disk lists files.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

# A file that its owner may write and all may read, as UNIX has it, in the upper half of what ZIP keeps.
MODE = 0o100644 << 16
UNIX = 3


def write(archive: Path, folder: str, day: date, files: Mapping[str, Path | bytes]) -> None:
    """Make the archive of these files, in their order, in a folder of this name. `day` is the one that they all get."""
    with ZipFile(archive, "w", ZIP_STORED) as made:
        for name, content in files.items():
            entry = ZipInfo(f"{folder}/{name}", (day.year, day.month, day.day, 0, 0, 0))
            entry.external_attr, entry.create_system = MODE, UNIX
            if isinstance(content, bytes):
                made.writestr(entry, content)
                continue
            entry.file_size = content.stat().st_size  # beyond 4 GB it needs another form
            with open(content, "rb") as source, made.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
