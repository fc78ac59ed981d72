"""Tell of a run that has ended: people by alerts, MLflow, Prometheus. What is not asked for costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core.env import setting
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.progress import count, printable
from pipeline.core.reports import read_report
from pipeline.core.verdict import FAILED, WARNED
from pipeline.tell import child, outcome, runs, textfile
from pipeline.tell.runs import RUNNING, Run


def finish(paths: Paths, run: Run) -> Iterator[str]:
    """Remember a run that has ended, and tell of it. Yields a line for each that could not be told."""
    ended = [one for one in runs.read(paths.runs) if one.what == run.what and one.result != RUNNING]
    runs.finish(paths, run)
    yield from tell(paths, outcome.params(paths), run, ended[-1] if ended else None)


def tell(paths: Paths, params: Params | None, run: Run, before: Run | None) -> Iterator[str]:
    """Tell of `run`; `before` is the run of its kind before it."""
    subject = worth_an_alert(run, before) if setting("ALERT_URLS") else None
    if subject and (wrong := child.send("pipeline.tell.alerts", alert(paths, run, subject))):
        yield f"notice: an alert was not sent: {wrong}"
    if setting("MLFLOW_TRACKING_URI") and (wrong := child.send("pipeline.tell.tracking", tracked(paths, params, run))):
        yield f"notice: MLflow was not told: {wrong}"
    if folder := setting("PROMETHEUS_TEXTFILE_DIR"):
        try:
            textfile.write(Path(folder), figures(run) | last_success(paths, run), checks(paths, run))
        except (OSError, ImportError) as error:
            yield f"notice: Prometheus was not told: {type(error).__name__}: {error}"


def send_alert(subject: str, body: str) -> str | None:
    """What went wrong, if anything did; nothing is sent where ALERT_URLS is not set."""
    if not setting("ALERT_URLS"):
        return None
    message = {"title": f"behavioural events: {subject}", "body": printable(body), "attach": None}
    return child.send("pipeline.tell.alerts", message)


def worth_an_alert(run: Run, before: Run | None) -> str | None:
    """The subject of the alert, or None where all is as it should be and was."""
    if not run.good:
        return f"{run.what} {run.result}"
    if run.verdict == WARNED:
        return f"{run.what} OK, with care"
    if before is not None and (not before.good or before.verdict == WARNED):
        return f"{run.what} OK again"
    return None


def alert(paths: Paths, run: Run, subject: str) -> dict[str, Any]:
    """Reason, figures, and the command to type; no value of an event, no address, no secret."""
    lines = [run.reason, run.sentence]
    found = checks(paths, run).values()
    lines += [f"- {one['verdict']}: {one['words']}" for one in found if one["verdict"] in (WARNED, FAILED)]
    if run.rows is not None:
        lines.append(f"{count(run.rows, 'row')} until {run.until}")
    took = ", ".join(f"{stage.stage} {stage.seconds:.1f} s" for stage in run.stages)
    lines.append(
        f"started {run.start:%Y-%m-%d %H:%M} UTC, took {run.seconds or 0:.0f} s" + (f" ({took})" if took else "")
    )
    lines.append(f"next: {run.next_step}" if run.next_step else "")
    page = paths.page if checks_report(paths, run) == paths.checks_report else paths.failed / paths.page.name
    return {
        "title": f"behavioural events: {subject}",
        "body": printable_lines(lines),
        "attach": str(page.absolute()) if setting("ALERT_ATTACH") else None,
    }


def printable_lines(lines: list[str]) -> str:
    return "\n".join(printable(line) for line in lines if line)


def figures(run: Run) -> dict[str, tuple[str, float]]:
    known: dict[str, tuple[str, float | None]] = {
        "export_success": ("1: the last run published a snapshot that may be used; 0: not.", float(run.good)),
        "export_rows": ("Rows of the snapshot.", run.rows),
        "export_duration_seconds": ("How long the last run took.", run.seconds),
        "validation_passed": ("1: no row broke the contract; 0: some did.", validation_passed(run)),
        "last_run_timestamp_seconds": ("When the last run ended.", run.end.timestamp() if run.end else None),
    }
    return {name: (words, float(value)) for name, (words, value) in known.items() if value is not None}


def validation_passed(run: Run) -> float | None:
    """None: the run ended before, or for another reason than a stage."""
    failed = next((stage.stage for stage in run.stages if stage.exit_code), None)
    if failed == "validate":
        return 0.0
    return 1.0 if run.good or failed in ("export", "load", "report") else None


def last_success(paths: Paths, run: Run) -> dict[str, tuple[str, float]]:
    """For whoever wants to be woken when it is too old: of this run, or of the last good one that is remembered."""
    good = run if run.good else next((one for one in reversed(runs.read(paths.runs)) if one.good), None)
    words = "When the last good run ended."
    return {"last_success_timestamp_seconds": (words, good.end.timestamp())} if good and good.end else {}


def checks_report(paths: Paths, run: Run) -> Path:
    """Where a night fails a check, the last good snapshot is back, and its own report beside it."""
    aside = paths.failed / paths.checks_report.name
    return aside if run.what == "night" and run.verdict == FAILED and aside.exists() else paths.checks_report


def checks(paths: Paths, run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What each quality check found, by check and table; nothing where the run did not get so far."""
    entries: list[dict[str, Any]] = []
    if run.verdict is not None:
        with suppress(PipelineError):
            entries = read_report(checks_report(paths, run), "checks")["checks"]
    return {(one["check"], one["table"]): one for one in entries}


def tracked(paths: Paths, params: Params | None, run: Run) -> dict[str, Any]:
    quality = {
        f"quality.{table}.{check.replace(' ', '.')}": one["value"]
        for (check, table), one in checks(paths, run).items()
        if one["value"] is not None
    }
    given = {}
    if params is not None:
        # Of the users only how many.
        given = {
            "extract.days": params.extract.days,
            "extract.user_id": len(params.extract.user_id) or "all",
            "validate.mode": params.validate.mode,
            "export.pseudonymize": params.export.pseudonymize,
            "load.strategy": params.load.strategy,
        }
    return {
        "name": f"{run.what} {run.start:%Y-%m-%d %H:%M}",
        "metrics": {name: value for name, (_, value) in figures(run).items()} | quality,
        "params": given,
        "tags": {
            "commit": run.snapshot or run.commit or "none",
            "result": run.result,
            "verdict": run.verdict or "none",
            "until": run.until or "none",
            "reason": run.reason,
        },
    }
