"""Print the data dictionary of data/export: each column, and each key within JSON, what it must be and what it holds.

No id and no free text is in it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.reports import read_report
from pipeline.files import manifest
from pipeline.files.layout import day_path
from pipeline.handover.described import Part, described
from pipeline.handover.dictionary import dictionary
from pipeline.handover.looked import look
from schemas.tables import TABLES, chosen


def page(paths: Paths) -> str:
    """The page in Markdown. Raises DataError where data/export is not what `export` wrote."""
    params = load_params(paths.params)
    tables = chosen(TABLES, params.tables)
    files = manifest.read(paths.quality_report, tables)
    manifest.check(paths.quality_report, paths.export, files)
    there = {name: {day: day_path(paths.export / name, day) for day in days} for name, days in files.items()}
    parts = [
        (table, [Part(day, str(there[table.name][day]), file.rows, 0, file.sha256) for day, file in days.items()])
        for table in tables
        for days in [files[table.name]]
    ]
    of = described(
        params.dataset,
        parts,
        read_report(paths.extract_report, "made_from", "window"),
        read_report(paths.validation_report, "made_from", "tables"),
        params.export.pseudonymize,
    )
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as spill:
        looked = {table.name: look(table, list(there[table.name].values()), Path(spill)) for table in tables}
    return dictionary(of, looked)


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.dictionary", description=__doc__).parse_args()
    print(page(project()), end="")


if __name__ == "__main__":
    run("dictionary", main)
