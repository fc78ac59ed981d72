"""What has a target of its own; here its short form, as docs/performance.md and docs/errors.md have it.

They are long, too. The shortest form of `make faults` is in test_damage.py, where each stage is killed once.
"""

from __future__ import annotations

import re

import pytest

from tests.docs import blocks, run_shell, with_venv
from tests.helpers import Clone

pytestmark = pytest.mark.xdist_group("short forms")


PARTS = {
    "engines": (5, ["A cold dvc repro with each engine", "a million rows more", "Estimate for 1,000,000,000 rows"]),
    "skewed": (2, ["all but one row a day in the last day"]),
    "days": (6, ["over windows of different length", "Requests, and what a night pushes"]),
}


def targets(said: str) -> list[tuple[str, ...]]:
    return re.findall(r"^\| (.+?) \| at most (.+?) \| (.+?) \| (yes|no|-) \|$", said, re.M)


@pytest.mark.long
def test_bench(clone: Clone) -> None:
    """With one of the parts of its last part; the others are below, since all take minutes."""
    (block,) = blocks("performance", language="sh")
    of_skewed, titles = PARTS["skewed"]
    said = run_shell(with_venv(clone), block._replace(text=block.text.rstrip() + " PART=skewed\n"), {})
    for title in (
        "Each stage as a process of its own",
        "Nothing to do",
        "The night after",
        "Example queries",
        "Targets",
        "Research, as whole processes",
        "All rows of each view",
        *titles,
    ):
        assert title in said
    rows = targets(said)
    assert len(rows) == 12 + 4 + of_skewed  # of the pipeline, and of research
    assert ("a night on, rows sent by PostgreSQL, times the new day's", "1", "1.00", "yes") in rows


@pytest.mark.long
@pytest.mark.parametrize("part", ["engines", "days"])
def test_bench_scale(clone: Clone, part: str) -> None:
    (block,) = blocks("performance", language="sh")
    script = block.text.replace("make bench", f"make bench-scale PART={part}").replace("DAYS=4", "DAYS=2")
    said = run_shell(with_venv(clone), block._replace(text=script), {})
    number, titles = PARTS[part]
    assert [title for title in titles if title not in said] == []
    assert len(targets(said)) == number


@pytest.mark.long
def test_faults(clone: Clone) -> None:
    """One kill -9 of each stage, at a random moment; nothing is lost or doubled."""
    block = blocks("errors", language="sh")[1]
    said = run_shell(with_venv(clone), block, {})
    kills = re.findall(r"^\| kill -9 of (\w+) at a random moment \| 1 \| 1 \| 0 \| 0 \| 0 \|$", said, re.M)
    assert kills == ["extract", "validate", "export", "load"]
