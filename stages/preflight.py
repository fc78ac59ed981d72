"""Check params.yaml and watermark.yaml before DVC reads them: its own words about a stray date help nobody."""

from __future__ import annotations

from pathlib import Path

from stages.shared import params, watermark
from stages.shared.errors import run


def main() -> None:
    wish = params.load(Path("params.yaml"))
    pins = Path("watermark.yaml")
    watermark.pinned(watermark.load(pins), wish.extract.days, pins)


if __name__ == "__main__":
    run("params", main)
