"""analyses/params.yaml, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import ParamsError
from pipeline.core.params import load_yaml

OUTCOMES = ("mean_score", "events", "sessions", "active_minutes")
METHODS = ("exact", "causalpy")


class Its(NamedTuple):
    method: str
    outcome: str
    start: date
    treated: str | None
    control: str | None
    weekdays: bool
    level: float
    placebos: int
    hac_lag: int | None
    seed: int


class Abab(NamedTuple):
    improvement: str
    randomised: bool
    start: date | None
    shortest: int
    days: int
    level: float
    bound: int
    plots: int
    draws: int
    seed: int


class Granger(NamedTuple):
    first: str
    second: str
    longest: int
    criterion: str
    level: float


class Settings(NamedTuple):
    its: Its
    abab: Abab
    granger: Granger


def one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, f"one of {', '.join(names)}"


def whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: type(value) is int and least <= value <= most, f"a whole number from {least:,} to {most:,}"


def or_null(rule: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value is None or rule[0](value), f"{rule[1]}, or null"


FLAG = (lambda value: type(value) is bool, "true or false")
LEVEL = (lambda value: type(value) is float and 0.5 <= value <= 0.999, "a share from 0.5 to 0.999, such as 0.95")
DAY = (lambda value: type(value) is date, "a day such as 2025-09-28, in quotes")
CONDITION = (lambda value: type(value) is str and bool(value.strip()), "a condition of SQL")

RULES: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "its": {
        "method": one_of(*METHODS),
        "outcome": one_of(*OUTCOMES),
        "start": DAY,
        "treated": or_null(CONDITION),
        "control": or_null(CONDITION),
        "weekdays": FLAG,
        "level": LEVEL,
        "placebos": whole(0, 1000),
        "hac_lag": or_null(whole(0, 1000)),
        "seed": whole(0, 2**32 - 1),
    },
    "abab": {
        "improvement": one_of("increase", "decrease"),
        "randomised": FLAG,
        "start": or_null(DAY),
        "shortest": whole(1, 2500),
        "days": whole(4, 10_000),
        "level": LEVEL,
        "bound": whole(1, 2_000_000),
        "plots": whole(0, 1000),
        "draws": whole(1000, 1_000_000),
        "seed": whole(0, 2**32 - 1),
    },
    "granger": {
        "first": one_of(*OUTCOMES),
        "second": one_of(*OUTCOMES),
        "longest": whole(1, 100),
        "criterion": one_of("aic", "bic", "hqic"),
        "level": LEVEL,
    },
}


def load(path: Path) -> Settings:
    """Raises ParamsError."""
    data = load_yaml(path)
    if not isinstance(data, Mapping) or set(data) != set(RULES):
        raise wrong(path, f"the keys of {path.name} are not those that are needed", ", ".join(RULES))
    found: dict[str, Any] = {}
    for group, rules in RULES.items():
        values = data[group]
        if not isinstance(values, Mapping) or set(values) != set(rules):
            raise wrong(path, f"{group} has other keys than are needed", ", ".join(rules))
        for key, (holds, expected) in rules.items():
            value = values[key]
            if isinstance(value, str) and key == "start":  # dvc exp run -S writes text
                try:
                    value = date.fromisoformat(value)
                except ValueError:
                    raise wrong(path, f"{group}.{key} is {value!r}", expected) from None
            if not holds(value):
                raise wrong(path, f"{group}.{key} is {value!r}", expected)
            found.setdefault(group, {})[key] = value
    return Settings(Its(**found["its"]), Abab(**found["abab"]), Granger(**found["granger"]))


def wrong(path: Path, what: str, expected: str) -> ParamsError:
    return ParamsError(
        f"params: {what}", where=str(path), expected=expected, next_step=f"edit {path}, then the same command again"
    )
