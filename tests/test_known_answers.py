"""Published data with published results: a result that differs is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from analyses import between_cases, randomization
from analyses.ar1 import Array, Hac, Posterior, Reml
from analyses.overlap import corrected_tau, overlap, standard_error
from analyses.segmented import design


def numbers(text: str) -> Array:
    return np.array([float(one) for one in text.split(",")])


# Onghena (1992), as in the R package SCRT 1.3.1, data(ABAB).
ONGHENA = numbers("6,2,5,3,4,4,1,2,3,1,3,2,2,3,4,2,4,3,0,1,2,0,2,1")


@pytest.mark.parametrize(
    ("shortest", "phases", "hits", "assignments"),
    [
        pytest.param(4, False, 5, 165, id="all A against all B"),
        pytest.param(4, True, 4, 165, id="means of the phases"),
        pytest.param(3, False, 6, 455, id="3 at least"),
        pytest.param(5, False, 2, 35, id="5 at least"),
    ],
)
def test_randomization(shortest: int, phases: bool, hits: int, assignments: int) -> None:
    case = randomization.Case(ONGHENA, np.ones(24), (6, 12, 18), shortest, phases)
    found = randomization.test(case, 10**6, 1000, 1)
    assert (found.observed, found.assignments, found.exact) == (-2.0, assignments, True)
    assert found.p * assignments == pytest.approx(hits)
    assert randomization.ways(24, shortest) == assignments


def test_randomization_one_sided_by_the_same_statistics() -> None:
    """The R package's 161/165: B minus A at least as large."""
    case = randomization.Case(ONGHENA, np.ones(24), (6, 12, 18), 4)
    found = randomization.differences(case, randomization.all_cuts(24, 4))
    assert int((found >= -2 - 1e-9).sum()) == 161
    assert int((found <= -2 + 1e-9).sum()) == 5
    by_phase = randomization.differences(case._replace(phases=True), randomization.all_cuts(24, 4))
    assert int((by_phase <= -2 + 1e-9).sum()) == 4


# Parker, Vannest and Davis (2011), in the tests of the R package SingleCaseES.
@pytest.mark.parametrize(
    ("a", "b", "tau", "tau_u"),
    [
        pytest.param("20,20,26,25,22,23", "28,25,24,27,30,30,29", 35 / 42, 31 / 42, id="42 pairs"),
        pytest.param("3,3,4,5", "4,5,6,7,7", 16 / 20, 11 / 20, id="20 pairs"),
        pytest.param("1,2,3,4,5", "6,7,8,9,10", 1, 0.6, id="a line"),
    ],
)
def test_overlap(a: str, b: str, tau: float, tau_u: float) -> None:
    found = overlap(numbers(a), numbers(b))
    assert found.tau.estimate == pytest.approx(tau)
    assert found.nap.estimate == pytest.approx((tau + 1) / 2)
    assert found.tau_u == pytest.approx(tau_u)
    assert found.nap.low <= found.nap.estimate <= found.nap.high


def test_standard_error_of_tau() -> None:
    found = overlap(numbers("20,20,26,25,22,23"), numbers("28,25,24,27,30,30,29"))
    assert found.nap.estimate == pytest.approx(38.5 / 42)
    assert found.tau_se == pytest.approx(0.1380131119)


def test_overlap_where_less_is_better() -> None:
    """What Works Clearinghouse, Handbook 5.0, Figure 17: baseline 1 against baseline 2."""
    found = overlap(numbers("15,10,14,17,13,12"), numbers("9,9,11,15,20"), decrease=True)
    assert found.nap.estimate == pytest.approx(18.5 / 30)


def test_corrected_tau() -> None:
    """Tarlow (2017)."""
    a, b = numbers("33,25,17,25,14,13,15"), numbers("15,16,16,5,7,9,6,5,3,3,8,11,7")
    found = corrected_tau(a, b)
    assert (found.slope, found.intercept) == (-3, 31)
    assert found.baseline_tau == pytest.approx(-0.68313005)
    assert found.baseline_p == pytest.approx(0.03344064)
    assert found.uncorrected == pytest.approx(-0.57187632)
    assert found.tau.estimate == pytest.approx(0.69946216)
    assert found.p == pytest.approx(0.00030504, abs=1e-8)
    assert standard_error(found.tau.estimate, 20) == pytest.approx(0.22599838)
    uncorrected = corrected_tau(a[-1:].repeat(7), b, always=False)
    assert not uncorrected.corrected  # a flat baseline has no trend to take off
    assert corrected_tau(numbers("1,2,3,4,5"), numbers("6,7,8,9,10")).tau.estimate == pytest.approx(0)


