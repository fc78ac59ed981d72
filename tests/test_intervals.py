"""Intervals hold the truth as often as they say, in series whose truth is known; `make simulate` runs more of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analyses import randomization
from analyses.ar1 import Posterior, Reml, gls, whiten
from analyses.segmented import design
from benchmarks.simulate import EFFECTS, Cell, ar1, coverage, rejections

# Of 200 runs a share of 0.95 has a standard deviation of 0.015; four of them.
ROOM = 0.062


@pytest.mark.parametrize(
    ("n", "phi"),
    [
        pytest.param(90, 0.6, id="90 days, phi 0.6"),
        *(
            pytest.param(n, phi, id=f"{n} days, phi {phi}", marks=pytest.mark.long)
            for n, phi in ((90, 0.0), (90, 0.3), (30, 0.0), (30, 0.6), (180, 0.0), (180, 0.6))
        ),
    ],
)
def test_coverage(n: int, phi: float) -> None:
    found = coverage(Cell(n, phi, 200, 7))
    for method in ("exact", "REML"):
        for effect in EFFECTS:
            assert abs(found[method, effect] - 0.95) < ROOM, (method, effect)


def test_the_randomization_test_keeps_its_level() -> None:
    assert rejections(0.0, 0.3, 400, 3) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
    assert rejections(1.0, 0.0, 200, 3) > 0.6


def test_a_missing_day_is_spanned() -> None:
    """The transformation makes errors independent whose covariance is phi to the power of the days between."""
    days = np.array([0.0, 1, 2, 5, 6, 10])
    for phi in (-0.4, 0.0, 0.7):
        covariance = phi ** np.abs(days[:, None] - days[None, :]) / (1 - phi**2)
        white = whiten(np.eye(6), days, phi)
        assert white @ covariance @ white.T == pytest.approx(np.eye(6))


def test_the_likelihood_is_that_of_the_normal_distribution() -> None:
    """Differences of log L over phi, against the restricted likelihood by matrices."""
    rng = np.random.default_rng(1)
    days = np.delete(np.arange(40.0), [3, 4, 20])
    x = design(days, 25, 39).x
    y = rng.standard_normal(len(days))

    def by_matrices(phi: float) -> float:
        v = phi ** np.abs(days[:, None] - days[None, :]) / (1 - phi**2)
        inverse = np.linalg.inv(v)
        middle = x.T @ inverse @ x
        residuals = y - x @ np.linalg.solve(middle, x.T @ inverse @ y)
        rss = residuals @ inverse @ residuals
        logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(middle)[1] + (len(y) - 4) * np.log(rss)
        return -0.5 * float(logs)

    for phi in (0.2, 0.6, -0.3):
        found = gls(x, y, days, phi).likelihood - gls(x, y, days, 0.0).likelihood
        assert found == pytest.approx(by_matrices(phi) - by_matrices(0.0))


def test_the_posterior_at_one_phi_is_a_t() -> None:
    rng = np.random.default_rng(2)
    days = np.arange(40.0)
    made = design(days, 25, 39)
    y = made.x @ np.array([1.0, 0.1, 3.0, 0.0]) + rng.standard_normal(40)
    found = Posterior(made.x, y, days, np.array([0.0])).interval(made.contrasts()["level"], 0.95)
    beta, rss = np.linalg.lstsq(made.x, y)[:2]
    se = np.sqrt(rss[0] / 36 * np.linalg.inv(made.x.T @ made.x)[2, 2])
    assert found == pytest.approx((beta[2], *(beta[2] + stats.t.ppf([0.025, 0.975], 36) * se)))


def test_a_ratio_is_fieller_s_at_one_phi() -> None:
    rng = np.random.default_rng(3)
    days = np.arange(60.0)
    made = design(days, 40, 59)
    y = made.x @ np.array([20.0, 0.0, 4.0, 0.1]) + rng.standard_normal(60)
    posterior = Posterior(made.x, y, days, np.array([0.0]))
    over, under = made.contrasts()["mean"], made.counterfactuals()["mean"]
    found = posterior.ratio(over, under, 0.95)
    assert found is not None
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        assert posterior.below(over - end * under, 0.0) == pytest.approx(share)
    y_low = made.x @ np.array([0.0, 0.0, 4.0, 0.1]) + rng.standard_normal(60)
    assert Posterior(made.x, y_low, days).ratio(over, under, 0.95) is None


def test_effects_are_what_the_design_says() -> None:
    """Without noise to speak of, with missing days and weekdays, each effect comes back."""
    rng = np.random.default_rng(4)
    days = np.delete(np.arange(90.0), [2, 30, 61, 62])
    made = design(days, 60, 89, weekdays=True, first_weekday=2)
    weekdays = np.array([3.0, -1, 2, 0, -2, -1.5, -0.5])[(days.astype(int) + 2) % 7]
    since = days - 60
    y = 50 + 0.1 * since + (since >= 0) * (4 + 0.2 * since) + weekdays + 1e-4 * rng.standard_normal(len(days))
    posterior = Posterior(made.x, y, days)
    found = {name: posterior.mean(contrast) for name, contrast in made.contrasts().items()}
    mean = 4 + 0.2 * 29 / 2
    assert found == pytest.approx({"level": 4, "slope": 0.2, "mean": mean, "cumulative": 30 * mean}, abs=1e-2)
    assert Reml(made.x, y, days).interval(made.contrasts()["mean"], 0.95).estimate == pytest.approx(mean, abs=1e-2)


def test_all_assignments_and_draws_of_them() -> None:
    all_ = randomization.all_cuts(20, 3)
    assert len({tuple(cut) for cut in all_.tolist()}) == randomization.ways(20, 3) == len(all_)
    drawn = randomization.drawn_cuts(20, 3, 20_000, np.random.default_rng(5))
    share = np.unique(drawn, axis=0, return_counts=True)[1] / len(drawn)
    assert len(share) == len(all_)
    assert {tuple(cut) for cut in drawn.tolist()} == {tuple(cut) for cut in all_.tolist()}
    assert abs(share - 1 / len(all_)).max() < 6 * np.sqrt(1 / len(all_) / len(drawn))


def test_the_interval_is_what_the_test_does_not_reject() -> None:
    rng = np.random.default_rng(6)
    values = ar1(40, 0.0, rng)
    in_b = np.zeros(40)
    in_b[10:20] = in_b[30:] = 1
    case = randomization.Case(values + 3 * in_b, np.ones(40), (10, 20, 30), 5)
    found = randomization.interval(case, 0.95, 10**6, 1000, 1)
    assert found is not None
    for effect, kept in ((found.low - 0.01, False), (found.low + 0.01, True), (found.high + 0.01, False)):
        shifted = case._replace(sums=case.sums - effect * in_b)
        assert (randomization.test(shifted, 10**6, 1000, 1).p > 0.05) == kept
    few = randomization.Case(values[:16], np.ones(16), (4, 8, 12), 4)  # one assignment
    assert randomization.interval(few, 0.95, 10**6, 1000, 1) is None
    assert randomization.test(few, 10**6, 1000, 1).p == 1
