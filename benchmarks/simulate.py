"""Do the intervals of analyses/ hold what they promise? Series with a known truth, and how often it lies within.

Coverage of 95 % intervals of an interrupted time series with AR(1) errors, interrupted after two thirds of its days;
then how often the randomization test for ABAB designs finds something, without an effect and with one. --causalpy adds
CausalPy's intervals, of the mean effect alone, since it gives no others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from typing import NamedTuple, TypeAlias

import numpy as np

from analyses import its_causalpy, randomization
from analyses.ar1 import Array, Hac, Posterior, Reml
from analyses.daily import Series
from analyses.segmented import Design, design
from analyses.settings import Its
from benchmarks.report import table

LEVEL = 0.95
LENGTHS, PHIS = (30, 90, 180), (0.0, 0.3, 0.6)
EFFECTS = ("level", "slope", "mean")
METHODS = ("exact", "REML", "OLS, HAC")
OF_CAUSALPY = ("CausalPy, OLS", "CausalPy, Bayes")

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


Rates: TypeAlias = dict[tuple[str, str], float]


def designed(cell: Cell) -> tuple[Array, Design]:
    days = np.arange(cell.n, dtype=np.float64)
    return days, design(days, cell.n * 2 // 3, cell.n - 1)


def coverage(cell: Cell) -> Rates:
    """The share of runs whose interval holds the truth, by method and effect."""
    rng = np.random.default_rng(cell.seed)
    days, made = designed(cell)
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


def coverage_of_causalpy(cell: Cell, method: str) -> Rates:
    """The same of CausalPy's mean effect, on the first series of `coverage`."""
    rng = np.random.default_rng(cell.seed)
    days, made = designed(cell)
    truth = float(made.contrasts()["mean"] @ TRUTH)
    wanted = Its("causalpy", "mean_score", date(2025, 1, 1), None, None, False, LEVEL, 0, None, cell.seed)
    held = 0
    for run in range(cell.runs):
        y = made.x @ TRUTH + SD * ar1(cell.n, cell.phi, rng)
        series = Series(days, y, date(2025, 1, 1), cell.n - 1)
        if method == "CausalPy, OLS":
            found = its_causalpy.ols(series, made.start, wanted)
        else:
            found, _ = its_causalpy.bayes(series, made.start, wanted._replace(seed=cell.seed + run))
        held += found["mean"].low <= truth <= found["mean"].high
    return {(method, "mean"): held / cell.runs}


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
    parser.add_argument("--causalpy", action="store_true", help="CausalPy's, too: from a venv that has it")
    parser.add_argument("--bayes-runs", type=int, default=100, help="series a cell for its sampler; 100 by default")
    args = parser.parse_args()
    wanted = list(cells(args.runs, args.seed))
    methods: dict[str, int] = dict.fromkeys(METHODS, args.runs)
    if args.causalpy:
        its_causalpy.require()
        methods |= dict(zip(OF_CAUSALPY, (args.runs, args.bayes_runs), strict=True))
    # A worker that is begun anew: the sampler's threads do not outlive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        futures = [(cell, pool.submit(coverage, cell)) for cell in wanted]
        tests = {
            (shift, phi): pool.submit(rejections, shift, phi, args.runs, args.seed) for shift in SHIFTS for phi in PHIS
        }
        futures += [
            (cell, pool.submit(coverage_of_causalpy, cell._replace(runs=methods[method]), method))
            for method in OF_CAUSALPY
            for cell in wanted
            if method in methods
        ]
        found: dict[tuple[int, float], Rates] = {}
        for cell, future in futures:
            found.setdefault((cell.n, cell.phi), {}).update(future.result())
            print(f"simulate: n {cell.n}, phi {cell.phi:g}", file=sys.stderr)
        rates = {key: future.result() for key, future in tests.items()}
    rows = [
        [
            str(n),
            method if runs == args.runs else f"{method} ({runs:,})",
            *(said(found[n, phi], method) for phi in PHIS),
        ]
        for n in LENGTHS
        for method, runs in methods.items()
    ]
    title = "Share of intervals (95 %) that hold the truth: level/slope/mean effect; "
    title += f"{args.runs:,} series where no other number stands"
    print(table(title, ["n", "method (series)", *(f"phi {phi:g}" for phi in PHIS)], rows))
    title = f"Share of {args.runs:,} randomization tests with p at most 0.05, {DAYS} days, {SHORTEST} at least a phase"
    of_shift = [[f"{shift:g} sd", *(f"{rates[shift, phi]:.3f}" for phi in PHIS)] for shift in SHIFTS]
    print(table(title, ["effect", *(f"phi {phi:g}" for phi in PHIS)], of_shift))


def said(rates: Rates, method: str) -> str:
    return "/".join(f"{rates[method, effect]:.3f}" if (method, effect) in rates else "-" for effect in EFFECTS)


if __name__ == "__main__":
    main()
