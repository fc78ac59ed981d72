"""Measures of overlap between two phases of a single case, and baseline-corrected Tau.

Parker, Vannest and Davis (2011), Behavior Modification 35, 303-322; Tarlow (2017), Behavior Modification 41, 427-467.
All intervals take the points for independent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from analyses.ar1 import Array, Interval


class Overlap(NamedTuple):
    """`nap` and `tau` with the interval of Newcombe's method 5; `tau_u` has none: its sampling
    distribution has not been described, as the documentation of the R package SingleCaseES says.
    """

    nap: Interval
    tau: Interval
    tau_se: float | None  # by the unbiased estimate of its variance; None for a phase of one point
    tau_u: float


def signs(a: Array, b: Array) -> Array:
    """1 where b is above a, -1 where below: (m, n) for phases of m and n points."""
    return np.sign(b[None, :] - a[:, None])


def trend(values: Array) -> float:
    """Kendall's S against time."""
    return float(np.triu(signs(values, values), 1).sum())


def overlap(a: Array, b: Array, level: float = 0.95, decrease: bool = False) -> Overlap:
    """Compare the points of two phases, in order; `decrease`: lower is better."""
    if decrease:
        a, b = -a, -b
    m, n = len(a), len(b)
    higher = signs(a, b)
    tau = float(higher.mean())
    nap = (tau + 1) / 2
    low, high = newcombe(nap, m, n, level)
    se = None
    if m > 1 and n > 1:
        # The unbiased estimate of the R package SingleCaseES.
        of_a, of_b = (higher.mean(axis=1) ** 2).mean(), (higher.mean(axis=0) ** 2).mean()
        variance = 1 + n * of_a + m * of_b - (m + n - 1) * tau**2 - 2 * (higher**2).mean()
        se = float(np.sqrt(max(variance, 0.0) / ((m - 1) * (n - 1))))
    return Overlap(
        Interval(nap, low, high),
        Interval(tau, 2 * low - 1, 2 * high - 1),
        se,
        float((higher.sum() - trend(a)) / (m * n)),
    )


def newcombe(nap: float, m: int, n: int, level: float) -> tuple[float, float]:
    """The score interval of Newcombe (2006), Statistics in Medicine 25, 559-573, method 5."""
    z, half = float(stats.norm.ppf((1 + level) / 2)), (m + n) / 2 - 1

    def beyond(x: float) -> float:
        variance = x * (1 - x) / (m * n) * (1 + half * ((1 - x) / (2 - x) + x / (1 + x)))
        return float((nap - x) ** 2 - z**2 * variance)

    low = 0.0 if nap == 0 else float(optimize.brentq(beyond, 1e-12, nap))
    high = 1.0 if nap == 1 else float(optimize.brentq(beyond, nap, 1 - 1e-12))
    return low, high


class Corrected(NamedTuple):
    """Tau-b of all points against their phase, after the baseline's line was taken off where it has a trend."""

    tau: Interval
    p: float  # of tau-b, of n points
    n: int
    uncorrected: float  # tau-b with the trend left in
    baseline_tau: float
    baseline_p: float
    corrected: bool
    slope: float  # Theil-Sen, a point
    intercept: float  # on the baseline's first point


def theil_sen(values: Array) -> tuple[float, float]:
    """Slope and intercept (at time 1): the median of all slopes, and of what is left."""
    time = np.arange(1, len(values) + 1, dtype=np.float64)
    first, second = np.triu_indices(len(values), 1)
    slope = float(np.median((values[second] - values[first]) / (time[second] - time[first])))
    return slope, float(np.median(values - slope * time))


def corrected_tau(a: Array, b: Array, level: float = 0.95, always: bool = False) -> Corrected:
    """Baseline-corrected Tau of Tarlow (2017): only where the baseline has a trend at 0.05, or `always`."""
    time = np.arange(1, len(a) + len(b) + 1, dtype=np.float64)
    baseline = stats.kendalltau(time[: len(a)], a)
    slope, intercept = theil_sen(a)
    correct = always or bool(baseline.pvalue <= 0.05)
    values = np.concatenate([a, b]) - (intercept + slope * time if correct else 0.0)
    values = np.round(values, 10)  # ties are ties
    phase = np.concatenate([np.zeros(len(a)), np.ones(len(b))])
    as_they_are = float(stats.kendalltau(phase, np.concatenate([a, b])).statistic)
    found = stats.kendalltau(phase, values)
    tau, p = (0.0, 1.0) if np.isnan(found.statistic) else (float(found.statistic), float(found.pvalue))
    n = len(values)
    reach = float(stats.norm.ppf((1 + level) / 2)) * standard_error(tau, n)
    flat = bool(np.isnan(baseline.statistic))
    return Corrected(
        Interval(tau, max(-1.0, tau - reach), min(1.0, tau + reach)),
        p,
        n,
        0.0 if np.isnan(as_they_are) else as_they_are,
        0.0 if flat else float(baseline.statistic),
        1.0 if flat else float(baseline.pvalue),
        correct,
        slope,
        intercept,
    )


def standard_error(tau: float, n: int) -> float:
    return float(np.sqrt(2 / n * (1 - tau**2)))
