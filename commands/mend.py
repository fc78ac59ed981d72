"""Replace damaged files of the snapshot in DVC's cache and the remote by whole ones, wherever there is one.

Damaged are those whose bytes are not the ones that they are named by: a disk, a power failure, or somebody who wrote to
a file that is linked to the cache. DVC does not look: it would bring them back, and push them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pipeline.core.errors import DataError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files.layout import md5 as md5_of
from pipeline.versions import store
from pipeline.versions.store import Place
from pipeline.versions.whole import Object, damaged, wanted


def mend(paths: Paths) -> None:
    """Raises DataError when a damaged file is whole in no place."""
    lock = paths.dvc_lock.read_text(encoding="utf-8")
    with store.project(alone=True) as repo:
        places = [store.cache(repo), *(store.remotes(repo) if repo.config["remote"] else [])]
        there = [(place, place.objects()) for place in places]
        cached = {str(out) for out in repo.index.outs if out.use_cache}
        objects, _ = wanted(lock, cached, there)
        bad = {place.name: damaged(place, objects, held, lock) for place, held in there}
        lost: list[Object] = []
        for one in dict.fromkeys(one for some in bad.values() for one in some):
            unlink_from_workspace(paths, one, there[0][1].get(one.md5) if one in bad[places[0].name] else None)
            whole = next(copies(paths, one, there, bad), None)
            for place, held in there:
                if one not in bad[place.name]:
                    continue
                place.delete(held[one.md5])
                if whole is not None:
                    put(place, whole, held[one.md5])
                    print(f"mend: replaced {one.path} in the {place.name} ({held[one.md5]})")
                else:
                    # Where its list is there, DVC takes all of a folder for pushed.
                    for listed in (o for o in objects if o.md5.endswith(".dir") and one.path.startswith(o.path)):
                        if listed.md5 in held and not place.local:
                            place.delete(held.pop(listed.md5))
                    print(f"mend: removed {one.path} from the {place.name} ({held[one.md5]})")
            if whole is None:
                lost.append(one)
            else:
                whole.unlink()
    if lost:
        raise DataError(
            f"{count(len(lost), 'file')} of the snapshot whole in no place, and removed: {lost[0].path}",
            where=", ".join(place.name for place in places),
            expected="a whole copy in the workspace, the cache or a remote",
            next_step="dvc repro, which makes them anew, then dvc push where there is a remote",
        )
    number = len({one for some in bad.values() for one in some})
    print(
        f"mend: {count(number, 'damaged file')} replaced; next: dvc checkout" if number else "mend: nothing is damaged"
    )


def unlink_from_workspace(paths: Paths, one: Object, cached: str | None) -> None:
    """Remove a file of the workspace that is a link to a damaged file of the cache."""
    file = paths.root / one.path
    if cached is not None and file.is_file() and file.samefile(cached):
        file.unlink()


def copies(
    paths: Paths, one: Object, there: list[tuple[Place, dict[str, str]]], bad: dict[str, list[Object]]
) -> Iterator[Path]:
    """Whole copies of an object, each as a file that the caller removes."""
    with ExitStack() as stack:
        found = [paths.root / one.path] if not one.md5.endswith(".dir") else []
        for place, held in there:
            if one.md5 in held and one not in bad[place.name]:
                found.append(stack.enter_context(place.opened(held[one.md5])))
        for file in found:
            if file.is_file() and md5_of(file) == one.md5.removesuffix(".dir"):
                handle, name = tempfile.mkstemp(prefix="behavioral-events-")
                os.close(handle)
                shutil.copyfile(file, name)
                yield Path(name)
                return


def put(place: Place, file: Path, to: str) -> None:
    """Write an object in one step, with the rights that DVC gives it."""
    if not place.local:
        place.put(file, to)
        return
    beside = Path(f"{to}.mended")
    shutil.copyfile(file, beside)
    beside.chmod(0o444)
    os.replace(beside, to)


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.mend", description=__doc__).parse_args()
    mend(project())


if __name__ == "__main__":
    run("mend", main)
