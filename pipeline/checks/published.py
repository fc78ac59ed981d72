"""Whether data/export is what the last run published."""

from __future__ import annotations

from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.reports import read_report
from pipeline.files import manifest
from schemas.tables import TABLES, chosen


def check_export(paths: Paths) -> None:
    """Raise DataError when a view would answer from other files than `export` wrote and `load` compared."""
    if read_report(paths.load_report, "made_from")["made_from"][0]["strategy"] != "view":
        return
    manifest.check(
        paths.quality_report,
        paths.export,
        manifest.read(paths.quality_report, chosen(TABLES, load_params(paths.params).tables)),
    )
