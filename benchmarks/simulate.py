"""Do the intervals of analyses/ hold what they promise? Series with a known truth, and how often it lies within.

Coverage of 95 % intervals of an interrupted time series with AR(1) errors, interrupted after two thirds of its days;
then how often the randomization test for ABAB designs finds something, without an effect and with one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from analyses import randomization
from analyses.ar1 import Array, Hac, Posterior, Reml
from analyses.segmented import design
from benchmarks.report import table

LEVEL = 0.95
LENGTHS, PHIS = (30, 90, 180), (0.0, 0.3, 0.6)
EFFECTS = ("level", "slope", "mean")
METHODS = ("exact", "REML", "OLS, HAC")

# Of y = a + b (t - start) + [post] (level + slope (t - start)) + e, in percent of score.
TRUTH = np.array([60.0, 0.02, 4.0, 0.1])
SD = 5.0

# Days of an ABAB experiment, the shortest phase, and points that have a standard deviation of 1.
DAYS, SHORTEST = 60, 7
SHIFTS = (0.0, 0.5, 1.0)


class Cell(NamedTuple):
    n: int
    phi: float
    runs: int
    seed: int


def ar1(n: int, phi: float, rng: np.random.Generator) -> Array:
    """Stationary errors of standard deviation 1: (n,)."""
    shocks = rng.standard_normal(n) * np.sqrt(1 - phi**2)
    errors = np.empty(n)
    errors[0] = rng.standard_normal()
    for i in range(1, n):
        errors[i] = phi * errors[i - 1] + shocks[i]
    return errors


def coverage(cell: Cell) -> dict[tuple[str, str], float]:
    """The share of runs whose interval holds the truth, by method and effect."""
    rng = np.random.default_rng(cell.seed)
    days = np.arange(cell.n, dtype=np.float64)
    made = design(days, cell.n * 2 // 3, cell.n - 1)
    contrasts = {name: made.contrasts()[name] for name in EFFECTS}
    held = dict.fromkeys([(method, effect) for method in METHODS for effect in EFFECTS], 0)
    for _ in range(cell.runs):
        y = made.x @ TRUTH + SD * ar1(cell.n, cell.phi, rng)
        posterior, reml, hac = Posterior(made.x, y, days), Reml(made.x, y, days), Hac(made.x, y)
        for effect, contrast in contrasts.items():
            truth = float(contrast @ TRUTH)
            # The interval ends where this is 0.025 and 0.975.
            held["exact", effect] += abs(posterior.below(contrast, truth) - 0.5) <= LEVEL / 2
            for method, fitted in (("REML", reml), ("OLS, HAC", hac)):
                found = fitted.interval(contrast, LEVEL)
                held[method, effect] += found.low <= truth <= found.high
    return {key: number / cell.runs for key, number in held.items()}


def rejections(shift: float, phi: float, runs: int, seed: int) -> float:
    """How often p is at most 0.05, the days of change being drawn anew in each run."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        cut = randomization.drawn_cuts(DAYS, SHORTEST, 1, rng)[0]
        first, second, third = (int(one) for one in cut)
        points = ar1(DAYS, phi, rng)
        points[first:second] += shift
        points[third:] += shift
        case = randomization.Case(points, np.ones(DAYS), (first, second, third), SHORTEST)
        found += randomization.test(case, 10**6, 1000, seed).p <= 0.05
    return found / runs


def cells(runs: int, seed: int) -> Iterator[Cell]:
    for n in LENGTHS:
        for phi in PHIS:
            yield Cell(n, phi, runs, seed + n + int(100 * phi))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="series a cell; 2,000 by default")
    parser.add_argument("--seed", type=int, default=20251028)
    args = parser.parse_args()
    wanted = list(cells(args.runs, args.seed))
    with ProcessPoolExecutor() as pool:
        futures = [pool.submit(coverage, cell) for cell in wanted]
        tests = {
            (shift, phi): pool.submit(rejections, shift, phi, args.runs, args.seed) for shift in SHIFTS for phi in PHIS
        }
        found = []
        for cell, future in zip(wanted, futures, strict=True):
            found.append(future.result())
            print(f"simulate: n {cell.n}, phi {cell.phi:g}", file=sys.stderr)
        rates = {key: future.result() for key, future in tests.items()}
    rows = [
        [str(n), method, *("/".join(f"{found[wanted.index(c)][method, e]:.3f}" for e in EFFECTS) for c in of_n)]
        for n in LENGTHS
        for method in METHODS
        for of_n in [[cell for cell in wanted if cell.n == n]]
    ]
    title = f"Share of {args.runs:,} intervals (95 %) that hold the truth: level/slope/mean effect"
    print(table(title, ["n", "method", *(f"phi {phi:g}" for phi in PHIS)], rows))
    title = f"Share of {args.runs:,} randomization tests with p at most 0.05, {DAYS} days, {SHORTEST} at least a phase"
    of_shift = [[f"{shift:g} sd", *(f"{rates[shift, phi]:.3f}" for phi in PHIS)] for shift in SHIFTS]
    print(table(title, ["effect", *(f"phi {phi:g}" for phi in PHIS)], of_shift))


if __name__ == "__main__":
    main()
