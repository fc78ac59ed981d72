"""dvc.lock: what DVC knows of the last run."""

from __future__ import annotations

import yaml


def outs(text: str) -> dict[str, str]:
    """For each output in the text of a dvc.lock its path and MD5."""
    data = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    stages = data.get("stages", {}).values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}
