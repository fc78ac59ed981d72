"""its.method: causalpy with the real CausalPy: `python -m tests.causalpy_here`, where it is installed."""

from __future__ import annotations

import json
import subprocess
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from scipy import stats

from analyses import its_causalpy
from analyses.daily import Series
from analyses.settings import load
from pipeline.core.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
START, LAST = 60, 89


def series(days: np.ndarray, seed: int = 1) -> Series:
    post = days >= START
    values = 60 + 0.02 * days + post * (4 + 0.1 * (days - START)) + np.random.default_rng(seed).normal(0, 3, len(days))
    return Series(days.astype(float), values, date(2025, 1, 1), LAST)


def by_hand(of: Series, columns: list[np.ndarray]) -> tuple[float, float]:
    """The mean of what the days after have beyond the line of the days before, and half of its t interval."""
    x = np.column_stack([np.ones(len(of.days)), of.days, *columns])
    before = of.days < START
    line, *_ = np.linalg.lstsq(x[before], of.values[before], rcond=None)
    beyond = of.values[~before] - x[~before] @ line
    return float(beyond.mean()), float(stats.t.ppf(0.975, len(beyond) - 1) * beyond.std(ddof=1) / len(beyond) ** 0.5)


def numbers() -> None:
    wanted = load(ROOT / "analyses/params.yaml").its
    its_causalpy.require()
    whole = np.arange(LAST + 1)
    for days, weekdays in ((whole, False), (whole[whole % 7 != 3], False), (whole, True)):
        given = series(days)
        columns = [((days + 2) % 7 == one).astype(float) for one in range(6)] if weekdays else []  # a Wednesday
        mean, reach = by_hand(given, columns)
        found = its_causalpy.look(given, START, wanted._replace(weekdays=weekdays))
        of_ols, of_bayes = (found.effects[name] for name in (its_causalpy.OLS, its_causalpy.BAYES))
        assert np.allclose(of_ols["mean"], (mean, mean - reach, mean + reach)), (of_ols, mean, reach)
        assert np.allclose(of_ols["cumulative"], np.array(of_ols["mean"]) * (days >= START).sum())
        assert abs(of_bayes["mean"].estimate - mean) < 0.5, (of_bayes, mean)
        assert of_bayes["mean"].low < mean < of_bayes["mean"].high
        assert [check.passed for check in found.checks] == [True] * 3, found.checks
        again = its_causalpy.look(given, START, wanted._replace(weekdays=weekdays))
        assert again == found  # the same seed, the same draws
    # What the docs say is wrong with it.
    import causalpy
    from sklearn.linear_model import LinearRegression

    frame, formula = its_causalpy.framed(series(whole), START, wanted)
    frame.index.name = "day"
    made = causalpy.InterruptedTimeSeries(frame, START, formula=formula, model=LinearRegression(fit_intercept=False))
    assert frame.index.name == "obs_ind"
    told = made.effect_summary(direction="two-sided").table["relative_mean"]
    assert np.isclose(told["cumulative"], told["average"] * (LAST + 1 - START))


def what_it_does_not_take() -> None:
    """A weekday that the days before do not have."""
    wanted = load(ROOT / "analyses/params.yaml").its._replace(weekdays=True)
    said = ""
    try:
        its_causalpy.look(series(np.arange(55, LAST + 1)), START, wanted)
    except DataError as error:
        said = str(error)
    assert "CausalPy says" in said, said


def a_stage(folder: Path) -> None:
    """What `make causalpy` does, in a clone: an experiment of DVC."""
    clone = folder / "a clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for key in ("user.name", "user.email"):
        subprocess.run(["git", "-C", str(clone), "config", key, "someone@example.org"], check=True)
    subprocess.run(["dvc", "repro", "-q"], cwd=clone, check=True)
    ask = ["dvc", "exp", "run", "analyses/dvc.yaml:its", "-S", "analyses/params.yaml:its.method=causalpy"]
    said = subprocess.run(ask, cwd=clone, check=True, capture_output=True, text=True).stdout
    assert "Ran experiment(s)" in said, said
    content = json.loads((clone / "analyses/results/its/its.json").read_text())
    for entry in content["groups"]:
        methods = {one["method"] for one in entry["effects"]}
        assert methods == {"exact", "reml", "hac", "causalpy_bayes", "causalpy_ols"}, methods
        assert [check["passed"] for check in entry["sampler"]] == [True] * 3
    assert {"what": "causalpy", "is": "0.9.0"} in content["provenance"]
    page = (clone / "analyses/results/its/its.md").read_text()
    assert "by CausalPy, Bayes" in page
    assert "| divergences | 0 | 0 | yes |" in page


if __name__ == "__main__":
    numbers()
    what_it_does_not_take()
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as at:
        a_stage(Path(at))
    print("CausalPy: the same numbers as by hand, its sampler's checks, and the stage")
