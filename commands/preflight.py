"""Check params.yaml, watermark.yaml and dvc.lock before DVC reads them: its own words about them help nobody."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import params, watermark
from pipeline.core.process import run


def mend_lock(lock: Path) -> None:
    """Remove a dvc.lock that is empty, as kill -9 of DVC leaves it in a bad moment; the next run makes it again."""
    if lock.exists() and not lock.read_bytes().strip():
        lock.unlink()
        print(f"params: notice: {lock} was empty, as a killed run may leave it; this run makes it again")


def main() -> None:
    mend_lock(Path("dvc.lock"))
    wish = params.load(Path("params.yaml"))
    pins = Path("watermark.yaml")
    watermark.pinned(watermark.load(pins), wish.extract.days, pins)


if __name__ == "__main__":
    run("params", main)
