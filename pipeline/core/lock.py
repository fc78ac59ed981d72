"""dvc.lock: what DVC knows of the last run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def load(file: Path) -> dict[str, str]:
    """What `outs` says of a dvc.lock; nothing where there is none yet."""
    return outs(file.read_text(encoding="utf-8")) if file.exists() else {}


def outs(text: str) -> dict[str, str]:
    """For each output in the text of a dvc.lock its path and MD5."""
    return _outs((_parsed(text) or {}).get("stages", {}))


def outs_or_none(text: str) -> dict[str, str] | None:
    """The same; None where the text is no dvc.lock that has stages, as one that is empty, cut off or in conflict."""
    try:
        return _outs(_parsed(text)["stages"])
    except (yaml.YAMLError, AttributeError, TypeError, KeyError):
        return None


def _parsed(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _outs(stages: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}
