"""What can go wrong, split by who has to act; each kind has one exit code.

A message says what, where, what was expected and what to type next. It holds no password and, but for the failing
cells that `validate` reports, no value of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial


class PipelineError(Exception):
    """Anything that ends a stage with one clear line instead of a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str, expected: str, next_step: str) -> None:
        super().__init__(what)
        self.what, self.where, self.expected, self.next_step = what, where, expected, next_step

    def __reduce__(self) -> tuple[Callable[[str], PipelineError], tuple[str]]:
        """As pickle wants it: a worker's error comes here whole."""
        return partial(type(self), where=self.where, expected=self.expected, next_step=self.next_step), (self.what,)

    def __str__(self) -> str:
        return f"{self.what}\n  where:    {self.where}\n  expected: {self.expected}\n  next:     {self.next_step}"


class ParamsError(PipelineError):
    """params.yaml, watermark.yaml's form, .env or a command line holds something that can't be meant."""

    exit_code = 2


class SourceError(PipelineError):
    """PostgreSQL could not be reached, refused the login or a right, or broke off."""

    exit_code = 3


class TransientSourceError(SourceError):
    """PostgreSQL is away for a while or gave up this one attempt: another may go well."""


class ContractError(PipelineError):
    """The table in PostgreSQL is not the table that the contract describes, or the contract contradicts itself."""

    exit_code = 4


class RowsInvalidError(PipelineError):
    """Rows break the contract; nothing was published."""

    exit_code = 5


class DataError(PipelineError):
    """Files or counts that should agree do not: something was altered, cut off or is missing, or changed meanwhile."""

    exit_code = 6


class QualityError(PipelineError):
    """The snapshot, or what it would become, is past a threshold of level fail."""

    exit_code = 8


class PinError(PipelineError):
    """The source no longer holds, or never held, what watermark.yaml pins."""

    exit_code = 7
