"""Granger: two series of which one leads are told so, and those of which nothing can be estimated are refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from statsmodels.tools.sm_exceptions import InfeasibleTestError, SingularMatrixWarning

from analyses import granger
from analyses.ar1 import Array
from analyses.settings import Granger, load
from analyses.snapshot import PARAMS
from tests.helpers import ROOT

REFUSED = (np.linalg.LinAlgError, InfeasibleTestError, SingularMatrixWarning, ValueError)


@pytest.fixture
def wanted() -> Granger:
    return load(ROOT / PARAMS).granger


def test_who_leads_is_found(wanted: Granger) -> None:
    """The one that leads always; the other as often as the level says: 2 of 40, with a standard deviation of 1.4."""
    by_chance = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first = rng.standard_normal(90)
        second = np.concatenate([[0.0], first[:-1]]) + 0.5 * rng.standard_normal(90)
        content, (forth, back) = granger.tested(np.column_stack([first, second]), wanted)
        assert (forth.cause, forth.effect) == (wanted.first, wanted.second)
        assert forth.p < 0.001
        assert forth.n == 90 - content["differenced"] - forth.lag
        # One coefficient for each lag of both, and a constant.
        assert forth.df == forth.n - 2 * forth.lag - 1
        by_chance += back.p < 0.05
    assert by_chance <= 6


def test_the_level_decides_what_is_stationary(wanted: Granger) -> None:
    values = np.cumsum(np.random.default_rng(8).standard_normal((60, 2)), axis=0) * 0.2
    values += np.random.default_rng(9).standard_normal((60, 2))
    found = {level: granger.tested(values, wanted._replace(level=level))[0]["differenced"] for level in (0.5, 0.999)}
    assert found[0.999]


def test_fewer_lags_where_there_are_few_days(wanted: Granger) -> None:
    assert granger.longest(np.zeros((90, 2)), wanted._replace(longest=40)) == 18
    assert granger.longest(np.zeros((90, 2)), wanted) == wanted.longest


NOISE = np.random.default_rng(1).standard_normal(91)

DEGENERATE = {
    "the same series": (NOISE[:90], NOISE[:90]),
    "twice the other": (NOISE[:90], 2 * NOISE[:90]),
    "the other a day later": (NOISE[1:], NOISE[:90]),
    "alternating": (np.arange(90) % 2 * 1.0, NOISE[:90]),
    "a perfect week": (np.arange(90) % 7 * 1.0, NOISE[:90]),
    "a parabola": (np.arange(90) ** 2 * 1.0, NOISE[:90]),
    "constant but for the last day": (np.array([0.0] * 20 + [1.0]), NOISE[:21]),
    "constant but for the first day": (np.array([1.0] + [0.0] * 24), NOISE[:25]),
}


@pytest.mark.parametrize("both", DEGENERATE.values(), ids=DEGENERATE)
def test_what_nothing_can_be_estimated_of(both: tuple[Array, Array], wanted: Granger) -> None:
    """Refused, or told with numbers that are some; no warning of a library comes through."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            _, directions = granger.tested(np.column_stack(both), wanted)
        except REFUSED:
            directions = []
    assert not said
    assert all(np.isfinite([one.f, one.p]).all() for one in directions)
