"""Whether the reports are those that params.yaml, watermark.yaml and the code ask for, and dvc.lock has.

A stage compares its inputs when it publishes, and DVC takes their hashes a moment later. What is saved in between
stands in dvc.lock, and `dvc repro` has nothing to do: only what a report was made from tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.checks import made_from
from pipeline.checks.made_from import NO_PSEUDONYMS
from pipeline.core import lock, watermark
from pipeline.core.days import divided, in_months, word
from pipeline.core.errors import DataError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.progress import count
from pipeline.core.reports import read_report
from pipeline.core.verdict import FAILED
from pipeline.files import manifest
from pipeline.files.layout import md5 as md5_of
from pipeline.files.layout import quarantined_rows
from pipeline.files.manifest import Files
from schemas.tables import TABLES, chosen

# A plain `dvc repro` runs what DVC knows to have changed. It does not know what was saved between the end of a stage
# and its own look at the files.
NEXT = "dvc repro; where that runs nothing, dvc repro --force"

# After a run whose quality checks failed.
LOOK = "look at {}, and at the source; where all is well, another limit or level in params.yaml, then dvc repro"

# What stands in a report as a hash, in words.
HASHED = {"quality_sha256": "quality thresholds", "dataset_sha256": "words on the dataset"}


def check_current(paths: Paths, params: Params) -> None:
    """Raise DataError that names the first stage whose report or output is not what it should be, and why."""
    try:
        found = next(differences(paths, params), None)
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        found = ("a stage", "a report of another form than this code writes")
    if found is not None:
        stage, why = found
        raise DataError(
            f"what {stage} left is not what is asked for now: {why}",
            where=str(paths.reports),
            expected="the outputs of one finished run of what params.yaml, watermark.yaml and the code say",
            next_step=LOOK.format(paths.page) if "quality check" in why else NEXT,
        )


def differences(paths: Paths, params: Params, stages: int = 5) -> Iterator[tuple[str, str]]:
    """Each of the first `stages` stages whose report is of other inputs than are there, or of another run, and why."""
    raw = manifest.read(paths.extract_report, chosen(TABLES, params.tables))
    locked = lock.load(paths.dvc_lock)
    looks = {
        "extract": (extracted, paths.extract_report),
        "validate": (validated, paths.validation_report),
        "export": (exported, paths.quality_report),
        "load": (loaded, paths.load_report),
        "report": (reported, paths.checks_report),
    }
    for stage, (look, report) in list(looks.items())[:stages]:
        yield from ((stage, why) for why in look(paths, params, raw))
        yield from ((stage, why) for why in other_report(paths, report, locked))


def extracted(paths: Paths, params: Params, raw: Files) -> Iterator[str]:
    pinned = watermark.load(paths.watermark)
    report = read_report(paths.extract_report, "made_from", "days")
    listed, read = report["made_from"], report["days"]
    for table, entry in zip(chosen(TABLES, params.tables), listed, strict=False):
        shared = made_from.raw(table, params.extract)
        if others := list(other(entry, {**shared, "stage": made_from.code(*made_from.EXTRACT_REPORT)})):
            yield from others
            continue  # then the days are others, too
        pins = watermark.pinned(pinned, table, params.extract.days)
        parts = divided(pins, params.extract.files == "month")
        if in_months(raw[table.name]) != in_months(parts):
            yield f"it wrote files of a {word(raw[table.name])}, and extract.files says {params.extract.files}"
            continue
        if read != len(pins) and table.time is not None:
            yield f"it read {count(read, 'day')}, and extract.days says {len(pins)}"
            continue
        wanted = {
            part: made_from.raw_file(shared, part, {day: pins[day] for day in days}) for part, days in parts.items()
        }
        yield from other_days(raw[table.name], wanted, "pins in watermark.yaml")


def validated(paths: Paths, params: Params, raw: Files) -> Iterator[str]:
    report = read_report(paths.validation_report, "failed_rows", "made_from", "checked")
    yield from other(report["made_from"][0], made_from.checked(params.validate))
    checked = {entry["files"]: entry["sha256"] for entry in report["checked"]}
    if checked.get("data/raw") != manifest.sha256_of(raw):
        yield "it checked other files than those of extract.json"
    if report["failed_rows"] and params.validate.mode == "strict":
        yield f"{count(report['failed_rows'], 'row')} broke the contract"


def exported(paths: Paths, params: Params, raw: Files) -> Iterator[str]:
    report = read_report(paths.quality_report, "made_from")
    files = manifest.read(paths.quality_report, chosen(TABLES, params.tables))
    aside = read_report(paths.validation_report, "failed_rows")["failed_rows"]
    for table, entry in zip(chosen(TABLES, params.tables), report["made_from"], strict=False):
        key = entry["pseudonyms"]
        if any(column.pseudonym for column in table.columns) and params.export.pseudonymize != (key != NO_PSEUDONYMS):
            yield f"{table.name} was exported {'without' if key == NO_PSEUDONYMS else 'with'} pseudonyms"
        shared = made_from.exported(table, key)
        if others := list(other(entry, {**shared, **made_from.export_report(params.dataset)})):
            yield from others
            continue
        if aside and not paths.quarantined(table.name).exists():
            continue  # in a clone without data, which rows were left out can't be told
        bad = quarantined_rows(paths.quarantined(table.name), in_months(raw[table.name])) if aside else {}
        wanted = {
            day: manifest.made_from(shared, file.sha256, bad.get(day, ())) for day, file in raw[table.name].items()
        }
        yield from other_days(files[table.name], wanted, "files in data/raw")


def loaded(paths: Paths, params: Params, raw: Files) -> Iterator[str]:
    report = read_report(paths.load_report, "equal", "made_from", "compared")
    yield from other(report["made_from"][0], made_from.loaded(params))
    compared = {entry["files"]: entry["sha256"] for entry in report["compared"]}
    files = {"data/raw": raw, "data/export": manifest.read(paths.quality_report, chosen(TABLES, params.tables))}
    if compared != {name: manifest.sha256_of(listed) for name, listed in files.items()}:
        yield "it compared other files than those of extract.json and quality.json"
    if not report["equal"]:
        yield "it found rows that are missing, too many or not the same"


def reported(paths: Paths, params: Params, _: Files) -> Iterator[str]:
    report = read_report(paths.checks_report, "made_from", "judged")
    yield from other(report["made_from"][0], made_from.reported(params))
    exported = manifest.read(paths.quality_report, chosen(TABLES, params.tables))
    judged = {entry["files"]: entry["sha256"] for entry in report["judged"]}
    if judged != made_from.judged(exported, paths.watermark):
        yield "it judged other files than those of quality.json, or another watermark.yaml"


def other(recorded: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What was otherwise when a report was made."""
    names = [name for name in sorted(recorded | now) if _plain(recorded.get(name)) != _plain(now.get(name))]
    if names:
        yield "it ran with other " + ", ".join(HASHED.get(name, name) for name in names)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def other_days(files: Mapping[date, manifest.File], wanted: Mapping[date, str], of: str) -> Iterator[str]:
    days = sorted(d for d in files.keys() | wanted.keys() if d not in files or files[d].made_from != wanted.get(d))
    if days:
        yield f"{count(len(days), word(wanted))} of other {of}, the first is {days[0]}"


