"""Another attempt, when PostgreSQL was only away for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import PipelineError, TransientSourceError
from pipeline.core.params import Source
from pipeline.core.progress import say

Result = TypeVar("Result")

# Seconds: the longest wait between two attempts.
MAX_WAIT = 60


def retrying(stage: str, settings: Source, action: Callable[[], Result]) -> Result:
    """What `action` returns, tried again from its begin when it raises TransientSourceError, up to settings.attempts.

    Waits longer each time, and a random while more, so that many clients do not come back at once.
    """
    try:
        return action()
    except TransientSourceError as error:
        failed = [error]
    import tenacity  # 40 ms that a run without trouble does not spend

    def again() -> Result:
        if failed:
            raise failed.pop()  # the first attempt counts
        return action()

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        what = error.what if isinstance(error, PipelineError) else error
        pause = f"attempt {state.attempt_number + 1} of {settings.attempts} in {state.upcoming_sleep:.1f} s"
        say(f"{stage}: {what}; {pause}, from the beginning")

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(settings.attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=settings.retry_wait, max=MAX_WAIT, jitter=settings.retry_wait),
        retry=tenacity.retry_if_exception_type(TransientSourceError),
        before_sleep=tell,
        reraise=True,
    )
    return attempts(again)
