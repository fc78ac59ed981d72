"""What has a target of its own; here its short form, as docs/performance.md and docs/errors.md have it.

They are long, too. The shortest form of `make faults` is in test_damage.py, where each stage is killed once.
"""

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
    ):
        assert title in said
    rows = re.findall(r"^\| (.+?) \| at most (.+?) \| (.+?) \| (yes|no|-) \|$", said, re.M)
    assert len(rows) == 12 + 4  # of the pipeline, and of research
    assert ("a night on, rows sent by PostgreSQL, times the new day's", "1", "1.00", "yes") in rows


@pytest.mark.long
def test_faults(clone: Clone) -> None:
    """One kill -9 of each stage, at a random moment; nothing is lost or doubled."""
    block = blocks("errors", language="sh")[1]
    said = run_shell(with_venv(clone), block, {})
    kills = re.findall(r"^\| kill -9 of (\w+) at a random moment \| 1 \| 1 \| 0 \| 0 \| 0 \|$", said, re.M)
    assert kills == ["extract", "validate", "export", "load"]
