"""Open the quality page in the browser; without one, say where it is."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser

from pipeline.core.errors import DataError
from pipeline.core.process import project, run


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.show", description=__doc__).parse_args()
    paths = project()
    if not paths.page.exists():
        raise DataError(
            f"there is no {paths.page}",
            where=str(paths.report),
            expected="the page that the report stage makes",
            next_step="make repro, or dvc pull",
        )
    print(f"show: {paths.page}")
    failed = paths.failed / paths.page.name
    if failed.exists():
        print(f"show: notice: a night failed since; its page is {failed}")
    seen = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if seen and sys.stdout.isatty():
        webbrowser.open(paths.page.absolute().as_uri())


if __name__ == "__main__":
    run("show", main)
