"""The files that stand beside the days of data/export and describe them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.handover.card import card
from pipeline.handover.croissant import croissant
from pipeline.handover.datapackage import datapackage
from pipeline.handover.described import Described

PACKAGE, CROISSANT, CARD, SUMS = "datapackage.json", "croissant.json", "README.md", "SHA256SUMS"


def metadata(of: Described, name_of_card: str = CARD) -> dict[str, bytes]:
    """The content of each, by its name. They are a function of what is described: no clock, no machine."""
    return {PACKAGE: as_json(datapackage(of)), CROISSANT: as_json(croissant(of)), name_of_card: card(of).encode()}


def as_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def sums(of: Described, beside: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS of the days and of the files beside them, as `sha256sum -c` reads it."""
    each: Iterable[tuple[str, str]] = [
        *((part.sha256, part.path) for part in of.parts),
        *((hashlib.sha256(content).hexdigest(), name) for name, content in sorted(beside.items())),
    ]
    return "".join(f"{sha256}  {name}\n" for sha256, name in each).encode()
