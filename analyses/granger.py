"""Granger causality: do earlier days of one outcome help to foretell the other, beyond its own?

Reads data/export and analyses/params.yaml; writes analyses/results/granger. By statsmodels.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from statsmodels.tools.sm_exceptions import InfeasibleTestError, InterpolationWarning, SingularMatrixWarning
from statsmodels.tsa.api import VAR
from statsmodels.tsa.stattools import adfuller, grangercausalitytests, kpss

from analyses import results
from analyses.ar1 import Array
from analyses.daily import WORDS, read
from analyses.results import share
from analyses.settings import Granger, Settings, wrong
from analyses.snapshot import PARAMS, RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "statsmodels", "matplotlib", "duckdb")

# Days that each lag needs: two series and a constant, with room for the errors.
DAYS_A_LAG = 5


class Stationarity(NamedTuple):
    """ADF's null is a unit root, KPSS's stationarity; its p is bounded by its table, 0.01 to 0.1."""

    adf_p: float
    kpss_p: float

    def stationary(self, alpha: float) -> bool:
        return self.adf_p < alpha <= self.kpss_p


class Direction(NamedTuple):
    cause: str
    effect: str
    f: float
    p: float
    df: int  # of the denominator; that of the numerator is the lag
    lag: int
    n: int


def stationarity(values: Array) -> Stationarity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)  # p beyond the table: its end is what is told
        adf = adfuller(values, autolag="AIC", result_object=True)
        of_kpss = kpss(values, regression="c", nlags="auto", result_object=True)
    return Stationarity(float(adf.pvalue), float(of_kpss.pvalue))


def longest(both: Array, wanted: Granger) -> int:
    """Of the lags to choose from: fewer than were asked for where there are too few days."""
    return min(wanted.longest, len(both) // DAYS_A_LAG)


def look(both: Array, wanted: Granger) -> tuple[list[Direction], int]:
    """Both directions at the lag that the criterion chooses; `both` is (n, 2)."""
    chosen = VAR(both).select_order(maxlags=longest(both, wanted)).selected_orders[wanted.criterion]
    lag = max(1, int(chosen))
    names = (wanted.first, wanted.second)
    found = []
    for cause, effect in ((0, 1), (1, 0)):
        # Of statsmodels: does the second column help the first?
        test = grangercausalitytests(both[:, [effect, cause]], maxlag=[lag])[lag][0]["ssr_ftest"]
        f, p, df = float(test[0]), float(test[1]), int(test[2])
        found.append(Direction(names[cause], names[effect], f, p, df, lag, len(both) - lag))
    return found, lag


def granger(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.granger
    if wanted.first == wanted.second:
        raise wrong(PARAMS, f"granger: both outcomes are {wanted.first}", "two outcomes")
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
    try:
        content, directions = tested(both, wanted)
    except (np.linalg.LinAlgError, InfeasibleTestError, SingularMatrixWarning, ValueError) as error:
        raise too_little(
            f"granger: nothing can be estimated of {wanted.first} and {wanted.second}: {str(error).splitlines()[0]}",
            "two outcomes of which neither follows exactly from the other, or from its own past",
        ) from None
    names = (wanted.first, wanted.second)
    content = {
        "analysis": "granger",
        "first_day": str(one.day(days[0])),
        "last_day": str(one.day(days[-1])),
        **content,
        "provenance": snapshot.provenance(wanted, PACKAGES),
    }
    rows = [(one.day(day), int(day), *pair) for day, pair in zip(days, both.tolist(), strict=True)]
    files = {
        "granger.json": results.as_json(content),
        "series.csv": results.as_csv(("event_date", "day", *names), rows),
        "granger.md": page(content, directions, wanted).encode(),
        **results.figures("granger", drawn(rows, names)),
    }
    snapshot.inputs.check()
    results.write(RESULTS / "granger", files)
    print(
        "granger: "
        + "; ".join(sentence(one, wanted.level) for one in directions)
        + f"; {RESULTS / 'granger/granger.md'}"
    )


def tested(both: Array, wanted: Granger) -> tuple[dict[str, Any], list[Direction]]:
    """Stationarity, then both directions, of (n, 2). Raises what statsmodels does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SingularMatrixWarning)
        return _tested(both, wanted)


