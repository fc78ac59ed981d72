"""What was verified on this machine before and has not changed since: a local cache that may be lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.days import parse_part
from pipeline.files.layout import write_report


class Verified(NamedTuple):
    """What was saved of a table: a value for each day, good as long as the cache key is the same."""

    key: str
    days: Mapping[date, Any]


def cache_key(*parts: object) -> str:
    """One hash of all that a verification depends on, besides the saved value: code, libraries, params."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def recall(path: Path, table: str, key: str) -> dict[date, Any]:
    """The saved value for each day, if it was saved under the same cache key.

    Empty when the file is missing or can't be read: then everything is verified again.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        found = next(entry for entry in saved["tables"] if entry["table"] == table and entry["key"] == key)
        return {parse_part(day): value for day, value in found["days"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration):
        return {}


def save(path: Path, tables: Mapping[str, Verified]) -> None:
    saved = [
        {"table": table, "key": key, "days": {str(day): value for day, value in days.items()}}
        for table, (key, days) in tables.items()
    ]
    with suppress(OSError):  # it may be lost
        write_report(path, {"tables": saved})
