"""The parts of a table, each with a pin and a file of its own: UTC days; or one, where the table has no day column."""

from __future__ import annotations

import re
from datetime import date


class _Whole(date):
    """A day before all others, so that one part is handled like any."""

    def __str__(self) -> str:
        return "whole"

    __repr__ = __str__


# The only part of a table without a day column: what watermark.yaml, reports and folders call 'whole'.
WHOLE: date = _Whole(1, 1, 1)


def parse_day(text: str) -> date:
    """A part by its name. Raises ValueError for all but YYYY-MM-DD and 'whole'."""
    if text == str(WHOLE):
        return WHOLE
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):  # Python also takes 20251027 and 2025-W44-1
        raise ValueError(text)
    return date.fromisoformat(text)
