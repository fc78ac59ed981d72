"""Granger causality: do earlier days of one outcome help to foretell the other, beyond its own?

Reads data/export and analyses/params.yaml; writes analyses/results/granger. By statsmodels.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.api import VAR
from statsmodels.tsa.stattools import adfuller, grangercausalitytests, kpss

from analyses import results
from analyses.ar1 import Array
from analyses.daily import read
from analyses.settings import Granger, Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "statsmodels", "matplotlib", "duckdb")

ALPHA = 0.05

# Days that each lag needs: two series and a constant, with room for the errors.
DAYS_A_LAG = 5


class Stationarity(NamedTuple):
    """ADF's null is a unit root, KPSS's stationarity; its p is bounded by its table, 0.01 to 0.1."""

    adf_p: float
    kpss_p: float

    @property
    def stationary(self) -> bool:
        return self.adf_p < ALPHA <= self.kpss_p


class Direction(NamedTuple):
    cause: str
    effect: str
    f: float
    p: float
    lag: int
    n: int


def stationarity(values: Array) -> Stationarity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)  # p beyond the table: its end is what is told
        adf = adfuller(values, autolag="AIC", result_object=True)
        of_kpss = kpss(values, regression="c", nlags="auto", result_object=True)
    return Stationarity(float(adf.pvalue), float(of_kpss.pvalue))


def look(both: Array, wanted: Granger) -> tuple[list[Direction], int]:
    """Both directions at the lag that the criterion chooses; `both` is (n, 2)."""
    longest = min(wanted.longest, len(both) // DAYS_A_LAG)
    chosen = VAR(both).select_order(maxlags=longest).selected_orders[wanted.criterion]
    lag = max(1, int(chosen))
    names = (wanted.first, wanted.second)
    found = []
    for cause, effect in ((0, 1), (1, 0)):
        # Of statsmodels: does the second column help the first?
        test = grangercausalitytests(both[:, [effect, cause]], maxlag=[lag])[lag][0]["ssr_ftest"]
        f, p = float(test[0]), float(test[1])
        found.append(Direction(names[cause], names[effect], f, p, lag, len(both) - lag))
    return found, lag


def granger(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.granger
    if wanted.first == wanted.second:
        raise too_little(f"granger: both outcomes are {wanted.first}", "two outcomes")
    everybody = snapshot.users("granger", None)
    one, two = (read(snapshot, outcome, everybody) for outcome in (wanted.first, wanted.second))
    days, mine, theirs = np.intersect1d(one.days, two.days, return_indices=True)
    whole = _longest_run(days)
    both = np.column_stack([one.values[mine], two.values[theirs]])[whole]
    days = days[whole]
    if len(both) < 4 * DAYS_A_LAG:
        raise too_little(
            f"granger: {count(len(both), 'day')} in a row have both outcomes", f"at least {4 * DAYS_A_LAG}"
        )
    for place, name in enumerate((wanted.first, wanted.second)):
        if np.ptp(both[:, place]) == 0:
            raise too_little(f"granger: {name} is the same on every day", "values that differ")
    before = [stationarity(both[:, i]) for i in (0, 1)]
    differenced = not all(found.stationary for found in before)
    used = np.diff(both, axis=0) if differenced else both
    if differenced and (np.ptp(used, axis=0) == 0).any():
        raise too_little("granger: an outcome grows by the same each day", "values that differ")
    after = [stationarity(used[:, i]) for i in (0, 1)] if differenced else before
    directions, lag = look(used, wanted)
    names = (wanted.first, wanted.second)
    content: dict[str, Any] = {
        "analysis": "granger",
        "first_day": str(one.day(days[0])),
        "last_day": str(one.day(days[-1])),
        "differenced": differenced,
        "lag": lag,
        "criterion": wanted.criterion,
        "stationarity": [
            {"outcome": name, "of": "levels", **found._asdict()} for name, found in zip(names, before, strict=True)
        ]
        + (
            [{"outcome": n, "of": "differences", **found._asdict()} for n, found in zip(names, after, strict=True)]
            if differenced
            else []
        ),
        "directions": [{"method": "F test of statsmodels", **one_._asdict()} for one_ in directions],
        "provenance": snapshot.provenance(wanted, PACKAGES),
    }
    rows = [(one.day(day), *pair) for day, pair in zip(days, both.tolist(), strict=True)]
    files = {
        "granger.json": results.as_json(content),
        "series.csv": results.as_csv(("event_date", *names), rows),
        "granger.md": page(content, directions, wanted).encode(),
        **results.figures("granger", drawn(rows, names)),
    }
    snapshot.check()
    results.write(RESULTS / "granger", files)
    print("granger: " + "; ".join(map(sentence, directions)) + f"; {RESULTS / 'granger/granger.md'}")


def _longest_run(days: Array) -> slice:
    """Where the longest run of days without a gap lies."""
    if not len(days):
        return slice(0, 0)
    edges = [0, *(np.flatnonzero(np.diff(days) > 1) + 1).tolist(), len(days)]
    lengths = np.diff(edges)
    at = int(lengths.argmax())
    return slice(edges[at], edges[at + 1])


def sentence(one: Direction) -> str:
    helps = "helps" if one.p < ALPHA else "is not shown to help"
    return f"{one.cause} {helps} to foretell {one.effect} (p {in_words(one.p)}, F test, lag {one.lag}, n {one.n})"


def in_words(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "under 0.001"


def page(content: dict[str, Any], directions: list[Direction], wanted: Granger) -> str:
    lines = [
        f"# Granger: {wanted.first} and {wanted.second}",
        "",
        *(f"- {sentence(one)}." for one in directions),
        "",
        f"Days {content['first_day']} to {content['last_day']}; "
        + ("first differences, since not both were stationary" if content["differenced"] else "levels, both stationary")
        + f" at {ALPHA:g}. The lag is that of the least {wanted.criterion.upper()}, at most {wanted.longest}.",
        "",
        "![the series](granger.png)",
        "",
        "## Stationarity",
        "",
        "ADF's null hypothesis is a unit root, that of KPSS stationarity; KPSS's p is cut at 0.01 and 0.1.",
        "",
        results.table(
            ["outcome", "of", "ADF p", "KPSS p"],
            [
                [one["outcome"], one["of"], in_words(one["adf_p"]), in_words(one["kpss_p"])]
                for one in content["stationarity"]
            ],
        ),
        "",
        "## What it can't show",
        "",
        "Granger causality says that one series comes before the other and holds something that the other's own past "
        "does not. It does not say that changing the one would change the other: a third thing, such as the weekday, "
        "may move both, one of them later. Days of few events weigh as much as others.",
        "",
    ]
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def drawn(rows: list[tuple[Any, ...]], names: tuple[str, str]) -> Any:
    figure = results.new_figure(8.0, 4.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, place, style, colour in ((upper, 1, "-", results.BLUE), (lower, 2, "--", results.ORANGE)):
        axes.plot([row[0] for row in rows], [row[place] for row in rows], style, color=colour)
        axes.set_ylabel(names[place - 1])
    lower.tick_params(axis="x", rotation=30)
    return figure


if __name__ == "__main__":
    analyse("granger", granger)
