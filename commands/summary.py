"""What the pipeline's outputs hold, in a few lines for a person, and what to type next. Reads the reports, and
makes sure that data/export is what they speak of."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from pathlib import Path

from pipeline.checks.published import check_files
from pipeline.core.errors import DataError
from pipeline.core.params import load_yaml
from pipeline.core.process import run
from pipeline.core.progress import count
from pipeline.files.layout import read_report
from schemas.contract import COLUMNS

REPORTS = {
    "extract": ("begin", "until", "days", "rows"),
    "quality": ("rows", "users", "event_types", "phases", "files", "bytes"),
    "load": ("quarantine", "strategy", "columns_compared"),
    "validation": ("rows", "checks", "failed_rows"),
}

WIDTH = 110

STAGES = ("extract", "validate", "export", "load")

NEXT = (
    'python -m commands.query \'SELECT "experimentPhase", count(*) AS events, '
    'round(avg("sessionPerformanceScore"), 1) AS mean_score FROM behavioral_events GROUP BY 1 ORDER BY 1\''
)


def times() -> str:
    """Seconds of each stage's last run on this machine; stages that never ran here are left out."""
    said = []
    for stage in STAGES:
        with suppress(OSError, ValueError):  # none, or half a one
            said.append(f"{stage} {float(Path('data/.times', stage).read_text()):.1f} s")
    return ", ".join(said)


def listed(counts: dict[str, int]) -> str:
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {n:,}" for name, n in most_first) or "no rows"


def conditions(columns_compared: int) -> dict[str, str]:
    """What the figures hold for, where that is not all users under their own ids."""
    lock = load_yaml(Path("dvc.lock"))
    users = lock["stages"]["extract"]["params"]["params.yaml"]["extract.user_id"]
    said = {}
    if users:
        said["filter"] = f"only {count(len([users] if isinstance(users, str) else users), 'user')} of extract.user_id"
    if columns_compared < len(COLUMNS):
        said["pseudonyms"] = f"in place of ids; {columns_compared} of {len(COLUMNS)} columns were compared"
    return said


def summary() -> str:
    extracted, quality, loaded, verdict = (
        read_report(Path("data/reports", f"{name}.json"), *keys) for name, keys in REPORTS.items()
    )
    if verdict["rows"] != quality["rows"] + loaded["quarantine"] or extracted["rows"] != verdict["rows"]:
        raise DataError(
            "the last run did not finish: the reports are of different runs",
            where="data/reports",
            expected="reports of one run; data/export and data/analytics.duckdb still hold the last good one",
            next_step="dvc repro, and look at its first error",
        )
    check_files(Path())
    lines = {
        "window": f"{extracted['begin']} to {extracted['until']} (UTC, exclusive), {extracted['days']:,} days",
        "rows": f"{quality['rows']:,}, the same in PostgreSQL's snapshot, Parquet and DuckDB"
        if not loaded["quarantine"]
        else f"{quality['rows']:,} in Parquet and DuckDB, and {loaded['quarantine']:,} in quarantine: "
        f"the {extracted['rows']:,} of PostgreSQL's snapshot",
        "users": f"{quality['users']:,}",
        **conditions(loaded["columns_compared"]),
        "checks": f"{len(verdict['checks'])}, {count(verdict['failed_rows'], 'failing row')}",
        "event types": f"{len(quality['event_types'])}: {listed(quality['event_types'])}",
        "phases": listed(quality["phases"]),
        "files": f"{quality['files']:,} in data/export, {quality['bytes'] / 1e6:.1f} MB; "
        f"data/analytics.duckdb ({loaded['strategy']}), {Path('data/analytics.duckdb').stat().st_size / 1e6:.1f} MB",
        "times": times() or "nothing ran here yet",
    }
    body = "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=f"  {name:<12} ", subsequent_indent=" " * 15)
        for name, text in lines.items()
    )
    return f"\nBehavioural events, ready to query\n{body}\n\nNext, for example:\n  .venv/bin/{NEXT}\n"


def main() -> None:
    print(summary())


if __name__ == "__main__":
    run("summary", main)
