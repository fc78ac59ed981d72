"""params.yaml as a frozen value; refuses unknown, missing and wrongly typed keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from pipeline.core import dataset
from pipeline.core.dataset import Dataset
from pipeline.core.errors import ParamsError
from schemas.rules import ID
from schemas.tables import TABLES

Mode = Literal["strict", "quarantine"]
Strategy = Literal["view", "table"]
FileOf = Literal["day", "month"]
Level = Literal["off", "warn", "fail"]

# PostgreSQL's timestamps reach back to 4713 BC, Python's dates to year 1; a century is more than any app has.
MAX_DAYS = 36_525
MAX_WORKERS = 64


class Extract(NamedTuple):
    days: int
    user_id: tuple[str, ...]  # empty: every user
    batch_size: int
    workers: int
    files: FileOf  # what each of them holds


class Source(NamedTuple):
    application_name: str
    statement_timeout: int  # seconds; 0: none
    lock_timeout: int  # seconds; 0: none
    stall_timeout: int  # seconds; 0: none
    attempts: int
    retry_wait: float  # seconds before the second attempt; doubled for each after it


class Validate(NamedTuple):
    mode: Mode
    experiment_phases: tuple[str, ...]
    failure_cases: int
    report_values: bool

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The values that params.yaml has for rules, by the name of their param."""
        return {"experiment_phases": self.experiment_phases}


class Export(NamedTuple):
    pseudonymize: bool


class Load(NamedTuple):
    strategy: Strategy


class Threshold(NamedTuple):
    """What is still good, and what it means where it is not. `each`: others for some columns or event types."""

    limit: float
    level: Level
    each: tuple[tuple[str, Threshold], ...] = ()


class Quality(NamedTuple):
    """The thresholds of a whole snapshot; pipeline.checks.quality says what each looks at."""

    rows: Threshold
    last_day: Threshold
    day_rows: Threshold  # each: event types
    empty_days: Threshold
    shrunk_days: Threshold
    emptied_days: Threshold
    vanished_types: Threshold
    new_types: Threshold
    largest_type: Threshold  # each: event types
    users: Threshold
    nulls: Threshold  # each: columns
    last_event: Threshold
    quarantined: Threshold
    phases_backwards: Threshold


# The highest limit that can be meant: a share, or a number of rows, days, types or hours. The lowest is 0.
SHARE, NUMBER = 1.0, 1e12
HIGHEST = {
    "day_rows": NUMBER,  # a share, too, but a day may have many times the rows of others
    "shrunk_days": SHARE,
    "largest_type": SHARE,
    "nulls": SHARE,
    "quarantined": SHARE,
}
WITH_EACH = ("day_rows", "largest_type", "nulls")


class Night(NamedTuple):
    time_limit: int  # seconds, of the whole
    lock_wait: int  # seconds


class Params(NamedTuple):
    tables: tuple[str, ...]
    source: Source
    extract: Extract
    validate: Validate
    export: Export
    load: Load
    quality: Quality
    night: Night
    dataset: Dataset


def _error(path: Path, key: str, found: object, expected: str) -> ParamsError:
    kind = "nothing" if found is None else f"{found!r} ({type(found).__name__})"
    return ParamsError(
        f"params: {key} is {kind}",
        where=f"{path}, key {key}",
        expected=expected,
        next_step=f"edit {path} (or the -S {key}=... of dvc exp run) and run dvc repro again",
    )


