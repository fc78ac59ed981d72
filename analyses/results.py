"""Results as files: JSON, CSV, figures with the same bytes each time, and a page in Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analyses.ar1 import Interval
from pipeline.files.layout import replacing_files

# Okabe and Ito's colours, which the colour-blind can tell apart; lines and marks differ in form, too.
BLUE, ORANGE, GREY = "#0072b2", "#b3400a", "#59636e"


def new_figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """Inches; 150 pixels each in the PNG."""
    mpl.rcdefaults()  # whatever a matplotlibrc says
    # Text as text, and ids that don't come from chance.
    mpl.rcParams.update({"svg.hashsalt": "analyses", "svg.fonttype": "none", "font.family": "DejaVu Sans"})
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()


def svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return b"\n".join(line.rstrip() for line in file.getvalue().split(b"\n"))


def as_json(content: Mapping[str, Any]) -> bytes:
    """Raises ValueError for a number that is none: a result has no NaN."""
    return (json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def plain(value: Any) -> Any:
    """Numbers of nine digits: what is beyond differs between processors."""
    if isinstance(value, Interval):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a result is not finite")
        return float(f"{value:.9g}")
    return value


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if one is None else plain(one) for one in row] for row in rows])
    return text.getvalue().encode()


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put all files of an analysis in place, or none."""
    with replacing_files(folder) as staging:
        for name, content in files.items():
            (staging / name).write_bytes(content)


def figures(name: str, figure: Figure) -> dict[str, bytes]:
    return {f"{name}.png": png(figure), f"{name}.svg": svg(figure)}


def number(value: float | None, digits: int = 2) -> str:
    """In running text."""
    if value is None:
        return "none"
    rounded = f"{value:.{digits}f}"
    return rounded.removeprefix("-") if float(rounded) == 0 else rounded


def with_interval(found: Interval | None, digits: int = 2) -> str:
    if found is None:
        return "none"
    return f"{number(found.estimate, digits)} ({number(found.low, digits)} to {number(found.high, digits)})"


def share(level: float) -> str:
    """0.95 as 95%, 0.995 as 99.5%."""
    return f"{100 * level:.4g}%"


def p_value(p: float, least: float) -> str:
    """Never 0: a permutation test can't give less than one over its assignments."""
    return f"{max(p, least):.4f}" if max(p, least) >= 0.0001 else f"{max(p, least):.1e}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def provenance(lines: Sequence[Mapping[str, str]]) -> str:
    return "## Where these numbers are from\n\n" + table(["what", "is"], [[one["what"], one["is"]] for one in lines])
