"""The tables that the pipeline knows, and those of them that a run reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.context_metadata import CONTEXT_METADATA
from schemas.table import Table

TABLES: tuple[Table, ...] = (BEHAVIORAL_EVENTS, CONTEXT_METADATA)


def chosen(tables: Sequence[Table], names: Collection[str]) -> tuple[Table, ...]:
    """Those with these names, in their own order."""
    return tuple(table for table in tables if table.name in names)
