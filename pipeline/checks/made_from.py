"""What decided the files and reports. Stages record it, and what is there now can be compared with it.

Only what decides a byte or a verdict: no batch size, no number of workers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.core.dataset import Dataset
from pipeline.core.days import Month
from pipeline.core.digest import Pin, total
from pipeline.core.inputs import CODE
from pipeline.core.params import Extract, Params, Validate
from pipeline.files import manifest
from pipeline.files.layout import sha256
from schemas.table import Table

ROOT = Path(__file__).absolute().parent.parent.parent

# A change in one of these may change the bytes of a file, or what passes.
RAW = (
    "pipeline/core/days.py",
    "pipeline/days/copy.py",
    "pipeline/days/slices.py",
    "pipeline/files/slices.py",
    "pipeline/files/writer.py",
    "pipeline/postgres/copy.py",
    "pipeline/postgres/statements.py",
    "schemas/table.py",
    "schemas/types.py",
)
CHECKED = (
    "pipeline/checks/batches.py",
    "pipeline/checks/chunks.py",
    "pipeline/checks/duplicates.py",
    "pipeline/checks/findings.py",
    "pipeline/checks/pins.py",
    "pipeline/core/digest.py",
    "pipeline/days/check.py",
    "schemas",
    "stages/validate.py",
)
# What else makes the report of a stage, and no file.
EXTRACT_REPORT = ("stages/extract.py",)
EXPORT_REPORT = (
    "pipeline/checks/figures.py",
    "pipeline/core/dataset.py",
    "pipeline/handover/card.py",
    "pipeline/handover/croissant.py",
    "pipeline/handover/datapackage.py",
    "pipeline/handover/described.py",
    "pipeline/handover/metadata.py",
    "stages/export.py",
)
EXPORTED = (
    "pipeline/core/days.py",
    "pipeline/days/export.py",
    "pipeline/files/pseudonyms.py",
    "pipeline/files/slices.py",
    "pipeline/files/writer.py",
    "schemas/table.py",
    "schemas/types.py",
)
LOADED = (
    *("pipeline/checks/reconcile.py", "pipeline/checks/references.py", "pipeline/days/compare.py"),
    *("schemas/types.py", "stages/load.py"),
)
REPORTED = (
    "pipeline/checks/counted.py",
    "pipeline/checks/facts.py",
    "pipeline/checks/quality.py",
    "pipeline/page",
    "stages/report.py",
)

CHECKING_LIBRARIES = ("pandera", "pandas", "pyarrow", "duckdb")

NO_PSEUDONYMS = "none"


def code(*places: str) -> str:
    """The fingerprint of modules, and of all in the folders among them."""
    found = [ROOT / place for place in places]
    return manifest.code(*(file for place in found for file in sorted(filter(Path.is_file, _files(place))) or [place]))


def _files(place: Path) -> list[Path]:
    return [file for kind in CODE for file in place.rglob(kind)]


def raw(table: Table, params: Extract) -> dict[str, str]:
    """Of the files of a table in data/raw; a day's own part is its pin."""
    users = {"users": "all"}
    if params.user_id and table.user:
        # Of the users only a hash: the report of files without rows of theirs shall not name them.
        sha256 = hashlib.sha256("\n".join(params.user_id).encode()).hexdigest()
        users = {"users": str(len(params.user_id)), "users_sha256": sha256}
    columns = table.fingerprint("raw")
    return {"table": table.name, **users, "columns": columns, "code": code(*RAW), **_versions("pyarrow")}


def raw_file(shared: Mapping[str, str], part: date, pins: Mapping[date, Pin]) -> str:
    """One hash for the file of a day or a month. `pins` are those of the days that it holds."""
    # Without its first day a month may hold the same rows.
    own = pins if isinstance(part, Month) else ()
    return manifest.made_from(shared, total(pins.values()), *map(str, own))


def checked(params: Validate) -> dict[str, Any]:
    """Of validation.json and data/quarantine, beside the files that were checked."""
    return {"mode": params.mode, **params.labels, "code": code(*CHECKED), **_versions(*CHECKING_LIBRARIES)}


def exported(table: Table, pseudonyms: str) -> dict[str, str]:
    """Of the files of a table in data/export; a day's own part is the raw file and the rows left out.

    `pseudonyms` is the fingerprint of their key, or NO_PSEUDONYMS.
    """
    key = pseudonyms if any(column.pseudonym for column in table.columns) else NO_PSEUDONYMS
    columns = table.fingerprint("export")
    return {
        "table": table.name,
        "pseudonyms": key,
        "columns": columns,
        "code": code(*EXPORTED),
        **_versions("pyarrow"),
    }


def export_report(dataset: Dataset) -> dict[str, str]:
    """Of quality.json and the files that describe the export, beside what the files of the tables are made from.

    Of the dataset only a hash: the report need not name people.
    """
    return {"report": code(*EXPORT_REPORT), "dataset_sha256": hashlib.sha256(repr(dataset).encode()).hexdigest()}


def loaded(params: Params) -> dict[str, Any]:
    """Of load.json, beside the files that were loaded and compared."""
    chosen = {"strategy": params.load.strategy, "pseudonymize": params.export.pseudonymize}
    return {**chosen, "code": code(*LOADED), **_versions("duckdb")}


def reported(params: Params) -> dict[str, Any]:
    """Of checks.json and data/report, beside the files that were judged."""
    # A plain value, as it comes back from a report.
    thresholds = {
        name: {"limit": one.limit, "level": one.level, "each": {which: own._asdict() for which, own in one.each}}
        for name, one in params.quality._asdict().items()
    }
    text = json.dumps(thresholds)
    return {
        "quality_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **params.validate.labels,
        "code": code(*REPORTED),
        **_versions("duckdb", "jinja2"),
    }


def judged(exported: manifest.Files, watermark: Path) -> dict[str, str]:
    """The files that the quality checks were put to, each with its SHA-256."""
    return {"data/export": manifest.sha256_of(exported), "watermark.yaml": sha256(watermark)}


def _versions(*libraries: str) -> Mapping[str, str]:
    return {name: _version(name) for name in libraries}


def _version(library: str) -> str:
    if library in sys.modules:
        return str(sys.modules[library].__version__)
    from importlib import metadata  # 0.04 s that a process which has the library need not spend

    return metadata.version(library)
