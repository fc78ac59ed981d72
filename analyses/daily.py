"""The value of each day of a group of users: the series that is analysed."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from analyses.ar1 import Array
from analyses.snapshot import Snapshot

VALUES = {
    "mean_score": "CAST(sum(score_sum) AS DOUBLE) / nullif(sum(scored_events), 0)",
    "events": "CAST(sum(events) AS DOUBLE) / count(*)",
    "sessions": "CAST(sum(sessions) AS DOUBLE) / count(*)",
    "active_minutes": "CAST(sum(active_minutes) AS DOUBLE) / count(*)",
}

WORDS = {
    "mean_score": "the mean sessionPerformanceScore of all scored events, in percent",
    "events": "events a user, of all from their first event on",
    "sessions": "sessions a user, of all from their first event on",
    "active_minutes": "minutes with an event a user, of all from their first event on",
}


class Series(NamedTuple):
    """A value a day; days without one are left out."""

    days: Array  # (n,): numbers from 0, ascending
    values: Array  # (n,)
    first: date  # day 0
    last: int  # the number of the window's last day

    def day(self, number: float) -> date:
        return self.first + timedelta(days=int(number))


def read(snapshot: Snapshot, outcome: str, users: str) -> Series:
    rows = snapshot.rows(
        f"SELECT event_date, {VALUES[outcome]} FROM daily_activity WHERE userId IN ({users}) "
        "GROUP BY event_date ORDER BY event_date"
    )
    known = [((day - snapshot.first).days, value) for day, value in rows if value is not None]
    days, values = (np.array([pair[i] for pair in known], dtype=np.float64) for i in (0, 1))
    return Series(days, values, snapshot.first, (snapshot.last - snapshot.first).days)


def minus(series: Series, control: Series) -> Series:
    """The difference on the days that both have."""
    days, mine, theirs = np.intersect1d(series.days, control.days, return_indices=True)
    return series._replace(days=days, values=series.values[mine] - control.values[theirs])
