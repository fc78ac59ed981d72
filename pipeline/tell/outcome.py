"""What a run came to, from what its stages noted and the reports say."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths
from pipeline.core.reports import read_report
from pipeline.tell.runs import BAD, GOOD, Run, stages


def of(paths: Paths, run: Run, code: int, reason: str = "", next_step: str = "") -> Run:
    """The run's end. Where a stage failed, its own exit code and words take the place of DVC's."""
    found = stages(paths)
    failed = next((stage for stage in found if stage.exit_code), None)
    if code and failed is not None:
        code, reason = failed.exit_code, f"{failed.stage}: {said(failed.error, failed.words)}"
        next_step = f"{failed.next_step}; then make {run.what}"
    reported = {stage.stage for stage in found if stage.exit_code in (0, 8)}
    return run._replace(
        end=datetime.now(UTC),
        result=BAD if code else GOOD,
        exit_code=code,
        reason=reason or (f"it ended with {code}" if code else ""),
        next_step=next_step or (f"make {run.what}, when it is mended" if code else ""),
        stages=found,
        # Of a run that failed before, the reports are of an earlier one.
        **(snapshot(paths) if not code or "report" in reported else {}),
    )


def said(error: str | None, words: str) -> str:
    # What params.yaml holds may be a user's id.
    return "params.yaml, watermark.yaml or .env can't be meant" if error == "ParamsError" else words or str(error)


def snapshot(paths: Paths) -> dict[str, Any]:
    """What the reports say of the snapshot; nothing where they can't be read."""
    with suppress(PipelineError, KeyError, IndexError, TypeError):
        checks = read_report(paths.checks_report, "verdict", "sentence")
        return {
            "verdict": checks["verdict"],
            "sentence": checks["sentence"][0],
            "rows": read_report(paths.quality_report, "rows")["rows"],
            "until": read_report(paths.extract_report, "window")["window"][1],
        }
    return {}


def params(paths: Paths) -> Params | None:
    try:
        return load_params(paths.params)
    except PipelineError:
        return None