# Lambert's data, disruptive behaviour; Hedges, Pustejovsky and Shadish (2012), in the tests of the R package scdhlm.
# Name, last session, sessions left out, phases.
LAMBERT = """\
A1 31 11 7,9,8,6,7,4,5,10 2,0,1,0,0 3,8,8,6,10,10,10,8 3,4,1,3,2,4,0,1,0
A2 31 3 8,7,7,8,6,7,9 3,1,0,4,0,0 8,9,10,7,9,10,8,10 1,1,0,5,3,6,0,0,2
A3 30 2,4,9,18 10,6,6,9,6,10 0,1,1,0,0 5,7,10,5,10,9,10 4,6,5,7,0,0,0,1
A4 31 2,13,18,27,28 10,6,4,8,8,9,10 3,6,0,0,1 3,8,10,10,10,10,5 6,1,5,0,0,0,1
B1 34 - 10,6,9,4,5,9,6,10,9,9 4,3,4,4,1,0 3,5,8,10,10,10,6 3,0,2,4,1,0,1,3,0,1,0
B2 34 4,5,15,16,21,24,31 7,4,5,7,8,4,8,8 0,0,0,0 5,7,6,4,6,5 0,0,0,2,0,0,0,0,0
B3 34 2,4,5,27,32 6,6,8,9,10,9,8 0,1,2,1,1,0 2,4,4,5,8,8,7 1,0,2,1,0,1,0,1,0
B4 31 12 8,1,4,6,6,7,8,8,0,2 0,0,0,2,6 5,6,5,8,4,0,2 1,2,6,0,2,0,1,1
B5 34 17,25 9,5,4,2,3,10,4,10,8,8 0,2,1,3,0,0 3,0,2,7,7,2 0,1,0,2,2,4,0,0,1,1
"""


def lambert() -> list[between_cases.Case]:
    cases = []
    for line in LAMBERT.splitlines():
        _, last, missing, *phases = line.split()
        left_out = set() if missing == "-" else {int(one) for one in missing.split(",")}
        times = np.array([float(one) for one in range(1, int(last) + 1) if one not in left_out])
        values = [numbers(phase) for phase in phases]
        ends = np.cumsum([len(one) for one in values])
        assert ends[-1] == len(times)
        cases.append(between_cases.Case(tuple(values), tuple(np.split(times, ends[:-1]))))
    return cases


def test_between_cases() -> None:
    found = between_cases.difference(lambert())
    assert found is not None
    assert (found.cells, found.cases) == (23, 9)
    assert found.mean_difference == pytest.approx(-5.457995, abs=1e-6)
    assert found.s2 == pytest.approx(4.673913, abs=1e-6)
    assert found.phi == pytest.approx(0.224680, abs=1e-6)
    assert found.sigma2_w == pytest.approx(4.534312, abs=1e-6)
    assert found.rho == pytest.approx(0.029868, abs=1e-6)
    assert found.theta == pytest.approx(0.144926, abs=1e-6)
    assert found.nu == pytest.approx(164.492271, abs=1e-5)
    assert found.delta == pytest.approx(-2.513073, abs=1e-6)
    assert found.variance == pytest.approx(0.04054616, abs=1e-8)


# Cigarette sales in California, 1970 to 2000, Proposition 99 from 1989 on.
CALIFORNIA = numbers(
    "123,121,123.5,124.4000015,126.6999969,127.0999985,128,126.4000015,126.0999985,121.9000015,120.1999969,118.5999985,"
    "115.4000015,110.8000031,104.8000031,102.8000031,99.69999695,97.5,90.09999847,82.40000153,77.80000305,68.69999695,"
    "67.5,63.40000153,58.59999847,56.40000153,54.5,53.79999924,52.29999924,47.20000076,41.59999847"
)


def test_newey_west() -> None:
    years = np.arange(31.0)
    made = design(years, 19, 30)
    found = Hac(made.x, CALIFORNIA, 1)
    at_1970 = np.array([1.0, -19.0, 0.0, 0.0])
    assert found.beta @ at_1970 == pytest.approx(132.22578915)
    assert found.beta[1:] == pytest.approx([-1.77947365, -20.05809663, -1.49465238])
    errors = [np.sqrt(c @ found.covariance @ c) for c in (at_1970, *np.eye(4)[1:])]
    assert errors == pytest.approx([4.253053940, 0.383418821, 4.724395123, 0.436820110])


def test_phi_at_its_boundary_is_told() -> None:
    years = np.arange(31.0)
    made = design(years, 19, 30)
    found = Reml(made.x, CALIFORNIA, years)
    post = np.eye(4)[2]
    assert found.at_boundary
    assert found.interval(post, 0.95).estimate == pytest.approx(-5.87, abs=0.02)
    assert np.sqrt(found.sigma2 * found.fit.unscaled[2, 2]) == pytest.approx(2.70, abs=0.005)
    assert Posterior(made.x, CALIFORNIA, years).at_boundary
