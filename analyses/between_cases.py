"""The between-case standardised mean difference of Hedges, Pustejovsky and Shadish (2012) for ABAB designs.

Research Synthesis Methods 3, 224-239. Comparable with Cohen's d of groups: the effect in units of the standard
deviation between all observations of different cases.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyses.ar1 import Array


class Case(NamedTuple):
    """One case: for each of its phases (A1, B1, A2, B2, ...) the values, and the numbers of their sessions."""

    values: tuple[Array, ...]
    times: tuple[Array, ...]


class Difference(NamedTuple):
    """delta, corrected for small samples, with its variance; the rest is what the paper calls it."""

    delta: float
    variance: float
    phi: float  # autocorrelation within a phase
    rho: float  # share of the variance that lies between cases
    nu: float  # degrees of freedom
    mean_difference: float  # D bar, in units of the outcome
    s2: float  # variance between cases at the same phase and point
    sigma2_w: float  # variance within a case
    theta: float
    cells: int  # M: points of a phase that all cases have
    cases: int


def correlations(times: Array, phi: float) -> Array:
    """phi to the power of the distance of `times` (n,): (n, n)."""
    return np.asarray(np.power(phi, np.abs(times[:, None] - times[None, :])))


def autocorrelation(phases: list[Array]) -> float:
    """Pooled over all phases at lag 1, corrected for their lengths."""
    centred = [values - values.mean() for values in phases]
    whole = sum(float(one @ one) for one in centred)
    lagged = sum(float(one[:-1] @ one[1:]) for one in centred)
    return lagged / whole + sum(1 - 1 / len(one) for one in phases) / sum(len(one) - 1 for one in phases)


def difference(cases: list[Case]) -> Difference | None:
    """None where it can't be had: fewer than three cases, phases of one point, or nothing varies, within or between."""
    phases = [values for case in cases for values in case.values]
    if len(cases) < 3 or min(len(one) for one in phases) < 2 or all(np.ptp(one) == 0 for one in phases):
        return None
    n, m = sum(map(len, phases)), len(cases)
    # Each case has a mean of its own in each phase; its effect in a pair of phases is the difference of two.
    effects = [
        case.values[i + 1].mean() - case.values[i].mean() for case in cases for i in range(0, len(case.values), 2)
    ]
    mean_difference = float(np.mean(effects))
    common = [min(len(case.values[i]) for case in cases) for i in range(len(cases[0].values))]
    cells = np.array([np.concatenate([v[:c] for v, c in zip(case.values, common, strict=True)]) for case in cases])
    s2 = float(((cells - cells.mean(axis=0)) ** 2).sum() / (cells.size - cells.shape[1]))
    if s2 == 0:
        return None
    phi = float(np.clip(autocorrelation(phases), -0.99, 0.99))
    within = sum(float(((one - one.mean()) ** 2).sum()) for one in phases)
    lost = sum(float(correlations(np.arange(len(one), dtype=float), phi).sum()) / len(one) for one in phases)
    sigma2_w = within / (n - lost)
    rho = max(0.0, 1 - sigma2_w / s2)

    def matrix(times: Array) -> Array:
        return rho + (1 - rho) * correlations(times, phi)

    # Var of the mean effect, over s2: each case's weights, as contrasts of its points.
    theta2 = 0.0
    squares, of_all = 0.0, np.zeros((cells.shape[1], cells.shape[1]))
    for case in cases:
        weights = np.concatenate([(1 if i % 2 else -1) / len(v) * np.ones(len(v)) for i, v in enumerate(case.values)])
        theta2 += float(weights @ matrix(np.concatenate(case.times)) @ weights) / len(effects) ** 2
        own = matrix(np.concatenate([t[:c] for t, c in zip(case.times, common, strict=True)]))
        squares += float((own**2).sum())
        of_all += own
    # trace(A V A V), A taking the mean of a cell off: blocks (1 - 1/m) and -1/m.
    trace = (1 - 1 / m) ** 2 * squares + (float((of_all**2).sum()) - squares) / m**2
    nu = (cells.shape[1] * (m - 1)) ** 2 / trace
    theta = float(np.sqrt(theta2))
    small = 1 - 3 / (4 * nu - 1)
    delta = small * mean_difference / float(np.sqrt(s2))
    shrunk = max(nu, 2.001)
    variance = small**2 * (theta**2 * shrunk / (shrunk - 2) + delta**2 * (shrunk / (shrunk - 2) - 1 / small**2))
    return Difference(delta, float(variance), phi, rho, nu, mean_difference, s2, sigma2_w, theta, cells.shape[1], m)
