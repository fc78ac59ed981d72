"""The files of snapshots that are not kept: which these are, their deletion, and what stays readable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.progress import Progress
from pipeline.versions.known import THREADS, Held, Lists, lists, outs_in
from pipeline.versions.place import Place
from pipeline.versions.retention import Kept


class Plan(NamedTuple):
    """What would be done: MD5s. `of` has the objects of each snapshot, by Git's id of its dvc.lock.

    Those of an output whose list is in no place whole are not known, and not among them.
    """

    keep: set[str]
    doomed: set[str]
    of: dict[str, set[str]]
    unlisted: set[str]  # the snapshots of which a list is in no place whole

    def unknown(self, objects: Collection[str]) -> int:
        """How many of these are of no version that Git knows."""
        known = self.keep.union(*self.of.values())
        return sum(md5 not in known for md5 in objects)


def plan(kept: Kept, held: Held) -> Plan:
    """Raises DataError where the list of a kept snapshot is there, but whole nowhere: what it names is not known."""
    locks = {version.blob: outs_in(version.lock, commit) for commit, version in kept.versions.items()}
    named = kept.named()
    needed = [("", md5) for md5 in sorted(named) if md5.endswith(".dir")]
    found = lists([*needed, *(("", md5) for outs in locks.values() for md5 in outs.values())], held)
    for out in needed:
        if found[out] is None and (where := [place.name for place, objects in held if out[1] in objects]):
            raise DataError(
                f"the list {out[1]} of a snapshot that is kept is damaged",
                where=", ".join(where),
                expected="a list that says which files have to stay",
                next_step="python -m commands.mend, or dvc push --all-commits where it is whole; then the same again",
            )
    keep = named.union(*(set((found[out] or {}).values()) for out in needed))
    of, unlisted = {}, set()
    for blob, outs in locks.items():
        of[blob] = set[str]().union(*(_objects(md5, found) for md5 in outs.values()))
        if any(found["", md5] is None for md5 in outs.values()):
            unlisted.add(blob)
    doomed = set[str]().union(*(objects for blob, objects in of.items() if blob not in kept.why)) - keep
    return Plan(keep, doomed, of, unlisted)


def _objects(md5: str, found: Lists) -> set[str]:
    """An output's objects: its list and what that names; nothing where the list can't be read."""
    listed = found["", md5]
    return set() if listed is None else {md5, *listed.values()}


def delete(held: Held, doomed: Collection[str]) -> None:
    """Delete objects in every place. The lists come last: until then another run knows what is left to be done."""
    for lists_ in (False, True):
        some = [(place, own) for place, objects in held for own in _files(objects, doomed, lists_)]
        with Progress("prune", "files", len(some)) as progress, ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(_delete, some):
                progress.add(1)


def _delete(one: tuple[Place, str]) -> None:
    place, file = one
    place.delete(file)


def _files(objects: Mapping[str, str], doomed: Collection[str], lists_: bool) -> Iterable[str]:
    return [objects[md5] for md5 in sorted(objects.keys() & set(doomed)) if md5.endswith(".dir") == lists_]


def lost(plan: Plan, before: Held, after: Held) -> list[str]:
    """Objects that are kept, and no longer in a place in which they were."""
    gone = []
    for (place, old), (_, new) in zip(before, after, strict=True):
        gone += [f"{md5} in the {place.name}" for md5 in sorted(old.keys() & plan.keep - new.keys())]
    return gone


def left(plan: Plan, after: Held) -> int:
    """How many files that were to be deleted are still there."""
    return sum(len(objects.keys() & plan.doomed) for _, objects in after)
