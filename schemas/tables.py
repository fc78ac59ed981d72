"""The tables that the pipeline reads."""

from __future__ import annotations

from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.table import Table

TABLES: tuple[Table, ...] = (BEHAVIORAL_EVENTS,)
