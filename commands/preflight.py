"""Check params.yaml, watermark.yaml and dvc.lock before DVC does, for a message with the key and the next step."""

from __future__ import annotations

import argparse
import json

from pipeline.checks.declared import check_declared
from pipeline.checks.quality import check_names
from pipeline.core import watermark
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files.layout import remove_dangling_links
from schemas.tables import TABLES, chosen


def preflight(paths: Paths) -> None:
    """Raise ParamsError or PinError that says what can't be meant."""
    mend_lock(paths)
    mend_rwlock(paths)
    mend_links(paths)
    params = load_params(paths.params)
    check_declared(TABLES)
    tables = chosen(TABLES, params.tables)
    check_names(TABLES, params.quality)
    pinned = watermark.load(paths.watermark)
    for table in tables:
        watermark.pinned(pinned, table, params.extract.days)


def mend_lock(paths: Paths) -> None:
    """Remove a dvc.lock that is empty, as kill -9 of DVC leaves it in a bad moment; the next run makes it again."""
    if paths.dvc_lock.exists() and not paths.dvc_lock.read_bytes().strip():
        paths.dvc_lock.unlink()
        print(f"params: notice: {paths.dvc_lock} was empty, as a killed run may leave it; this run makes it again")


def mend_rwlock(paths: Paths) -> None:
    """Remove .dvc/tmp/rwlock where it is no JSON, as kill -9 of DVC leaves it; every later run would end with it."""
    try:
        json.loads(paths.rwlock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        paths.rwlock.unlink()
        print(f"params: notice: {paths.rwlock} was cut off, as a killed run may leave it; DVC makes it again")


def mend_links(paths: Paths) -> None:
    """Remove links to files that DVC's cache no longer has (cache.type symlink); the run makes the files again."""
    if number := remove_dangling_links(paths.data):
        print(f"params: notice: {count(number, 'link')} in {paths.data} led nowhere; this run makes the files again")


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.preflight", description=__doc__).parse_args()
    preflight(project())


if __name__ == "__main__":
    run("params", main)
