"""CITATION.cff: how to cite the data, as Citation File Format 1.2.0 (https://citation-file-format.github.io)."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.core.dataset import LICENCES, Dataset
from pipeline.handover.described import Described, Version

# What the format asks for where no author is known.
NOBODY = {"name": "anonymous"}


def cff(of: Described, version: Version) -> str:
    found: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it as below.",
        "type": "dataset",
        "title": of.dataset.title,
        "authors": authors(of.dataset) or [NOBODY],
        "version": version.name,
        "commit": version.commit,
        "date-released": version.committed,
        "abstract": of.holds,
        "identifiers": [
            {
                "type": "other",
                "value": f"sha256:{version.sha256}",
                "description": "SHA-256 over all files of the tables",
            }
        ],
    }
    if of.dataset.licence in LICENCES:
        found["license"] = of.dataset.licence
    elif of.dataset.licence is not None:
        found["license-url"] = of.dataset.licence
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=120)


def authors(dataset: Dataset) -> list[dict[str, str]]:
    found = []
    for name in dataset.authors:
        family, comma, given = (part.strip() for part in name.partition(","))
        found.append({"family-names": family, "given-names": given} if comma and given else {"name": name})
    return found
