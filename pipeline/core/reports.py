"""The reports in data/reports, by which stages and commands know what was done."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.core.errors import DataError


def read_report(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON report; DataError when it is missing, damaged or has not these keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        content = None
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise DataError(
            f"{path} is {'damaged' if path.exists() else 'missing'}",
            where=str(path),
            expected="the report of a finished run",
            next_step="dvc repro (make repro); or git checkout -- data/reports",
        )
    return content


def window_of(path: Path) -> tuple[date, date]:
    """The first day of the window and its exclusive end, by extract.json. Raises DataError where it does not say."""
    begin, until = read_report(path, "window")["window"]
    return date.fromisoformat(begin), date.fromisoformat(until)