def _tested(both: Array, wanted: Granger) -> tuple[dict[str, Any], list[Direction]]:
    alpha = 1 - wanted.level
    before = [stationarity(both[:, i]) for i in (0, 1)]
    differenced = not all(found.stationary(alpha) for found in before)
    used = np.diff(both, axis=0) if differenced else both
    if differenced and (np.ptp(used, axis=0) == 0).any():
        raise too_little("granger: an outcome grows by the same each day", "values that differ")
    after = [stationarity(used[:, i]) for i in (0, 1)] if differenced else before
    directions, lag = look(used, wanted)
    names = (wanted.first, wanted.second)
    content: dict[str, Any] = {
        "differenced": differenced,
        "lag": lag,
        "longest": longest(used, wanted),
        "criterion": wanted.criterion,
        "level": wanted.level,
        "stationarity": [
            {"outcome": name, "of": "levels", "n": len(both), **found._asdict()}
            for name, found in zip(names, before, strict=True)
        ]
        + (
            [
                {"outcome": name, "of": "differences", "n": len(used), **found._asdict()}
                for name, found in zip(names, after, strict=True)
            ]
            if differenced
            else []
        ),
        # What `dvc metrics` shows, which leaves lists out.
        **{f"p_{one.cause}_to_{one.effect}": one.p for one in directions},
        "directions": [{"method": "F test of statsmodels", **one._asdict()} for one in directions],
    }
    return content, directions


def _longest_run(days: Array) -> slice:
    """Where the longest run of days without a gap lies."""
    if not len(days):
        return slice(0, 0)
    edges = [0, *(np.flatnonzero(np.diff(days) > 1) + 1).tolist(), len(days)]
    lengths = np.diff(edges)
    at = int(lengths.argmax())
    return slice(edges[at], edges[at + 1])


def sentence(one: Direction, level: float) -> str:
    helps = "helps" if one.p < 1 - level else "is not shown to help"
    tested_by = f"p {in_words(one.p)}, F({one.lag}, {one.df}) {one.f:.2f}, n {one.n}"
    return f"{one.cause} {helps} to foretell {one.effect} ({tested_by})"


def in_words(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "under 0.001"


def page(content: dict[str, Any], directions: list[Direction], wanted: Granger) -> str:
    lines = [
        f"# Granger: {wanted.first} and {wanted.second}",
        "",
        *(f"- {sentence(one, wanted.level)}." for one in directions),
        "",
        f"Of all users: {'; '.join(f'{name} is {WORDS[name]}' for name in (wanted.first, wanted.second))}.",
        "",
        f"Days {content['first_day']} to {content['last_day']}; "
        + ("first differences, since not both were stationary" if content["differenced"] else "levels, both stationary")
        + f" at {share(1 - wanted.level)}, which is also the level of the tests above. n is of the days that have all "
        f"their earlier ones. The lag is that of the least {wanted.criterion.upper()} up to {content['longest']}"
        + (f" (not {wanted.longest}: there are too few days)" if content["longest"] < wanted.longest else "")
        + ".",
        "",
        "![the series](granger.png)",
        "",
        "## Stationarity",
        "",
        "ADF's null hypothesis is a unit root, that of KPSS stationarity; both with a constant and without a trend, "
        "ADF's lag by AIC, that of KPSS by its own rule. KPSS's p is cut at 0.01 and 0.1.",
        "",
        results.table(
            ["outcome", "of", "n", "ADF p", "KPSS p"],
            [
                [one["outcome"], one["of"], str(one["n"]), in_words(one["adf_p"]), in_words(one["kpss_p"])]
                for one in content["stationarity"]
            ],
        ),
        "",
        "## What it can't show",
        "",
        "Granger causality says that one series comes before the other and holds something that the other's own past "
        "does not. It does not say that changing the one would change the other: a third thing, such as the weekday, "
        "may move both, one of them later. An intervention within these days moves the series, too, and is not in the "
        "model. Days of few events weigh as much as others.",
        "",
    ]
    return "\n".join([*lines, results.provenance(content["provenance"]), ""])


def drawn(rows: list[tuple[Any, ...]], names: tuple[str, str]) -> Any:
    figure = results.new_figure(8.0, 4.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, place, style, colour in ((upper, 2, "-", results.BLUE), (lower, 3, "--", results.ORANGE)):
        axes.plot([row[0] for row in rows], [row[place] for row in rows], style, color=colour)
        axes.set_ylabel(names[place - 2])
    lower.tick_params(axis="x", rotation=30)
    return figure


if __name__ == "__main__":
    analyse("granger", granger)
