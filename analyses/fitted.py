"""A series fitted by three methods, the effects with their intervals, and what has to be said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analyses.ar1 import Array, Hac, Interval, Posterior, Reml, Singular, autocorrelation, whiten
from analyses.daily import Series
from analyses.its_causalpy import Check
from analyses.segmented import FEWEST, MANY, SIDE, Design, design, level_only
from analyses.settings import Its
from analyses.snapshot import too_little
from pipeline.core.progress import count

LAGS = 7

TREATED, DIFFERENCE = "treated", "treated minus control"


class Fitted(NamedTuple):
    """What each method says of a design. Intervals are None for fewer than FEWEST points."""

    design: Design
    values: Array
    effects: dict[str, dict[str, Interval]]  # by method, by effect
    relative: dict[str, Interval | None]  # level and mean, of the counterfactual; empty for a difference
    posterior: Posterior
    reml: Reml
    phi: Interval
    residuals: list[float]  # autocorrelation of whitened residuals at lag 1 to LAGS
    hac_lag: int
    sampler: Sequence[Check] = ()  # of CausalPy, where it was asked


def check(series: Series, start: int, what: str, coefficients: int) -> None:
    """Raise DataError where there is nothing to fit."""
    before, after = int((series.days < start).sum()), int((series.days >= start).sum())
    if before < SIDE or after < SIDE or before + after <= coefficients:
        raise too_little(
            f"its: {what} has {count(before, 'day')} before {series.day(start)} and {after} from then on",
            f"{SIDE} on either side, and more than {coefficients} in all",
        )
    if np.ptp(series.values) == 0:
        raise too_little(f"its: {what} has the same value on every day", "values that differ")


def fit(series: Series, start: int, wanted: Its, what: str) -> Fitted:
    """Fit a series. Raises DataError where it is degenerate."""
    made = design(series.days, start, series.last, wanted.weekdays, series.first.weekday())
    check(series, start, what, made.x.shape[1])
    try:
        posterior, reml = Posterior(made.x, series.values, series.days), Reml(made.x, series.values, series.days)
    except Singular:
        raise too_little(f"its: {what} lies on a line, or has days of too few kinds", "values that differ") from None
    hac = Hac(made.x, series.values, wanted.hac_lag)
    contrasts, under = made.contrasts(), made.counterfactuals()
    effects = {
        name: {effect: method.interval(contrast, wanted.level) for effect, contrast in contrasts.items()}
        for name, method in (("exact", posterior), ("reml", reml), ("hac", hac))
    }
    relative = {
        effect: posterior.ratio(contrasts[effect], under[effect], wanted.level) for effect in under if what == TREATED
    }
    phi = posterior.phi(wanted.level)
    centre = posterior.weights @ posterior.beta
    white = whiten(series.values - made.x @ centre, series.days, phi.estimate)
    residuals = autocorrelation(white, min(LAGS, len(white) - 2))
    return Fitted(made, series.values, effects, relative, posterior, reml, phi, residuals, hac.lag)


def difference_in_differences(series: Series, start: int, level: float) -> Interval:
    """Of a difference of two groups of which only the level changes: no slopes, no weekdays."""
    x = level_only(series.days, start)
    return Posterior(x, series.values, series.days).interval(np.array([0.0, 1.0]), level)


def placebos(series: Series, start: int, wanted: Its) -> list[dict[str, Any]]:
    """The same regression on the days before, as if the interruption had come earlier."""
    before = series.days < start
    if before.sum() < FEWEST:
        return []
    own = series._replace(days=series.days[before], values=series.values[before], last=start - 1)
    room = range(int(own.days.min()) + FEWEST, start - FEWEST + 1)
    if wanted.placebos == 0 or not room:
        return []
    chosen = sorted({int(day) for day in np.linspace(room[0], room[-1], wanted.placebos).round()})
    found = []
    for day in chosen:
        made = design(own.days, day, own.last, wanted.weekdays, own.first.weekday())
        try:
            interval = Posterior(made.x, own.values, own.days).interval(made.contrasts()["mean"], wanted.level)
        except Singular:
            continue
        holds_0 = interval.low <= 0 <= interval.high
        found.append(
            {"day": str(series.day(day)), "method": "exact", "n": len(own.days), "mean": interval, "holds_0": holds_0}
        )
    return found


def bands(fitted: Fitted, series: Series, level: float) -> list[tuple[Any, ...]]:
    """For each day of the window: value, fit, counterfactual with its interval."""
    all_days = np.arange(series.last + 1, dtype=np.float64)
    with_it, without = fitted.design.rows(all_days), fitted.design.rows(all_days, treated=False)
    values = dict(zip(series.days.astype(int).tolist(), series.values.tolist(), strict=True))
    rows = []
    for day in range(series.last + 1):
        fit_ = fitted.posterior.mean(with_it[day])
        row: tuple[Any, ...] = (series.day(day), day, values.get(day), fit_)
        if day < fitted.design.start:
            row += (None, None, None)
        elif len(fitted.values) < FEWEST:
            row += (fitted.posterior.mean(without[day]), None, None)
        else:
            row += tuple(fitted.posterior.interval(without[day], level))
        rows.append(row)
    return rows


def notices(fitted: Fitted) -> list[str]:
    n = len(fitted.values)
    found = []
    if n < FEWEST:
        found.append(f"{count(n, 'point')}: no interval, which fewer than {FEWEST} do not give")
    elif n < MANY:
        found.append(f"{count(n, 'point')}: intervals of fewer than {MANY} lean on the model")
    if fitted.posterior.at_boundary or fitted.reml.at_boundary:
        found.append(
            "phi sits at its boundary: the series may not be stationary, a trend may be chance, an interval too short"
        )
    bound = 2 / np.sqrt(n)
    far = [lag for lag, value in enumerate(fitted.residuals, 1) if abs(value) > bound]
    if far:
        lags = ", ".join(map(str, far))
        found.append(f"residuals are correlated beyond {bound:.2f} at lag {lags}: AR(1) may not be all of it")
    missing = fitted.design.last + 1 - n
    if missing:
        found.append(f"{count(missing, 'day')} of the window without a value; the model spans them")
    found += [
        f"CausalPy's sampler did not arrive: {one.name} {one.value:.4g}, expected {one.expected}"
        for one in fitted.sampler
        if not one.passed
    ]
    return found
