"""The randomization test for phase changes that were drawn, and the interval that follows from turning it round.

Edgington and Onghena (2007), Randomization Tests, chapter 11; Onghena (1992), Behavioral Assessment 14, 153-171. N
occasions with at least k in each of four phases can be cut in C(N - 4k + 3, 3) ways.
"""

from __future__ import annotations

from itertools import pairwise
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from analyses.ar1 import Array, Interval

Cuts = npt.NDArray[np.int64]  # (assignments, 3): the occasions, from 0, on which a phase begins

TIES = 1e-9


class Case(NamedTuple):
    """One case: what each of N occasions has. An occasion, a day or a session, may have no point, or several."""

    sums: Array  # (N,): sum of the points
    counts: Array  # (N,): number of points
    cut: tuple[int, int, int]  # where the phases began
    shortest: int  # k
    phases: bool = False  # whether phases count alike, in place of points


class Test(NamedTuple):
    """`observed` is B minus A; p counts assignments whose statistic is at least as far from 0."""

    observed: float
    p: float
    assignments: int
    exact: bool  # else p is of as many draws as `assignments`, the observed one among them


def ways(occasions: int, shortest: int) -> int:
    """How many assignments there are."""
    return comb(max(occasions - 4 * shortest + 3, 0), 3)


def all_cuts(occasions: int, shortest: int) -> Cuts:
    first, second, third = np.meshgrid(
        *(np.arange(i * shortest, occasions - (4 - i) * shortest + 1) for i in (1, 2, 3)), indexing="ij"
    )
    fits = (second - first >= shortest) & (third - second >= shortest)
    return np.column_stack([first[fits], second[fits], third[fits]])


def drawn_cuts(occasions: int, shortest: int, draws: int, rng: np.random.Generator) -> Cuts:
    """Uniform among all: three of N - 4k + 3 places, put apart."""
    free = occasions - 4 * shortest + 3
    chosen = np.argpartition(rng.random((draws, free)), 2, axis=1)[:, :3]
    return np.asarray(np.sort(chosen, axis=1) + np.arange(3) * (shortest - 1) + shortest, dtype=np.int64)


def admissible(case: Case) -> bool:
    edges = (0, *case.cut, len(case.sums))
    return all(after - before >= case.shortest for before, after in pairwise(edges))


def differences(case: Case, cuts: Cuts) -> Array:
    """B minus A for each of `cuts` (assignments, 3): of all points, or the mean of the phases' means."""
    rows = len(cuts)
    edges = np.column_stack([np.zeros(rows, np.int64), cuts, np.full(rows, len(case.sums))])
    total, number = (np.concatenate([[0.0], np.cumsum(values)]) for values in (case.sums, case.counts))
    sums, counts = (np.diff(values[edges], axis=1) for values in (total, number))
    with np.errstate(invalid="ignore", divide="ignore"):
        if case.phases:
            means = sums / counts
            return np.asarray((means[:, 1] + means[:, 3] - means[:, 0] - means[:, 2]) / 2)
        in_b, in_a = (sums[:, i::2].sum(axis=1) / counts[:, i::2].sum(axis=1) for i in (1, 0))
        return np.asarray(in_b - in_a)


def test(case: Case, bound: int, draws: int, seed: int) -> Test:
    """Two-sided: exact by all assignments up to `bound`, else by `draws` of them. The case has to be admissible."""
    cuts, exact = cuts_of(case, bound, draws, np.random.default_rng(seed))
    found = differences(case, cuts)
    observed = float(differences(case, np.array([case.cut]))[0])
    return Test(observed, share(found, observed), len(cuts), exact)


def cuts_of(case: Case, bound: int, draws: int, rng: np.random.Generator) -> tuple[Cuts, bool]:
    occasions = len(case.sums)
    if ways(occasions, case.shortest) <= bound:
        return all_cuts(occasions, case.shortest), True
    drawn = drawn_cuts(occasions, case.shortest, draws - 1, rng)
    return np.concatenate([np.array([case.cut]), drawn]), False


def share(found: Array, observed: float) -> float:
    """Of the statistics, those at least as far from 0 as the observed one. A phase without a point counts as far."""
    return float((np.isnan(found) | (np.abs(found) >= abs(observed) - TIES)).mean())


def interval(case: Case, level: float, bound: int, draws: int, seed: int) -> Interval | None:
    """The constant effects that the test does not reject at 1 - level; None where it can reject none.

    Where the effect is d, points without it are y - d in B, and the statistic of an assignment T(y) - d T(z), z being 1
    in the observed B.
    """
    cuts, _ = cuts_of(case, bound, draws, np.random.default_rng(seed))
    alpha = 1 - level
    if 1 / len(cuts) > alpha:
        return None
    edges = (0, *case.cut, len(case.sums))
    in_b = np.zeros(len(case.sums))
    in_b[edges[1] : edges[2]] = in_b[edges[3] :] = 1
    of_y, of_z = differences(case, cuts), differences(case._replace(sums=in_b * case.counts), cuts)
    observed = float(differences(case, np.array([case.cut]))[0])
    if np.isnan(observed):
        return None

    def kept(effect: float) -> float:
        return share(of_y - effect * of_z, observed - effect) - alpha - 1e-12

    reach = float(np.nanmax(np.abs(of_y))) + abs(observed) + TIES
    ends = []
    for sign in (-1, 1):
        far = reach
        while kept(observed + sign * far) > 0:
            far *= 2
            if far > 1e6 * reach:
                return None
        ends.append(float(optimize.bisect(lambda d: kept(observed + sign * d), 0.0, far, xtol=1e-6 * reach)))  # noqa: B023
    return Interval(observed, observed - ends[0], observed + ends[1])


def combined(cases: list[Case], draws: int, seed: int) -> Test:
    """Of the mean over cases, each drawn apart: by `draws` of assignments, the observed one among them."""
    rng = np.random.default_rng(seed)
    observed = float(np.mean([differences(case, np.array([case.cut]))[0] for case in cases]))
    total = np.zeros(draws)
    total[0] = observed * len(cases)
    for case in cases:
        cuts = drawn_cuts(len(case.sums), case.shortest, draws - 1, rng)
        total[1:] += differences(case, cuts)
    return Test(observed, share(total / len(cases), observed), draws, False)
