"""Whether the objects of a snapshot have the bytes that they are named by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline.core.lock import outs
from pipeline.files.layout import md5 as md5_of
from pipeline.versions.known import expand
from pipeline.versions.place import Place

# The MD5 of nothing.
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"


class Object(NamedTuple):
    """A file of the snapshot: its path in the workspace (a folder's list has that of the folder), and its MD5."""

    path: str
    md5: str


def wanted(lock: str, cached: set[str], places: list[tuple[Place, dict[str, str]]]) -> tuple[list[Object], list[str]]:
    """The objects of the snapshot of a dvc.lock, and the outputs whose list of files is in no place whole."""
    found, unlisted = [], []
    for path, md5 in outs(lock).items():
        if path not in cached:
            continue
        if md5.endswith(".dir"):
            found.append(Object(path + "/", md5))
        listed = expand(path, md5, places)
        found += [Object(file, own) for file, own in (listed or {}).items()]
        unlisted += [path] if listed is None else []
    return found, unlisted


def damaged(place: Place, objects: list[Object], there: Mapping[str, str], lock: str) -> list[Object]:
    """Those of `objects` that `place` holds with other bytes than they are named by.

    By the content on this machine, by S3's checksum of it in a remote. S3 has none of what was sent in several parts,
    nor of what it encrypts with a key of its own: then the sizes of all files of the output have to add up.
    """
    held = [one for one in objects if one.md5 in there]
    if place.local:
        return [one for one in held if md5_of(Path(there[one.md5])) != one.md5.removesuffix(".dir")]
    told = place.told()
    unknown, bad = [], []
    for one in held:
        size, checksum = told.get(there[one.md5], (0, ""))
        if not size and one.md5 != EMPTY:
            bad.append(one)
        elif re.fullmatch("[0-9a-f]{32}", checksum):
            bad += [one] if checksum != one.md5.removesuffix(".dir") else []
        else:
            unknown.append(one)
    sizes = _sizes(lock)
    for out in {out for one in unknown if (out := _out(one.path, sizes)) is not None}:
        files = [one for one in held if _out(one.path, sizes) == out and not one.md5.endswith(".dir")]
        if sum(told[there[one.md5]][0] for one in files) != sizes[out]:
            bad += [one for one in unknown if one in files]
    return bad


def _sizes(lock: str) -> dict[str, int]:
    data = yaml.load(lock, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    listed = [out for stage in data.get("stages", {}).values() for out in stage.get("outs", [])]
    return {out["path"]: out["size"] for out in listed if "size" in out}


def _out(path: str, sizes: Mapping[str, int]) -> str | None:
    return next((out for out in sizes if path == out or path.startswith(f"{out}/")), None)
