"""What takes long has a target of its own; here its short form, as docs/performance.md and docs/errors.md have it."""

from __future__ import annotations

import re

import pytest

from tests.docs import blocks, run_shell, with_venv
from tests.helpers import Clone

pytestmark = pytest.mark.xdist_group("short forms")


@pytest.mark.long
def test_bench(clone: Clone) -> None:
    (block,) = blocks("performance", language="sh")
    said = run_shell(with_venv(clone), block, {})
    for title in (
        "Each stage as a process of its own",
        "Nothing to do",
        "The night after",
        "Example queries",
        "Targets",
        "Research, as whole processes",
        "All rows of each view",
        "A cold dvc repro with each engine",
        "Estimate for 1,000,000,000 rows",
        "all but one row a day in the last day",
        "Requests, and what a night pushes",
    ):
        assert title in said
    rows = re.findall(r"^\| (.+?) \| at most (.+?) \| (.+?) \| (yes|no|-) \|$", said, re.M)
    assert len(rows) == 12 + 4 + 5 + 2 + 6  # of the pipeline, of research, of engines, the skewed day and many days
    assert ("a night on, rows sent by PostgreSQL, times the new day's", "1", "1.00", "yes") in rows


def test_faults(clone: Clone) -> None:
    """One kill -9 of each stage, at a random moment; nothing is lost or doubled."""
    block = blocks("errors", language="sh")[1]
    said = run_shell(with_venv(clone), block, {})
    kills = re.findall(r"^\| kill -9 of (\w+) at a random moment \| 1 \| 1 \| 0 \| 0 \| 0 \|$", said, re.M)
    assert kills == ["extract", "validate", "export", "load"]
