"""Replace damaged files of the snapshot in DVC's cache and the remote by whole ones, wherever there is one.

Damaged are those whose bytes are not the ones that they are named by: a disk, a power failure, or somebody who wrote to
a file that is linked to the cache. DVC does not look: it would bring them back, and push them.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dvc.repo import Repo

from pipeline.core.errors import DataError, PipelineError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files.layout import md5 as md5_of
from pipeline.files.layout import remove_dangling_links
from pipeline.versions import store
from pipeline.versions.place import Place
from pipeline.versions.whole import Object, damaged, wanted


def mend(paths: Paths) -> None:
    """Raises DataError when a damaged file is whole in no place."""
    lock = paths.dvc_lock.read_text(encoding="utf-8")
    dangling = remove_dangling_links(paths.data)
    with store.project(alone=True) as repo:
        there = [(place, held) for place in places(repo) if (held := listed(place)) is not None]
        cached = store.versioned(repo)
        objects, _ = wanted(lock, cached, there)
        files: dict[str, list[str]] = {}  # days without rows are one object
        for one in objects:
            files.setdefault(one.md5, []).append(one.path)
        bad = {place.name: {one.md5 for one in damaged(place, objects, held, lock)} for place, held in there}
        gone = {place.name: missing(paths, place, held, objects, files) for place, held in there}
        cache, here = there[0]
        lost, replaced = [], 0
        for md5 in [md5 for md5 in files if any(md5 in some for some in (*bad.values(), *gone.values()))]:
            if md5 in bad[cache.name]:
                unlink_from_workspace(paths, files[md5], here[md5])
            with copy_of(paths, md5, files[md5], there, bad) as whole:
                for place, held in there:
                    if md5 in bad[place.name] | gone[place.name]:
                        lists = [o for o in objects if o.md5.endswith(".dir") and files[md5][0].startswith(o.path)]
                        mend_one(place, held, (md5, files[md5][0]), whole, lists)
                if whole is None:
                    lost.append(files[md5][0])
                else:
                    replaced += 1
    if lost:
        raise DataError(
            f"{count(len(lost), 'file')} of the snapshot whole in no place, the damaged removed: {lost[0]}",
            where=", ".join(place.name for place, _ in there),
            expected="a whole copy in the workspace, the cache or a remote",
            next_step="dvc repro, which makes them anew, then dvc push where there is a remote",
        )
    said = f"{count(replaced, 'damaged or missing file')} replaced by a whole one; next: dvc checkout"
    if dangling and not replaced:
        said = f"{count(dangling, 'link')} to files that are gone removed; next: dvc repro, which makes them anew"
    print(f"mend: {said if replaced or dangling else 'nothing is damaged'}")


def places(repo: Repo) -> list[Place]:
    return [store.cache(repo), *(store.remotes(repo) if repo.config["remote"] else [])]


def listed(place: Place) -> dict[str, str] | None:
    """The objects of a place; None, and a notice, where it can't be reached."""
    try:
        return place.objects()
    except PipelineError as error:
        print(f"mend: notice: left out, {error.what}")
        return None


def missing(
    paths: Paths, place: Place, held: dict[str, str], objects: list[Object], files: dict[str, list[str]]
) -> set[str]:
    """Objects that a place should hold and does not.

    The cache: those of files that are in the workspace. A remote: those whose folder's list is there, since DVC takes
    all of such a folder for pushed; the others are sent by `dvc push`.
    """
    absent = [md5 for md5 in files if md5 not in held]
    if place.local:
        return {md5 for md5 in absent if any((paths.root / path).exists() for path in files[md5])}
    sent = tuple(one.path for one in objects if one.md5.endswith(".dir") and one.md5 in held)
    return {md5 for md5 in absent if any(path.startswith(sent) for path in files[md5])} if sent else set()


def unlink_from_workspace(paths: Paths, files: list[str], cached: str) -> None:
    """Remove files of the workspace that are links to a damaged file of the cache."""
    for file in (paths.root / path for path in files):
        if file.is_file() and file.samefile(cached):
            file.unlink()


@contextmanager
def copy_of(
    paths: Paths, md5: str, files: list[str], there: list[tuple[Place, dict[str, str]]], bad: dict[str, set[str]]
) -> Iterator[Path | None]:
    """A whole copy of an object, from the workspace or a place, for the length of the block; None if there is none."""
    with ExitStack() as stack:
        found = [paths.root / path for path in files if not md5.endswith(".dir")]
        for place, held in there:
            if md5 in held and md5 not in bad[place.name]:
                found.append(stack.enter_context(place.opened(held[md5])))
        whole = (file for file in found if file.is_file() and md5_of(file) == md5.removesuffix(".dir"))
        yield next(whole, None)


def mend_one(place: Place, held: dict[str, str], one: tuple[str, str], whole: Path | None, lists: list[Object]) -> None:
    """Write an object anew in a place, or remove it there."""
    md5, path = one
    if whole is not None:
        to = held.get(md5, f"{place.root}/files/md5/{md5[:2]}/{md5[2:]}")
        put(place, whole, to)
        print(f"mend: replaced {path} in the {place.name} ({to})")
    else:
        if md5 in held:
            place.delete(held[md5])
            print(f"mend: removed {path} from the {place.name} ({held[md5]})")
        for listed_ in lists:  # where its list is there, DVC takes all of a folder for pushed
            if not place.local and listed_.md5 != md5 and listed_.md5 in held:
                place.delete(held.pop(listed_.md5))


def put(place: Place, file: Path, to: str) -> None:
    """Write an object in one step, with the rights that DVC gives it."""
    if not place.local:
        place.put(file, to)
        return
    beside = Path(f"{to}.mended")
    beside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, beside)
    beside.chmod(0o444)
    os.replace(beside, to)


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.mend", description=__doc__).parse_args()
    mend(project())


if __name__ == "__main__":
    run("mend", main)
