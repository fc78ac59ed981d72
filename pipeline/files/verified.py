"""What was proven on this machine about days that have not changed since: a local note that may be lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path

from pipeline.files.layout import write_report


def rules(*decide: object) -> str:
    """A digest of all that a proof depends on, besides what is noted of the day: code, libraries, params."""
    return hashlib.sha256(repr(decide).encode()).hexdigest()


def recall(path: Path, rules: str) -> dict[date, str]:
    """Days for which the proof by these rules stands, and what was noted of each in one run, as its file's checksum.

    Empty when the note is missing or can't be read: then everything is proven again.
    """
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {date.fromisoformat(day): sha for day, sha in noted["days"].items()} if noted["rules"] == rules else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def note(path: Path, rules: str, proven: Mapping[date, str]) -> None:
    with suppress(OSError):  # it may be lost
        write_report(path, {"rules": rules, "days": {str(day): sha for day, sha in proven.items()}})
