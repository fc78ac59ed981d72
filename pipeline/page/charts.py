"""Where the marks of a chart stand. Plain numbers for the templates, in units of a viewBox that is WIDTH wide.

Drawn by hand: the page is 60 kB and takes 0.03 s. The libraries that were tried took up to 1.5 s and 96 MB, had no dark
mode, or gave other bytes each time (docs/quality.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

WIDTH = 720
LEFT = 56  # for the labels of the axis

# Bars that are still apart from each other; above so many days, weeks are shown.
MOST_BARS = 400

# Labels below the axis.
LABELS = 7


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    mark: str  # "", "late", "missing" or "outlying"
    words: str


class Label(NamedTuple):
    at: float
    text: str


class Columns(NamedTuple):
    """Bars over days or weeks. Marked ones have a sign above the axis, so that nobody needs to tell colours apart."""

    height: int
    bottom: float  # y of the axis
    bars: list[Bar]
    ticks: list[Label]
    labels: list[Label]
    unit: str  # "day" or "week"


def columns(rows: Mapping[date, int], marks: Mapping[date, str]) -> Columns:
    """A bar a day; a bar a week, from Monday, where there are more than MOST_BARS days."""
    weekly = len(rows) > MOST_BARS
    sums: dict[date, int] = {}
    signs: dict[date, list[str]] = {}
    for day, number in sorted(rows.items()):
        at = day - timedelta(days=day.weekday()) if weekly else day
        sums[at] = sums.get(at, 0) + number
        if day in marks:
            signs.setdefault(at, []).append(f"{day} {marks[day]}" if weekly else marks[day])
    height, top, bottom = 210, 8, 170
    scale = axis(max(sums.values(), default=0))
    step = (WIDTH - LEFT) / max(len(sums), 1)
    bars = []
    for place, (at, number) in enumerate(sums.items()):
        size = (bottom - top) * number / scale[-1]
        said = ", ".join(signs.get(at, []))
        words = f"{'week of ' if weekly else ''}{at}: {number:,}" + (f", {said}" if said else "")
        kinds = [sign.rpartition(" ")[2] for sign in signs.get(at, [])]
        mark = next((kind for kind in ("missing", "outlying", "late") if kind in kinds), "")
        gap = 1 if step > 3 else 0
        bars.append(Bar(fixed(LEFT + place * step), fixed(bottom - size), fixed(step - gap), fixed(size), mark, words))
    ticks = [Label(fixed(bottom - (bottom - top) * value / scale[-1]), f"{value:,}") for value in scale]
    every = max(1, math.ceil(len(sums) / LABELS))
    form = "%Y-%m" if weekly else "%m-%d"
    labels = [
        Label(fixed(min(max(LEFT + (place + 0.5) * step, LEFT + 18), WIDTH - 24)), at.strftime(form))
        for place, at in enumerate(sums)
        if place % every == 0
    ]
    return Columns(height, bottom, bars, ticks, labels, "week" if weekly else "day")


class Range(NamedTuple):
    """The middle half of a phase's scores as a line, the median as a stroke and the mean as a dot."""

    name: str
    y: float
    low: float
    middle: float
    high: float
    dot: float
    words: str


class Ranges(NamedTuple):
    """A small chart, whole on a phone: the names stand above the lines."""

    height: int
    width: int
    left: int
    ranges: list[Range]
    ticks: list[Label]


def ranges(rows: Sequence[tuple[str, tuple[int, int, int], float, int]]) -> Ranges:
    """A line for each name, quartiles, mean and number of scores. The axis begins with 0, or the lowest below it."""
    width, left, row = 340, 14, 52
    scale = axis(max((quartiles[2] for _, quartiles, _, _ in rows), default=0))
    low = min([0, *(quartiles[0] for _, quartiles, _, _ in rows)])

    def x(value: float) -> float:
        return fixed(left + (width - 2 * left) * (value - low) / ((scale[-1] - low) or 1))

    found = []
    for place, (name, (first, middle, third), mean, number) in enumerate(rows):
        words = f"{name}: mean {mean:.1f}, median {middle}, middle half {first} to {third}, {number:,} scores"
        found.append(Range(name, fixed(row * place + row * 0.65), x(first), x(middle), x(third), x(mean), words))
    return Ranges(row * len(rows) + 24, width, left, found, [Label(x(value), f"{value:,}") for value in scale])


class Cell(NamedTuple):
    x: float
    y: float
    opacity: float
    words: str


class Heat(NamedTuple):
    height: int
    width: float
    rows: list[Label]
    labels: list[Label]
    cells: list[Cell]


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def heat(hours: Mapping[tuple[int, int], int]) -> Heat:
    """A cell for each hour of each weekday, stronger with more rows."""
    width, row = (WIDTH - LEFT) / 24, 24
    most = max(hours.values(), default=0) or 1
    cells = []
    for weekday, name in enumerate(WEEKDAYS, 1):
        for hour in range(24):
            number = hours.get((weekday, hour), 0)
            opacity = round(0.05 + 0.95 * number / most, 2) if number else 0.0
            words = f"{name} {hour:02}:00 to {hour:02}:59: {number:,}"
            cells.append(Cell(fixed(LEFT + hour * width), (weekday - 1) * row, opacity, words))
    names = [Label((place + 0.5) * row + 4, name) for place, name in enumerate(WEEKDAYS)]
    labels = [Label(fixed(LEFT + (hour + 0.5) * width), f"{hour:02}") for hour in range(0, 24, 3)]
    return Heat(row * 7 + 24, fixed(width), names, labels, cells)


def axis(top: float) -> list[int]:
    """Round numbers from 0 to at least `top`, five at most; at least 0 and 1."""
    if top <= 1:
        return [0, 1]
    step = 10 ** math.floor(math.log10(top / 4))
    step = max(1, step)
    step *= next(times for times in (1, 2, 5, 10) if top / (step * times) <= 4)
    return [int(step) * n for n in range(math.ceil(top / step) + 1)]


def fixed(value: float) -> float:
    """One digit after the point, so that every machine spells it alike."""
    return round(value, 1)
