"""Whether data/export is what the last run published."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import DataError
from pipeline.files import seal
from pipeline.files.layout import read_report


def check_files(root: Path) -> None:
    """Raise DataError when a view would answer from other files than `export` wrote and `load` compared."""
    strategy = read_report(root / "data/reports/load.json", "strategy")["strategy"]
    wrote = read_report(root / "data/reports/quality.json", "export_sha256")["export_sha256"]
    export = root / "data/export/behavioral_events"
    if strategy == "view" and seal.digest_of(seal.checksums(export)) != wrote:
        raise DataError(
            "data/export is not what export wrote",
            where=str(export),
            expected="the files that analytics.duckdb was made for, by the checksum in data/reports/quality.json",
            next_step="dvc pull where the data never was; else dvc repro --force --single-item export, then dvc repro",
        )
