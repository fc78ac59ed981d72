"""The files of snapshots that are not kept: which these are, their deletion, and what stays readable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from typing import NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.progress import Progress
from pipeline.versions.known import Committed, Held, Lists, lists, outs_in, side_by_side
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


def readable(versions: Mapping[str, Committed], held: Held, found: Lists) -> set[str]:
    """The snapshots, by Git's id of their dvc.lock, whose folders are all there, each file in one place or another."""
    there = set[str]().union(*(objects.keys() for _, objects in held))
    whole = {out for out, listed in found.items() if listed is not None and there.issuperset(listed.values())}
    return {blob for blob, outs in _outs(versions).items() if whole.issuperset(out for out in outs if _is_list(out))}


def listed(versions: Mapping[str, Committed], held: Held) -> Lists:
    """The files of all outputs of all snapshots."""
    return lists((out for outs in _outs(versions).values() for out in outs), held)


def _outs(versions: Mapping[str, Committed]) -> dict[str, list[tuple[str, str]]]:
    """The outputs of each dvc.lock by their MD5s, because what they are called does not matter here."""
    return {
        version.blob: [("", md5) for md5 in outs_in(version.lock, f"{commit[:10]}:./dvc.lock").values()]
        for commit, version in versions.items()
    }


def _is_list(out: tuple[str, str]) -> bool:
    return out[1].endswith(".dir")


def plan(kept: Kept, held: Held, found: Lists) -> Plan:
    """`found` is what `listed` gives.

    Raises DataError where what has to be kept is not known: the list of a kept snapshot is there, but whole nowhere, or
    one of the current dvc.lock is nowhere.
    """
    named = kept.named()
    needed = [("", md5) for md5 in sorted(named) if md5.endswith(".dir")]
    found = {**lists((out for out in needed if out not in found), held), **found}
    current = kept.texts.get("dvc.lock", "")
    for _, md5 in (out for out in needed if found[out] is None):
        where = [place.name for place, objects in held if md5 in objects]
        if where or md5 in (outs_in(current, "dvc.lock").values() if current else ()):
            raise DataError(
                f"the list {md5} of a snapshot that is kept is {'damaged' if where else 'in no place'}",
                where=", ".join(where or [place.name for place, _ in held]),
                expected="lists that say which files have to stay",
                next_step="python -m commands.mend, dvc pull, or dvc push where it is; then the same command again",
            )
    keep = named.union(*(set((found[out] or {}).values()) for out in needed))
    of, unlisted = {}, set()
    for blob, outs in _outs(kept.versions).items():
        of[blob] = set[str]().union(*(_objects(md5, found) for _, md5 in outs))
        if any(found[out] is None for out in outs):
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
        with Progress("prune", "files", len(some)) as progress, closing(side_by_side(_delete, some)) as done:
            for _ in done:
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