def other_report(paths: Paths, report: Path, locked: Mapping[str, str]) -> Iterator[str]:
    """Whether dvc.lock has another report: the run of the stage did not end, or Git brought another version."""
    md5 = locked.get(str(report.relative_to(paths.root)))
    if md5 is None or md5 == md5_of(report):
        return
    if report == paths.checks_report and (said := read_report(report, "verdict", "sentence"))["verdict"] == FAILED:
        yield f"{said['sentence'][0]}; {paths.page} says more"
    else:
        yield f"its last run did not end, or Git brought another version: {report} is not the one of dvc.lock"


def check_database(paths: Paths) -> None:
    """Raise DataError unless data/analytics.duckdb is the one of dvc.lock: Git brings the reports and not the data."""
    md5 = lock.load(paths.dvc_lock).get(str(paths.database.relative_to(paths.root)))
    if not paths.database.exists():
        raise DataError(
            f"there is no {paths.database}",
            where=str(paths.database),
            expected="the database that the load stage makes",
            next_step="dvc pull, or make repro",
        )
    if md5 is not None and md5 != md5_of(paths.database):
        raise DataError(
            f"{paths.database} is of another version than dvc.lock",
            where=str(paths.database),
            expected="the database that belongs to the reports",
            next_step="dvc checkout (dvc pull, where it never was), or dvc repro",
        )
