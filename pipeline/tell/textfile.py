"""Figures of the last run for Prometheus' node_exporter, in a file of PROMETHEUS_TEXTFILE_DIR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "behavioral_events.prom"


def write(
    folder: Path, figures: Mapping[str, tuple[str, float]], checks: Mapping[tuple[str, str], Mapping[str, Any]]
) -> None:
    """`figures`: names without prefix, with help and value; `checks`: by check and table value, limit and verdict."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    for name, (words, figure) in figures.items():
        Gauge(f"behavioral_events_{name}", words, registry=registry).set(figure)
    labels = ["check", "table"]
    value = Gauge("behavioral_events_quality_value", "What a quality check found.", labels, registry=registry)
    limit = Gauge("behavioral_events_quality_limit", "The limit of a quality check.", labels, registry=registry)
    good = Gauge("behavioral_events_quality_passed", "1: within its limit; 0: not.", labels, registry=registry)
    for (check, table), one in checks.items():
        if one["value"] is not None:
            value.labels(check, table).set(one["value"])
            limit.labels(check, table).set(one["limit"])
            good.labels(check, table).set(one["verdict"] == "passed")
    write_to_textfile(str(folder / NAME), registry)