def _integer(path: Path, key: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _error(path, key, value, f"a whole number from {low} to {high}")
    return value


def _seconds(path: Path, key: str, value: object, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise _error(path, key, value, f"seconds from 0 to {high:g}")
    return float(value)


def _flag(path: Path, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _error(path, key, value, "true or false")
    return value


def _name(path: Path, key: str, value: object) -> str:
    # PostgreSQL keeps 63 bytes and replaces what is not printable ASCII.
    if not isinstance(value, str) or not re.fullmatch(r"[ -~]{1,63}", value):
        raise _error(path, key, value, "1 to 63 printable ASCII characters")
    return value


def _choice(path: Path, key: str, value: object, choices: tuple[str, ...]) -> Any:
    if value not in choices or not isinstance(value, str):
        raise _error(path, key, value, "one of " + ", ".join(choices))
    return value


def _tables(path: Path, key: str, value: object) -> tuple[str, ...]:
    known = [table.name for table in TABLES]
    if not isinstance(value, list) or not value or not all(name in known for name in value):
        raise _error(
            path, key, value, f"a list with at least one of {', '.join(known)}, the tables of schemas/tables.py"
        )
    return tuple(name for name in known if name in value)


def _users(path: Path, key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    users = value if isinstance(value, list) else [value]
    for user in users:
        number = isinstance(user, int) and not isinstance(user, bool) and 0 <= user < 2**63
        if not number and not (isinstance(user, str) and re.fullmatch(ID, user)):
            raise _error(path, key, user, "null, one id of a user (a cuid, a uuid or a number) or a list of them")
    if not users:
        raise _error(path, key, value, "null for every user, or a list with at least one id")
    return tuple(sorted({str(user) for user in users}))


def _labels(path: Path, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise _error(path, key, value, "a list of phase labels, each a text")
    if "none" in value:
        raise _error(path, key, "none", "labels other than none, which stands for no phase in quality.json")
    return tuple(value)


def _threshold(path: Path, name: str, value: object, each: bool) -> Threshold:
    key = f"quality.{name}"
    keys = ("limit", "level", "each") if each else ("limit", "level")
    data = _group(path, {"each": {}, **value} if each and isinstance(value, dict) else value, key, keys)
    limit, high = data["limit"], HIGHEST.get(name.partition(".")[0], NUMBER)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= high:
        raise _error(path, f"{key}.limit", limit, "a share from 0 to 1" if high == SHARE else "a number from 0 on")
    level: Level = _choice(path, f"{key}.level", data["level"], get_args(Level))
    if not each:
        return Threshold(limit, level)
    if not isinstance(data["each"], dict) or not all(isinstance(one, str) for one in data["each"]):
        raise _error(path, f"{key}.each", data["each"], "names, each with a limit and a level of its own")
    some = sorted(data["each"].items())
    return Threshold(
        limit, level, tuple((one, _threshold(path, f"{name}.each.{one}", own, False)) for one, own in some)
    )


def _dataset(path: Path, value: object) -> Dataset:
    data = _group(path, value, "dataset", Dataset._fields)
    if found := dataset.problem(data):
        name, held, expected = found
        raise _error(path, f"dataset.{name}", held, expected)
    return dataset.of_params(data)


def load_yaml(path: Path, text: str | None = None) -> Any:
    """The content of a YAML file, whose text may be at hand; ParamsError when it is missing or no YAML."""
    # The C loader reads the year of days in watermark.yaml ten times faster.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8") if text is None else text, loader)
    except FileNotFoundError:
        problem, step = "is missing", f"git checkout -- {path}"
        if path.name == "watermark.yaml":
            step = f"git checkout -- {path}; where there never was one, python -m commands.refresh"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem, step = f"is no YAML: {' '.join(str(error).split())}", f"mend {path}, or git checkout -- {path}"
    raise ParamsError(f"{path.name} {problem}", where=str(path), expected="a YAML file", next_step=step)


def _group(path: Path, data: object, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _error(path, name, data, "the keys " + ", ".join(keys))
    for key in data:
        if key not in keys:
            raise ParamsError(
                f"params: unknown key {name + '.' if name else ''}{key}",
                where=str(path),
                expected="only " + ", ".join(keys),
                next_step=f"remove or rename the key in {path}",
            )
    for key in keys:
        if key not in data:
            raise ParamsError(
                f"params: missing key {name + '.' if name else ''}{key}",
                where=str(path),
                expected="all of " + ", ".join(keys),
                next_step=f"add the key to {path}; git log -p -- {path.name} shows its default",
            )
    return data


def load_params(path: Path) -> Params:
    """Read params.yaml. Raises ParamsError that names the key, what it holds and what it may hold."""
    top = _group(path, load_yaml(path), "", Params._fields)
    source = _group(path, top["source"], "source", Source._fields)
    extract = _group(path, top["extract"], "extract", Extract._fields)
    export = _group(path, top["export"], "export", Export._fields)
    validate = _group(path, top["validate"], "validate", Validate._fields)
    load_ = _group(path, top["load"], "load", Load._fields)
    quality = _group(path, top["quality"], "quality", Quality._fields)
    night = _group(path, top["night"], "night", Night._fields)
    return Params(
        tables=_tables(path, "tables", top["tables"]),
        source=Source(
            application_name=_name(path, "source.application_name", source["application_name"]),
            statement_timeout=_integer(path, "source.statement_timeout", source["statement_timeout"], 0, 86_400),
            lock_timeout=_integer(path, "source.lock_timeout", source["lock_timeout"], 0, 86_400),
            stall_timeout=_integer(path, "source.stall_timeout", source["stall_timeout"], 0, 86_400),
            attempts=_integer(path, "source.attempts", source["attempts"], 1, 100),
            retry_wait=_seconds(path, "source.retry_wait", source["retry_wait"], 3_600),
        ),
        extract=Extract(
            days=_integer(path, "extract.days", extract["days"], 1, MAX_DAYS),
            user_id=_users(path, "extract.user_id", extract["user_id"]),
            batch_size=_integer(path, "extract.batch_size", extract["batch_size"], 1, 10_000_000),
            workers=_integer(path, "extract.workers", extract["workers"], 1, MAX_WORKERS),
            files=_choice(path, "extract.files", extract["files"], get_args(FileOf)),
        ),
        validate=Validate(
            mode=_choice(path, "validate.mode", validate["mode"], get_args(Mode)),
            experiment_phases=_labels(path, "validate.experiment_phases", validate["experiment_phases"]),
            failure_cases=_integer(path, "validate.failure_cases", validate["failure_cases"], 0, 1_000_000),
            report_values=_flag(path, "validate.report_values", validate["report_values"]),
        ),
        export=Export(pseudonymize=_flag(path, "export.pseudonymize", export["pseudonymize"])),
        load=Load(strategy=_choice(path, "load.strategy", load_["strategy"], get_args(Strategy))),
        quality=Quality(**{name: _threshold(path, name, quality[name], name in WITH_EACH) for name in Quality._fields}),
        night=Night(
            time_limit=_integer(path, "night.time_limit", night["time_limit"], 1, 86_400),
            lock_wait=_integer(path, "night.lock_wait", night["lock_wait"], 0, 86_400),
        ),
        dataset=_dataset(path, top["dataset"]),
    )
