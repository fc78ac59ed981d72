"""Forget a user: find every file of every version that holds the user, and with --yes delete these files.

Searches every file in DVC's cache, every remote and data/, and every version in Git's history. Deletes only files
that hold the user, never one of the current snapshot, and proves in the end that the id is nowhere.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files import pseudonyms
from pipeline.versions import store
from pipeline.versions.git import git
from pipeline.versions.known import history, lists, outs_in
from pipeline.versions.place import Place
from pipeline.versions.search import Holder, Search, in_workspace, is_scratch, search, spellings, workspace
from schemas.rules import ID


def key_of(md5: str) -> str:
    return f"/files/md5/{md5[:2]}/{md5[2:]}"


def holders(
    locks: Mapping[str, str], found: Mapping[str, Holder], places: list[Place]
) -> tuple[dict[str, list[str]], int, set[str]]:
    """For each version, a name and its dvc.lock, that holds the user the paths of its files that do.

    Also how many more versions there are whose lists of files are in none of the places, and the keys of all files of
    all versions.
    """
    outputs = {name: list(outs_in(lock, name).items()) for name, lock in locks.items()}
    listed = lists((out for some in outputs.values() for out in some), [(place, place.objects()) for place in places])
    versions, unlisted = {}, 0
    for name, some in outputs.items():
        paths = [path for out in some for path, md5 in (listed[out] or {}).items() if key_of(md5) in found]
        if paths:
            versions[name] = paths
        elif any(listed[out] is None for out in some):
            unlisted += 1
    md5s = {md5 for (_, own), files in listed.items() for md5 in (own, *(files or {}).values())}
    return versions, unlisted, {key_of(md5) for md5 in md5s}


def of_no_version(user: str, keys: Collection[str]) -> DataError:
    return DataError(
        f"{count(len(keys), 'file')} with {user} of no version that Git knows: {say(sorted(keys))}",
        where="the cache or a remote, which another project may use as well",
        expected="files of this project's versions; the others were not deleted, and all else was",
        next_step="where nobody else uses this cache and these remotes, the same command with --also-unknown",
    )


class Options(NamedTuple):
    """What the command line asks for."""

    yes: bool = False
    local_only: bool = False
    also_unknown: bool = False


def erase(paths: Paths, user: str, options: Options) -> None:
    yes, local_only = options.yes, options.local_only
    if not re.fullmatch(ID, user):
        raise ParamsError(
            f"{user!r} is no user id",
            where="USER_ID",
            expected="a cuid or a uuid; a number stands in too many places to be searched for",
            next_step="python -m commands.erase USER_ID",
        )
    current = paths.dvc_lock.read_text(encoding="utf-8")
    with store.project(alone=yes) as repo:
        places = store.places(repo, local_only, f"python -m commands.erase {user}")
        names = spellings(user)
        searched = search(places, names)
        _report_places(searched, places, user)
        _report_bundles(paths, user)
        files, unknown = _report_versions(searched, places, user, current)
        unfinished = [(place, *upload) for place in places for upload in place.unfinished()]
        for place, key, _ in unfinished:
            print(f"erase: an unfinished upload of {key} to the {place.name} may hold anything")
        here = in_workspace(paths, names)
        scratch = [file for file in here if is_scratch(paths, file)]
        problem = still_held(user, files + [str(file) for file in here if file not in scratch])
        if not yes:
            _report_dry_run(problem, searched, f"{user} --local-only" if local_only else user)
            return
        if problem:
            raise problem
        spared = set() if options.also_unknown else unknown
        _delete(searched, places, scratch, spared)
        for place, key, upload in unfinished:
            place.abort(key, upload)
            print(f"erase: aborted the upload of {key}")
        if spared:
            raise of_no_version(user, spared)
        prove(paths, places, user, names)
    named_in_git(user)


def _report_places(searched: Search, places: Sequence[Place], user: str) -> None:
    """Print what was searched. Raises PipelineError when a remote holds nothing."""
    for name, number in searched.searched.items():
        print(f"erase: searched {count(number, 'file')} in the {name}")
    for place in places[1:]:
        if not searched.searched[place.name]:
            raise store.nothing_there(place, f"python -m commands.erase {user}")
    if searched.damaged:
        print(f"erase: notice: {count(len(searched.damaged), 'damaged file')}, not searched: {say(searched.damaged)}")


def _report_bundles(paths: Paths, user: str) -> None:
    """What was handed over is beyond reach; what lies here is closed to a search, as its files are compressed."""
    if archives := sorted(paths.bundles.glob("*")):
        some = f"{count(len(archives), 'archive')} in {paths.bundles}, not searched"
        print(f"erase: notice: {some}: delete those made while {user} was in, here and where they were handed on")


def _report_versions(searched: Search, places: list[Place], user: str, current: str) -> tuple[list[str], set[str]]:
    """Print which versions hold the user.

    Gives the paths of those files that the current snapshot still needs, and the keys of those that no version has.
    """
    committed = history()
    locks = {commit: version.lock for commit, version in committed.items()}
    versions, unlisted, known = holders({**locks, "now": current}, searched.found, places)
    unknown = {key for key in searched.found if key.startswith("/files/") and key not in known}
    now = versions.pop("now", [])
    for commit, files in versions.items():
        print(f"erase: version {commit[:10]} of {committed[commit].day} holds {user}: {say(files)}")
    if unlisted:
        print(f"erase: notice: {count(unlisted, 'version')} besides, whose lists of files are in none of these places")
    rows = sum(holder.rows for holder in searched.found.values())
    in_all = f"{count(len(searched.found), 'file')} with {count(rows, 'row')} in {count(len(versions), 'version')}"
    print(f"erase: {in_all}")
    if unknown:
        print(f"erase: {count(len(unknown), 'file')} of these of no version that Git knows: {say(sorted(unknown))}")
    return now, unknown


def _report_dry_run(problem: DataError | None, searched: Search, arguments: str) -> None:
    if problem:
        print(f"erase: {problem}", file=sys.stderr)
    elif searched.found:
        print(f"erase: dry run, nothing was deleted; next: python -m commands.erase {arguments} --yes")
    else:
        print("erase: dry run; no file holds this user")


def _delete(searched: Search, places: Sequence[Place], scratch: Sequence[Path], spared: Collection[str]) -> None:
    if searched.found:
        print("erase: deleting these files; what they hold is lost for good, other files of these versions stay")
    for file in scratch:
        file.unlink()
        print(f"erase: deleted {file}, which named the id")
    for holder in (holder for key, holder in searched.found.items() if key not in spared):
        for place in places:
            if place.name in holder.places:
                place.delete(holder.places[place.name])


def still_held(user: str, files: Sequence[str]) -> DataError | None:
    """What stands in the way while `files`, of the current snapshot or copies of experiments, hold the user."""
    here = list(dict.fromkeys(file for file in files if not file.startswith(".dvc/")))
    if here:
        return DataError(
            f"the current snapshot still holds {user}: {say(here)}",
            where="dvc.lock, data/",
            expected="a snapshot without the user, before older ones are deleted",
            next_step="delete the rows in PostgreSQL and what names the id in other rows' eventData, make refresh "
            "repro, git commit (or, where others did: git pull, dvc pull), then the same command again",
        )
    if files:
        return DataError(
            f"copies of experiments still hold {user}: {say(files)}",
            where=".dvc/tmp/exps",
            expected="no copy with the user, before older versions are deleted",
            next_step="rm -r .dvc/tmp/exps, when no experiment runs, then the same command again",
        )
    return None


def prove(paths: Paths, places: list[Place], user: str, names: Sequence[str]) -> None:
    """Search everything again; DataError if the id is still somewhere."""
    after = search(places, names)
    left = [name for holder in after.found.values() for name in holder.places.values()]
    left += map(str, in_workspace(paths, names))
    if left:
        raise DataError(
            f"{user} is still in {say(left)}",
            where=", ".join(after.searched),
            expected="the id nowhere",
            next_step="the same command again; for copies of experiments: dvc exp remove --all-commits, dvc exp clean",
        )
    if after.damaged:
        raise DataError(
            f"{count(len(after.damaged), 'damaged file')} may still hold {user}: {say(after.damaged)}",
            where=", ".join(after.searched),
            expected="files that can be searched; in all others the id is nowhere",
            next_step="delete these files, which no version can use, then the same command again",
        )
    scanned = " and ".join(f"{count(files, 'file')} of the {name}" for name, files in after.searched.items())
    print(f"erase: proof: {user} is in none of {scanned}, and not in {', '.join(map(str, workspace(paths)))}")
    if after.other_key:
        print(
            f"erase: but {count(after.other_key, 'file')} with pseudonyms of other keys, and tables made of them, "
            f"could not be searched; next: the same command with {pseudonyms.KEY} set, once for each key that was used"
        )


def named_in_git(user: str) -> None:
    """Say where Git's history names the id, which is not for this command to rewrite."""
    commits = git("log", "--all", "--format=%h", f"-S{user}").split()
    if commits:
        print(f"erase: notice: Git's history names the id (git log --all -S{user}); deleting that is up to you")


def say(paths: Sequence[str]) -> str:
    return ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.erase", description=__doc__)
    parser.add_argument("user", metavar="USER_ID", help="the user's cuid or uuid")
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is changed")
    parser.add_argument("--dry-run", action="store_true", help="only search, which is the default")
    parser.add_argument("--local-only", action="store_true", help="only the cache of this machine, no remote")
    parser.add_argument(
        "--also-unknown", action="store_true", help="delete files of no version that Git knows here, too"
    )
    args = parser.parse_args()
    if args.yes and args.dry_run:
        parser.error("--yes and --dry-run contradict each other")
    erase(project(), args.user, Options(args.yes, args.local_only, args.also_unknown))


if __name__ == "__main__":
    run("erase", main)
