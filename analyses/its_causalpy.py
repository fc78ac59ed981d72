"""CausalPy on the same series, for `its.method: causalpy`. docs/analyses.md names what is wrong with its intervals.

It fits a line to the days before and takes what the days after have beyond it. Needs requirements-causalpy.txt.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, NamedTuple

import pandas as pd

from analyses.ar1 import Interval
from analyses.daily import Series
from analyses.settings import Its
from analyses.snapshot import PARAMS, too_little
from pipeline.core.errors import ParamsError

BAYES, OLS = "causalpy_bayes", "causalpy_ols"
PACKAGES = ("causalpy", "pymc", "scikit-learn")
CHAINS = 4

# Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16, 667-718: R-hat below 1.01, and an
# effective sample size of 100 a chain.
HIGHEST_R_HAT, LEAST_ESS = 1.01, 100 * CHAINS


class Check(NamedTuple):
    """Did the sampler arrive? `expected` in words."""

    name: str
    value: float
    expected: str
    passed: bool


class Outside(NamedTuple):
    """What CausalPy says: the mean and the cumulative effect, by method."""

    effects: dict[str, dict[str, Interval]]
    checks: list[Check]


def require() -> None:
    """Raise ParamsError where CausalPy is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports
            import causalpy  # noqa: F401
    except ModuleNotFoundError as error:
        raise ParamsError(
            f"its.method is causalpy, and {error.name} is not installed",
            where=str(PARAMS),
            expected="the packages of requirements-causalpy.txt, in a venv of their own",
            next_step="make causalpy; or its.method: exact",
        ) from None


def look(series: Series, start: int, wanted: Its) -> Outside:
    """Both of its models. Call `require` first. Raises DataError where CausalPy can't."""
    try:
        by_bayes, found = bayes(series, start, wanted)
        return Outside({BAYES: by_bayes, OLS: ols(series, start, wanted)}, found)
    except Exception as error:  # it documents none of those of its own and of the libraries below it
        raise too_little(f"its: CausalPy says {str(error).splitlines()[0]!r}", "a series that it takes") from None


def bayes(series: Series, start: int, wanted: Its) -> tuple[dict[str, Interval], list[Check]]:
    """Its default model, and whether the sampler arrived. Bounds of the highest density."""
    import causalpy

    logging.getLogger("pymc").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the sampler's first steps
        model = causalpy.pymc_models.LinearRegression(
            sample_kwargs={"random_seed": wanted.seed, "chains": CHAINS, "cores": 1, "progressbar": False}
        )
        return summary(series, start, wanted, model, "hdi"), checks(model.idata)


def ols(series: Series, start: int, wanted: Its) -> dict[str, Interval]:
    """By scikit-learn."""
    from sklearn.linear_model import LinearRegression

    return summary(series, start, wanted, LinearRegression(fit_intercept=False), "ci")


def framed(series: Series, start: int, wanted: Its) -> tuple[pd.DataFrame, str]:
    """The series as CausalPy takes it, a new one each time, since it renames the index; and the formula."""
    frame = pd.DataFrame({"y": series.values, "t": series.days - start}, index=series.days.astype(int))
    if not wanted.weekdays:
        return frame, "y ~ 1 + t"
    frame["weekday"] = (series.days.astype(int) + series.first.weekday()) % 7
    return frame, "y ~ 1 + t + C(weekday)"


def summary(series: Series, start: int, wanted: Its, model: Any, bounds: str) -> dict[str, Interval]:
    from causalpy import InterruptedTimeSeries

    frame, formula = framed(series, start, wanted)
    made = InterruptedTimeSeries(frame, start, formula=formula, model=model)
    table = made.effect_summary(direction="two-sided", alpha=1 - wanted.level, relative=False).table
    return {
        effect: Interval(*(float(table.loc[row, column]) for column in ("mean", f"{bounds}_lower", f"{bounds}_upper")))
        for effect, row in (("mean", "average"), ("cumulative", "cumulative"))
    }


def checks(sampled: Any) -> list[Check]:
    """R-hat, effective sample size and divergences of a fit."""
    import arviz

    found = arviz.summary(sampled, var_names=["beta", "y_hat_sigma"], kind="diagnostics", round_to="none")
    r_hat = float(found["r_hat"].max())
    ess = float(found[["ess_bulk", "ess_tail"]].min().min())
    diverging = int(sampled.sample_stats["diverging"].sum())
    return [
        Check("r_hat", r_hat, f"below {HIGHEST_R_HAT}", r_hat < HIGHEST_R_HAT),
        Check("effective sample size", ess, f"at least {LEAST_ESS}", ess >= LEAST_ESS),
        Check("divergences", diverging, "0", diverging == 0),
    ]
