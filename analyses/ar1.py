"""Regression with AR(1) errors on days, some of which may be missing.

y = X b + e, with corr(e at day s, e at day t) = phi ** |s - t|. All of it by the Prais-Winsten transformation, which
for a gap of g days takes phi ** g of the row before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Array: TypeAlias = npt.NDArray[np.float64]

# The uniform prior of phi, 195 points.
GRID: Array = np.linspace(-0.95, 0.99, 195)

# Steps of the numerical derivatives of the restricted likelihood.
STEP = 1e-3


class Singular(ValueError):
    """Columns of X are not independent, or they leave no residual: there is nothing to estimate a variance from."""


class Interval(NamedTuple):
    estimate: float
    low: float
    high: float


class Gls(NamedTuple):
    """A generalised least squares fit at one phi. k coefficients."""

    beta: Array  # (k,)
    unscaled: Array  # (k, k): its covariance is this times sigma squared, the variance of an innovation
    rss: float
    likelihood: float  # log of the restricted likelihood, but for a constant


def whiten(values: Array, days: Array, phi: float) -> Array:
    """`values` (n rows) so that errors with AR(1) on `days` (n, ascending) become independent, of equal variance."""
    back, scale = _steps(days, phi)
    shape = (-1,) + (1,) * (values.ndim - 1)
    first = values[:1] * np.sqrt(1 - phi**2)
    rest = (values[1:] - back.reshape(shape) * values[:-1]) * scale.reshape(shape)
    return np.concatenate([first, rest])


def _steps(days: Array, phi: float) -> tuple[Array, Array]:
    gaps = np.diff(days).astype(np.int64)
    return np.power(phi, gaps), np.sqrt((1 - phi**2) / (1 - np.power(phi**2, gaps)))


def gls(x: Array, y: Array, days: Array, phi: float) -> Gls:
    """Fit y (n,) on x (n, k). Raises Singular."""
    n, k = x.shape
    q, r = np.linalg.qr(whiten(x, days, phi))
    diagonal = np.abs(np.diag(r))
    if n <= k or diagonal.min() < 1e-10 * diagonal.max():
        raise Singular
    white = whiten(y, days, phi)
    inverse = np.linalg.solve(r, np.eye(k))
    projected = q.T @ white
    residuals = white - q @ projected
    rss = float(residuals @ residuals)
    if rss <= 1e-20 * max(float(white @ white), 1e-300):
        raise Singular
    of_transformation = 0.5 * np.log(1 - phi**2) + float(np.log(_steps(days, phi)[1]).sum())
    likelihood = of_transformation - float(np.log(diagonal).sum()) - (n - k) / 2 * np.log(rss)
    return Gls(inverse @ projected, inverse @ inverse.T, rss, float(likelihood))


class Posterior:
    """The exact posterior of b under the prior 1 / sigma squared and phi uniform on GRID: a mixture of t(n - k).

    At each phi b is a t with n - k degrees of freedom around the fit; its weight is the restricted likelihood.
    """

    def __init__(self, x: Array, y: Array, days: Array, grid: Array = GRID) -> None:
        fits = [gls(x, y, days, phi) for phi in grid]
        likelihood = np.array([fit.likelihood for fit in fits])
        weights = np.exp(likelihood - likelihood.max())
        self.df = len(y) - x.shape[1]
        self.grid = grid
        self.weights: Array = weights / weights.sum()
        self.beta: Array = np.array([fit.beta for fit in fits])
        self.covariance: Array = np.array([fit.unscaled * fit.rss / self.df for fit in fits])

    def _of(self, contrast: Array) -> tuple[Array, Array]:
        means = self.beta @ contrast
        return means, np.sqrt(np.einsum("i,pij,j->p", contrast, self.covariance, contrast))

    def mean(self, contrast: Array) -> float:
        return float(self.weights @ (self.beta @ contrast))

    def below(self, contrast: Array, value: float) -> float:
        """The probability that contrast @ b is at most `value`."""
        means, scales = self._of(contrast)
        return float(self.weights @ special.stdtr(self.df, (value - means) / scales))

    def interval(self, contrast: Array, level: float) -> Interval:
        """The mean of contrast @ b, and the interval that leaves as much on either side."""
        means, scales = self._of(contrast)
        reach = 50 * scales.max() * max(1.0, special.stdtrit(self.df, 1 - 1e-6) / 10)
        ends = (float(means.min() - reach), float(means.max() + reach))
        low, high = (solve(lambda v: self.below(contrast, v), p, ends) for p in ((1 - level) / 2, (1 + level) / 2))
        return Interval(self.mean(contrast), low, high)

    def ratio(self, over: Array, under: Array, level: float) -> Interval | None:
        """(over @ b) / (under @ b), by its median; None where `under` may be 0 or below.

        P(over / under <= r) is P((over - r * under) @ b <= 0), as under is above 0.
        """
        if self.below(under, 0.0) > 1e-3:
            return None
        centre = self.mean(over) / self.mean(under)
        reach = 1.0 + abs(centre)

        def below(ratio: float) -> float:
            return self.below(over - ratio * under, 0.0)

        shares = (0.5, (1 - level) / 2, (1 + level) / 2)
        while below(centre - reach) > min(shares) or below(centre + reach) < max(shares):
            reach *= 2
            if reach > 1e9:
                return None
        middle, low, high = (solve(below, p, (centre - reach, centre + reach)) for p in shares)
        return Interval(middle, low, high)

    def phi(self, level: float) -> Interval:
        """The mean of phi and its interval, by the points of the grid."""
        cumulative = np.cumsum(self.weights)
        low, high = (self.grid[int(np.searchsorted(cumulative, p))] for p in ((1 - level) / 2, (1 + level) / 2))
        return Interval(float(self.weights @ self.grid), float(low), float(high))

    @property
    def at_boundary(self) -> bool:
        """Whether phi is likeliest at an end of the grid: a series that may not be stationary."""
        return int(self.weights.argmax()) in (0, len(self.grid) - 1)


def solve(share: Callable[[float], float], wanted: float, ends: tuple[float, float]) -> float:
    """Where an increasing function reaches `wanted`, between two ends."""
    return float(optimize.brentq(lambda value: share(value) - wanted, *ends, xtol=1e-11))


class Reml:
    """Restricted maximum likelihood for phi within GRID, degrees of freedom by Satterthwaite (1946).

    df = 2 v ** 2 / var(v), v being the variance of the contrast, by the delta method in (phi, log sigma squared).
    """

    def __init__(self, x: Array, y: Array, days: Array, grid: Array = GRID) -> None:
        self.x, self.y, self.days = x, y, days
        self.low, self.high = float(grid[0]), float(grid[-1])
        near = grid[int(np.argmax([gls(x, y, days, phi).likelihood for phi in grid]))]
        step = float(grid[1] - grid[0])
        found = optimize.minimize_scalar(
            lambda phi: -gls(x, y, days, phi).likelihood,
            bounds=(max(self.low, near - step), min(self.high, near + step)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        best = min((-gls(x, y, days, phi).likelihood, phi) for phi in (float(found.x), self.low, self.high))
        self.phi = float(best[1])
        self.at_boundary = self.phi in (self.low, self.high)
        self.fit = gls(x, y, days, self.phi)
        self.rest = len(y) - x.shape[1]
        self.sigma2 = self.fit.rss / self.rest

    def _variance(self, contrast: Array, phi: float) -> float:
        return float(contrast @ gls(self.x, self.y, self.days, phi).unscaled @ contrast)

    def df(self, contrast: Array) -> float:
        """Degrees of freedom, from 2 to n - k; n - k where phi is at its boundary and no curvature says more."""
        centre = min(max(self.phi, self.low + STEP), self.high - STEP)
        before, here, after = (gls(self.x, self.y, self.days, centre + d) for d in (-STEP, 0.0, STEP))
        # log L = a(phi) - m / 2 log s2 - rss(phi) / (2 s2); a(phi) is what the profile likelihood has beside its rss.
        m, s2 = self.rest, self.sigma2
        a = [fit.likelihood + m / 2 * np.log(fit.rss) - fit.rss / (2 * s2) for fit in (before, here, after)]
        by_phi = (a[0] - 2 * a[1] + a[2]) / STEP**2
        mixed = (after.rss - before.rss) / (2 * STEP) / (2 * s2)
        information = -np.array([[by_phi, mixed], [mixed, -here.rss / (2 * s2)]])
        if self.at_boundary or np.linalg.eigvalsh(information).min() <= 0:
            return float(m)
        variance = s2 * self._variance(contrast, centre)
        slope = s2 * (self._variance(contrast, centre + STEP) - self._variance(contrast, centre - STEP)) / (2 * STEP)
        gradient = np.array([slope, variance])
        of_variance = float(gradient @ np.linalg.inv(information) @ gradient)
        return float(np.clip(2 * variance**2 / of_variance, 2, m))

    def interval(self, contrast: Array, level: float) -> Interval:
        estimate = float(contrast @ self.fit.beta)
        se = np.sqrt(self.sigma2 * float(contrast @ self.fit.unscaled @ contrast))
        reach = float(stats.t.ppf((1 + level) / 2, self.df(contrast)) * se)
        return Interval(estimate, estimate - reach, estimate + reach)


class Hac:
    """Ordinary least squares with the covariance of Newey and West (1987): Bartlett weights, n / (n - k), t(n - k).

    Rows count as neighbours whatever the days between them. For comparison only: its intervals are too short here.
    """

    def __init__(self, x: Array, y: Array, lag: int | None = None) -> None:
        n, k = x.shape
        self.lag = int(4 * (n / 100) ** (2 / 9)) if lag is None else lag
        inverse = np.linalg.inv(x.T @ x)
        self.beta: Array = inverse @ x.T @ y
        self.residuals: Array = y - x @ self.beta
        scores = x * self.residuals[:, None]
        middle = scores.T @ scores
        for one in range(1, self.lag + 1):
            cross = scores[one:].T @ scores[:-one]
            middle += (1 - one / (self.lag + 1)) * (cross + cross.T)
        self.covariance: Array = inverse @ middle @ inverse * n / (n - k)
        self.df = n - k

    def interval(self, contrast: Array, level: float) -> Interval:
        estimate = float(contrast @ self.beta)
        se = float(np.sqrt(contrast @ self.covariance @ contrast))
        reach = float(stats.t.ppf((1 + level) / 2, self.df)) * se
        return Interval(estimate, estimate - reach, estimate + reach)


def autocorrelation(values: Array, lags: int) -> list[float]:
    """Of `values` about their mean, at lag 1 to `lags`."""
    centred = values - values.mean()
    whole = float(centred @ centred)
    return [float(centred[lag:] @ centred[:-lag]) / whole for lag in range(1, lags + 1)]
