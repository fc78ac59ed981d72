"""What the pipeline's outputs hold, in a few lines for a person, and what to type next. Reads the reports, and makes
sure that data/export is what they speak of."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pipeline.checks.current import check_current, check_database
from pipeline.checks.published import check_export
from pipeline.core.params import Params, load_params
from pipeline.core.paths import STAGES, Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count, printable
from pipeline.core.reports import read_report
from pipeline.core.verdict import SIGNS
from pipeline.files.sql import quoted
from pipeline.views import views
from schemas.tables import TABLES, chosen

# Wider lines are hard to read.
MAX_WIDTH = 110
NARROW = 40

NEXT = (
    '.venv/bin/python -m commands.query \'SELECT "experimentPhase", count(*) AS events, '
    'round(avg("sessionPerformanceScore"), 1) AS mean_score FROM behavioral_events GROUP BY 1 ORDER BY 1\''
)

Report = Mapping[str, Any]


def summary(paths: Paths, params: Params, width: int) -> str:
    """The summary, in lines of at most `width` characters but for the command to type next.

    Raises DataError when the reports are not those of one finished run of what is asked for now, or the data is not
    what they speak of.
    """
    extracted = read_report(paths.extract_report, "window", "days", "tables", "made_from")
    validated = read_report(paths.validation_report, "tables", "checks", "failed_rows")
    quality = read_report(paths.quality_report, "rows", "users", "bytes", "tables", "values", "files")
    loaded = read_report(paths.load_report, "made_from", "tables")
    checks = read_report(paths.checks_report, "verdict", "sentence")
    aside = sum(entry["quarantine"] for entry in loaded["tables"])
    check_current(paths, params)
    check_database(paths)
    check_export(paths)
    database = paths.database.stat().st_size / 1e6
    size = quality["bytes"] / 1e6
    lines = {
        "window": f"{' to '.join(extracted['window'])} (UTC, exclusive), {count(extracted['days'], 'day')}",
        "rows": f"{quality['rows']:,}, the same in PostgreSQL as it was read, Parquet and DuckDB"
        if not aside
        else f"{quality['rows']:,} in Parquet and DuckDB, and {aside:,} in quarantine: "
        f"the {rows_of(extracted):,} that PostgreSQL held",
        **by_table(quality),
        "users": f"{quality['users']:,}",
        **conditions(extracted, loaded),
        "rules": f"{len(validated['checks'])}, {count(validated['failed_rows'], 'failing row')}",
        "quality": f"{SIGNS[checks['verdict']]} {checks['sentence'][0]}; {paths.page}",
        **values(quality),
        "files": f"{len(quality['files']):,} in {paths.export}, {size:.1f} MB; "
        f"{paths.database} ({loaded['made_from'][0]['strategy']}), {database:.1f} MB",
        "times": times(paths) or "nothing ran here yet",
    }
    longest = max(map(len, lines))
    body = "\n".join(
        textwrap.fill(text, width, initial_indent=f"  {name:<{longest}} ", subsequent_indent=" " * (longest + 3))
        for name, text in lines.items()
    )
    names = [entry["table"] for entry in quality["tables"]]
    title, example = ("Behavioural events", NEXT) if views.OF in names else (", ".join(names), of_any(names[0]))
    return f"\n{title}, ready to query\n{body}\n\nNext, for example:\n  {example}\n"


def of_any(table: str) -> str:
    return f".venv/bin/python -m commands.query 'SELECT * FROM {quoted(table)} LIMIT 10'"


def by_table(quality: Report) -> dict[str, str]:
    """Rows of each table, where there are several."""
    tables = quality["tables"]
    return {"": join(f"{entry['table']} {entry['rows']:,}" for entry in tables)} if len(tables) > 1 else {}


def rows_of(report: Report) -> int:
    return sum(entry["rows"] for entry in report["tables"])


def conditions(extracted: Report, loaded: Report) -> dict[str, str]:
    """What the figures hold for, where that is not all users under their own ids."""
    said = {}
    users = next((entry["users"] for entry in extracted["made_from"] if entry["users"] != "all"), None)
    if users is not None:
        said["filter"] = f"only {count(int(users), 'user')} of extract.user_id"
    compared, columns = (sum(entry[key] for entry in loaded["tables"]) for key in ("columns_compared", "columns"))
    if compared < columns:
        said["pseudonyms"] = f"in place of ids; {compared} of {columns} columns were compared"
    return said


def values(quality: Report) -> dict[str, str]:
    """How many rows have each value of the columns that are counted, most first."""
    said = {}
    tables = chosen(TABLES, [entry["table"] for entry in quality["tables"]])
    names = [column for table in tables for column in table.counted]
    for table in tables:
        for column in table.counted:
            found = [entry for entry in quality["values"] if (entry["table"], entry["column"]) == (table.name, column)]
            most_first = sorted(found, key=lambda entry: (-entry["rows"], entry["value"] or "none"))
            name = column if names.count(column) == 1 else f"{table.name}.{column}"
            said[name] = join(f"{printable(entry['value'] or 'none')} {entry['rows']:,}" for entry in most_first)
    return said


def join(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "no rows"


def times(paths: Paths) -> str:
    """Seconds of each stage's last run on this machine; stages that never ran here are left out."""
    said = []
    for stage in STAGES:
        with suppress(OSError, ValueError, KeyError):  # none, or half a one
            seconds = json.loads(paths.note(stage).read_text(encoding="utf-8"))["seconds"]
            said.append(f"{stage} {float(seconds):.1f} s")
    return ", ".join(said)


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.summary", description=__doc__).parse_args()
    width = shutil.get_terminal_size((MAX_WIDTH, 24)).columns
    paths = project()
    print(summary(paths, load_params(paths.params), max(NARROW, min(width, MAX_WIDTH))))


if __name__ == "__main__":
    run("summary", main)
