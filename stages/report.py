"""Say at a glance whether the snapshot can be used: data/report/quality.html, its series for plots, and checks.json.

Counts data/export and puts the thresholds of `quality:` in params.yaml to it, to the reports and to what refresh noted
in watermark.yaml. Where a check of level fail is past its limit, all is written and the stage ends with 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from pipeline.checks import made_from, quality
from pipeline.checks.counted import Counted, counted
from pipeline.checks.facts import Facts, marked
from pipeline.checks.quality import Result
from pipeline.core import watermark
from pipeline.core.days import in_months
from pipeline.core.errors import QualityError
from pipeline.core.inputs import Inputs
from pipeline.core.params import Params, Quality, Threshold
from pipeline.core.paths import Paths
from pipeline.core.process import run_stage
from pipeline.core.progress import count
from pipeline.core.reports import read_report, window_of
from pipeline.core.verdict import FAILED, SIGNS
from pipeline.core.watermark import Moved, Watermark
from pipeline.engine.executor import workers
from pipeline.files import manifest
from pipeline.files.layout import day_path, replacing_files, write_report
from pipeline.files.manifest import File
from pipeline.page.render import Line, MovedDay, Null, Page, Part, Phase, Type, render
from pipeline.page.series import series
from schemas.tables import TABLES, chosen

# Findings on the first screen.
WORST = 3

# How rows in no experiment phase are named.
NO_PHASE = "none"


def report(paths: Paths, params: Params) -> None:
    """Make data/report and checks.json. Raises QualityError, after that, when a check failed."""
    reports = [paths.extract_report, paths.validation_report, paths.quality_report, paths.load_report, paths.watermark]
    inputs = Inputs(
        paths,
        params,
        lambda p: (p.tables, p.quality, p.validate.experiment_phases, p.extract.user_id),
        reports,
        [paths.export],
    )
    tables = chosen(TABLES, params.tables)
    quality.check_names(TABLES, params.quality)
    asked = made_from.reported(params)
    exported = manifest.read(paths.quality_report, tables)
    with workers("report") as run:
        manifest.check(paths.quality_report, paths.export, exported, run)
    pinned = watermark.load(paths.watermark, inputs.text(paths.watermark))
    found = {
        table.name: counted(
            table,
            [day_path(paths.export / table.name, day) for day in exported[table.name]],
            params.validate.experiment_phases,
            in_months(exported[table.name]),
        )
        for table in tables
    }
    asked_users = len(params.extract.user_id)
    facts = [
        of_table(paths, pinned, found[table.name], exported[table.name], asked_users)._replace(daily=table.daily)
        for table in tables
    ]
    results = [result for one in facts for result in quality.judge(one, params.quality)]
    validated = read_report(paths.validation_report, "checks", "failures")
    made = read_report(paths.quality_report, "made_from")["made_from"]
    known = Known(
        pinned.until,
        pinned.moved,
        validated["checks"],
        [(f"{one['table']}.{one['column']}.{one['check']}", one["rows"]) for one in validated["failures"]],
        any(entry["pseudonyms"] != made_from.NO_PSEUDONYMS for entry in made),
        manifest.sha256_of(exported),
    )
    page = page_of(facts, found, results, params, known)
    with replacing_files(paths.report) as staging:
        (staging / "quality.html").write_text(render(page), encoding="utf-8")
        for name, text in series(page.parts).items():
            (staging / f"{name}.csv").write_text(text, encoding="utf-8")
        judged = made_from.judged(exported, paths.watermark)
        inputs.check()
    write_report(paths.checks_report, content(asked, results, judged))
    said = f"{SIGNS[page.verdict]} {page.sentence}"
    worst = quality.worst_first(results)
    told = [f"report: {one.verdict}: {named(one, len(tables))}" for one in worst]
    print("\n".join([f"report: {said}; {paths.page}", *told]))
    if bad := [one for one in results if one.verdict == FAILED]:
        raise QualityError(
            f"{count(len(bad), 'quality check')} failed: {named(bad[0], len(tables))}",
            where=str(paths.page),
            expected=f"quality.{bad[0].check.partition(' ')[0]} in params.yaml",
            next_step=f"look at {paths.page}, and at the source; where all is well, another limit or level there",
        )


def named(result: Result, tables: int) -> str:
    return f"{result.table}: {result.words}" if tables > 1 else result.words


def of_table(paths: Paths, pinned: Watermark, found: Counted, files: Mapping[date, File], asked_users: int) -> Facts:
    name = found.table
    nulls = read_report(paths.quality_report, "nulls")["nulls"]
    checked = {entry["table"]: entry for entry in read_report(paths.validation_report, "tables")["tables"]}
    return Facts(
        table=name,
        until=pinned.until,
        rows=rows_of_days(paths, found, files),
        types=found.types,
        nulls={entry["column"]: entry["rows"] for entry in nulls if entry["table"] == name},
        users=found.users,
        asked=asked_users,
        last=found.last,
        quarantined=checked[name]["failed_rows"],
        backwards=found.backwards,
        moved=pinned.moved,
    )


def rows_of_days(paths: Paths, found: Counted, files: Mapping[date, File]) -> dict[date, int]:
    """The rows of each day of the window."""
    if not in_months(files):
        return {day: file.rows for day, file in files.items()}
    begin, until = window_of(paths.extract_report)
    return {day: found.days.get(day, 0) for day in watermark.window(until, (until - begin).days)}


class Known(NamedTuple):
    """What else the page says of a snapshot."""

    until: date
    moved: Moved | None
    rules: Sequence[str]
    failures: Sequence[tuple[str, int]]
    pseudonyms: bool
    sha256: str


def page_of(
    facts: Sequence[Facts], found: Mapping[str, Counted], results: Sequence[Result], params: Params, known: Known
) -> Page:
    return Page(
        until=known.until,
        verdict=quality.overall(results),
        sentence=quality.sentence(results),
        worst=[line(one) for one in quality.worst_first(results)[:WORST]],
        checks=[line(one) for one in results],
        headlines=list(headlines(facts, params, known)),
        parts=[part(one, found[one.table], params.quality) for one in facts],
        moved=words_of(known.moved),
        moved_days=list(moved_days(known.moved)),
        rules=known.rules,
        failures=known.failures,
        sha256=known.sha256,
    )


def headlines(facts: Sequence[Facts], params: Params, known: Known) -> Iterator[tuple[str, str]]:
    """The figures of the first screen, and what they hold for where that is not all users under their own ids."""
    days = sorted({day for one in facts for day in one.rows})
    yield "window (UTC)", f"{days[0]} to {known.until} (exclusive), {count(len(days), 'day')}"
    for one in facts:
        yield one.table if len(facts) > 1 else "rows", f"{sum(one.rows.values()):,}"
    yield "users", f"{max((one.users for one in facts if one.users is not None), default=0):,}"
    last = max((one.last for one in facts if one.last is not None), default=None)
    yield "last event", f"{last:%Y-%m-%d %H:%M}" if last else "none"
    number = sum(map(len, known.moved.tables.values())) if known.moved else 0
    yield "moved since the pin before", "no pin before" if known.moved is None else count(number, "day")
    if params.extract.user_id:
        yield "filter", f"only {count(len(params.extract.user_id), 'user')} of extract.user_id"
    if known.pseudonyms:
        yield "ids", "pseudonyms"


def line(one: Result) -> Line:
    return Line(one.check, one.table, one.verdict, one.value, one.limit, one.words)


def part(facts: Facts, found: Counted, thresholds: Quality) -> Part:
    total = sum(facts.rows.values())
    return Part(
        table=facts.table,
        rows=facts.rows,
        marks=marked(facts, thresholds.day_rows.limit),
        types=[
            Type(name, rows, past(name, rows / total, thresholds.largest_type), min(days), max(days))
            for name, days in facts.types.items()
            for rows in [sum(days.values())]
        ],
        nulls=[
            Null(
                name, rows, bool(rows) and past(name, rows / total, thresholds.nulls), limit_of(name, thresholds.nulls)
            )
            for name, rows in facts.nulls.items()
        ],
        phases=[
            Phase(one.name or NO_PHASE, one.rows, one.users, one.scored, one.score_sum, one.quartiles)
            for one in found.phases
        ],
        hours=found.hours,
    )


def limit_of(name: str, threshold: Threshold) -> float | None:
    own = dict(threshold.each).get(name, threshold)
    return None if own.level == "off" else own.limit


def past(name: str, share: float, threshold: Threshold) -> bool:
    limit = limit_of(name, threshold)
    return limit is not None and share > limit


def words_of(moved: Moved | None) -> str:
    if moved is None:
        return "There was no pin before."
    number = sum(map(len, moved.tables.values()))
    words = f"The window of the pin before ended at {moved.before}. Of the days that both pin, "
    words += f"{count(number, 'day')} moved." if number else "none moved."
    return words + (f" Accepted: {', '.join(moved.accepted)}." if moved.accepted else "")


def moved_days(moved: Moved | None) -> Iterator[MovedDay]:
    """Newest first."""
    for table, changes in moved.tables.items() if moved else ():
        yield from (MovedDay(table, day, *change) for day, change in sorted(changes.items(), reverse=True))


def content(asked: Mapping[str, Any], results: list[Result], judged: Mapping[str, str]) -> dict[str, Any]:
    """checks.json: the verdict, and lists of what was judged and what each check found."""
    return {
        "verdict": quality.overall(results),
        "sentence": [quality.sentence(results)],  # in a list, which DVC leaves out of its table of metrics
        "made_from": [dict(asked)],
        "judged": [{"files": files, "sha256": sha256} for files, sha256 in judged.items()],
        "checks": [one._asdict() for one in results],
    }


if __name__ == "__main__":
    run_stage("report", report, __doc__)
