"""Segmented regression for an interrupted time series, and the effects that follow from it.

    y(t) = a + b (t - start) + [t >= start] (level + slope (t - start)) + weekday + e(t)

level is the effect on the day of the interruption, slope what it changes by each day after. The counterfactual is the
same without the bracket. Wagner, Soumerai, Zhang and Ross-Degnan (2002), J Clin Pharm Ther 27, 299-309.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyses.ar1 import Array

# Fewer points give no interval, fewer than MANY a warning.
FEWEST, MANY = 12, 30
# On either side of the interruption.
SIDE = 3


class Design(NamedTuple):
    """The regression of n points. k is 4, or 10 with weekdays."""

    x: Array  # (n, k): 1, t - start, post, post * (t - start), weekdays
    days: Array  # (n,): day numbers, ascending
    start: int  # the day number of the interruption
    last: int  # of the last day of the series
    weekdays: bool
    first_weekday: int  # of day 0, 0 for Monday

    @property
    def post(self) -> Array:
        """All days from the interruption on, missing ones too."""
        return np.arange(self.start, self.last + 1, dtype=np.float64)

    def rows(self, days: Array, treated: bool = True) -> Array:
        """The rows of X for `days`; without the interruption where not `treated`."""
        since = days - self.start
        post = ((since >= 0) & treated).astype(np.float64)
        columns = [np.ones(len(days)), since, post, post * since]
        if self.weekdays:
            weekday = (days.astype(np.int64) + self.first_weekday) % 7
            # Effects that add up to 0, so that a is the level of a mean day.
            columns += [(weekday == one) * 1.0 - (weekday == 6) * 1.0 for one in range(6)]
        return np.column_stack(columns)

    def contrasts(self) -> dict[str, Array]:
        """What each effect is made of, as weights (k,) of the coefficients."""
        effect = self.rows(self.post) - self.rows(self.post, treated=False)
        unit = np.eye(self.x.shape[1])
        return {"level": unit[2], "slope": unit[3], "mean": effect.mean(axis=0), "cumulative": effect.sum(axis=0)}

    def counterfactuals(self) -> dict[str, Array]:
        """What an effect is relative to: the level on the day of the interruption, the mean over the days after it."""
        without = self.rows(self.post, treated=False)
        return {"level": without[0], "mean": without.mean(axis=0)}


def design(days: Array, start: int, last: int, weekdays: bool = False, first_weekday: int = 0) -> Design:
    """The design for a series with values on `days` (n,), interrupted on day `start`."""
    empty = Design(np.empty((0, 0)), days, start, last, weekdays, first_weekday)
    return empty._replace(x=empty.rows(days))


def level_only(days: Array, start: int) -> Array:
    """The regression of a difference of two groups in which only the level changes: (n, 2)."""
    return np.column_stack([np.ones(len(days)), (days >= start).astype(np.float64)])
