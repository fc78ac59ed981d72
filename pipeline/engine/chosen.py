"""Which engine runs the work: PIPELINE_ENGINE, from the environment or .env. Where it runs is no input of a run."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.core.env import setting
from pipeline.core.errors import ParamsError

ENGINE = "PIPELINE_ENGINE"
DEFAULT = "threads:2"


class Chosen(NamedTuple):
    """The engine, and what stands behind its colon: a number of threads or processes, or the address of a scheduler."""

    kind: str
    number: int
    address: str

    @property
    def text(self) -> str:
        """As PIPELINE_ENGINE has it."""
        return f"{self.kind}:{self.address or self.number}"


def chosen() -> Chosen:
    """Raises ParamsError when PIPELINE_ENGINE names none."""
    text = setting(ENGINE) or DEFAULT
    kind, _, where = text.partition(":")
    if kind in ("threads", "processes") and re.fullmatch("[1-9][0-9]{0,3}", where):
        return Chosen(kind, int(where), "")
    if kind == "dask" and re.fullmatch(r"(tcp|tls)://[^\s/@]+:[0-9]+", where):
        return Chosen(kind, 0, where)
    raise ParamsError(
        f"{ENGINE} names no engine",  # and not what it says: an address may hold what is nobody's business
        where="the environment or .env",
        expected="threads:2 (the default), processes:N, dask:tls://HOST:8786 or dask:tcp://HOST:8786",
        next_step=f"correct {ENGINE}, or unset it; docs/scale.md says when which is of use",
    )
