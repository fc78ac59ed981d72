"""dvc.lock: what DVC knows of the last run."""

from __future__ import annotations

from pathlib import Path

import yaml


def load(file: Path) -> dict[str, str]:
    """What `outs` says of a dvc.lock; nothing where there is none yet."""
    return outs(file.read_text(encoding="utf-8")) if file.exists() else {}


def outs(text: str) -> dict[str, str]:
    """For each output in the text of a dvc.lock its path and MD5."""
    data = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    stages = data.get("stages", {}).values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}
