"""Forget a user: find every version that holds the user, and with --yes delete the files of it that do.

Looks at every file in DVC's cache, the remote and data/, and at every version in Git's history. Deletes only files
that hold the user, never one of the current snapshot, and proves in the end that the id is nowhere.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.contract import CUID
from stages import store
from stages.shared import pseudonym
from stages.shared.errors import DataError, ParamsError, PipelineError, run
from stages.shared.layout import literal
from stages.shared.progress import Progress, count

# Folders of the workspace that may hold rows or ids: outputs and reports, and DVC's copies for experiments.
WORKSPACE = ("data", ".dvc/tmp/exps")


@dataclass(frozen=True)
class Finding:
    """A file that holds the user: in which places, and how many rows in it."""

    rows: int
    places: Mapping[str, str]  # name of the place: the file there


def names_of(user: str) -> list[str]:
    """What stands for the user: the id and, where the key is known, the pseudonym in exports."""
    if os.environ.get(pseudonym.KEY):
        return [user, pseudonym.pseudonym(pseudonym.key(), "userId", user)]
    print(f"erase: notice: {pseudonym.KEY} is not set; in exports with pseudonyms the user is not looked for")
    return [user]


def holds(duck: duckdb.DuckDBPyConnection, file: Path, names: Sequence[str]) -> int | None:
    """The rows of a Parquet or DuckDB file that hold a name in any text; 0 if only other bytes do; None if none."""
    if not file.stat().st_size:
        return None
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        parquet, database = content[:4] == b"PAR1", content[8:12] == b"DUCK"
        plain = any(content.find(name.encode()) >= 0 for name in names)
    rows = 0
    if parquet:
        rows = _rows(duck, f"read_parquet({literal(str(file))}, hive_partitioning = false)", names)
    elif database:
        duck.execute(f"ATTACH {literal(str(file))} AS held (READ_ONLY)")
        tables = duck.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'held'")
        rows = sum(_rows(duck, f"held.{_quoted(schema)}.{_quoted(name)}", names) for schema, name in tables.fetchall())
        duck.execute("DETACH held")
    return rows if rows or plain else None


def _rows(duck: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str]) -> int:
    described = duck.execute(f"DESCRIBE FROM {relation}").fetchall()
    texts = [_quoted(name) for name, kind, *_ in described if kind in ("VARCHAR", "JSON")]
    where = " OR ".join(f"contains({text}::VARCHAR, ${n + 1})" for text in texts for n in range(len(names)))
    found = duck.execute(f"SELECT count(*) FROM {relation} WHERE {where}", names).fetchone() if where else None
    return found[0] if found else 0


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def duck() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": "192MB"})


def under_other_key(file: Path) -> bool:
    """Whether a Parquet file has rows with pseudonyms that the key at hand does not make."""
    with open(file, "rb") as opened:
        if opened.read(4) != b"PAR1":
            return False
    metadata = pq.read_metadata(file)
    made = (metadata.metadata or {}).get(b"pipeline.pseudonyms", b"none").decode()
    known = {"none", pseudonym.fingerprint(pseudonym.key()) if os.environ.get(pseudonym.KEY) else "none"}
    return metadata.num_rows > 0 and made not in known


@dataclass(frozen=True)
class Look:
    """What a search of all places found: the files that hold the user, by their keys, and what it can't tell."""

    found: Mapping[str, Finding]
    looked: Mapping[str, int]  # files by place
    other_key: int  # files with pseudonyms of other keys, among which the user can't be found
    damaged: Sequence[str]  # files that can't be read


def look(places: list[store.Place], names: Sequence[str]) -> Look:
    """Search every file of the places; one that several hold is read once, from the cache if it is there."""
    where: dict[str, dict[str, str]] = defaultdict(dict)
    looked = {}
    for place in places:
        files = place.files()
        looked[place.name] = len(files)
        for file in files:
            where[file.removeprefix(place.root)][place.name] = file
    found, hidden = {}, 0
    damaged: list[str] = []
    by_name = {place.name: place for place in places}
    with duck() as connection, Progress("erase", "files", len(where)) as progress:
        for key, holders in sorted(where.items()):
            for name, file in holders.items():
                with suppress(duckdb.Error, pa.ArrowException), by_name[name].opened(file) as opened:
                    rows = holds(connection, opened, names)
                    hidden += under_other_key(opened)
                    if rows is not None:
                        found[key] = Finding(rows, holders)
                    break
            else:  # where another place has it whole, a damaged one is known by that
                damaged += holders.values()
            progress.add(1)
    return Look(found, looked, hidden, damaged)


def in_workspace(names: Sequence[str]) -> list[str]:
    """Files of the workspace that hold the user."""
    files = [file for folder in WORKSPACE for file in sorted(Path(folder).rglob("*")) if file.is_file()]
    with duck() as connection:
        return [str(file) for file in files if holds(connection, file, names) is not None]


def key_of(md5: str) -> str:
    return f"/files/md5/{md5[:2]}/{md5[2:]}"


def holders(
    locks: Mapping[str, tuple[str, str]], found: Mapping[str, Finding], places: list[store.Place]
) -> tuple[dict[str, list[str]], int]:
    """For each version, a name and its dvc.lock, that holds the user the paths of its files that do.

    Also how many more versions there are whose lists of files are in none of the places.
    """
    objects = [(place, place.objects()) for place in places]
    lists: dict[tuple[str, str], dict[str, str] | None] = {}
    versions, unlisted = {}, 0
    for name, (_, lock) in locks.items():
        paths: list[str] = []
        for out in store.outs(lock).items():
            if out not in lists:
                lists[out] = store.expand(*out, objects)
            paths += [path for path, md5 in (lists[out] or {}).items() if key_of(md5) in found]
        if paths:
            versions[name] = paths
        elif any(lists[out] is None for out in store.outs(lock).items()):
            unlisted += 1
    return versions, unlisted


def erase(user: str, yes: bool, local_only: bool) -> None:
    if not re.fullmatch(CUID, user):
        raise ParamsError(
            f"{user!r} is no user id",
            where="USER_ID",
            expected=f"a cuid ({CUID})",
            next_step="python -m stages.erase USER_ID",
        )
    current = Path("dvc.lock").read_text(encoding="utf-8")
    with store.project() as repo:
        places = [store.cache(repo)]
        if not local_only:
            places += store.remotes(repo)
        names = names_of(user)
        looked = look(places, names)
        found = looked.found
        for name, files in looked.looked.items():
            print(f"erase: looked at {count(files, 'file')} in the {name}")
        for place in places[1:]:
            if not looked.looked[place.name]:
                raise nothing_there(place.name, user)
        if looked.damaged:
            print(f"erase: notice: {count(len(looked.damaged), 'damaged file')}, not searched: {say(looked.damaged)}")
        history = store.history()
        versions, unlisted = holders({**history, "now": ("", current)}, found, places)
        now = versions.pop("now", [])
        for commit, paths in versions.items():
            print(f"erase: version {commit[:10]} of {history[commit][0]} holds {user}: {say(paths)}")
        if unlisted:
            print(
                f"erase: notice: {count(unlisted, 'version')} not told by name: their lists of files are nowhere here"
            )
        rows = sum(finding.rows for finding in found.values())
        print(f"erase: {count(len(found), 'file')} with {count(rows, 'row')} in {count(len(versions), 'version')}")
        here = now + in_workspace(names)
        if here:
            problem = DataError(
                f"the current snapshot still holds {user}: {say(here)}",
                where="dvc.lock, data/",
                expected="a snapshot without the user, before older ones are deleted",
                next_step="delete the rows in PostgreSQL, make refresh repro, git commit, then the same command again",
            )
            if yes:
                raise problem
            print(f"erase: {problem}", file=sys.stderr)
        elif not yes and not found:
            print(f"erase: dry run; no file holds {user}")
        elif not yes:
            print(f"erase: dry run, nothing was deleted; next: python -m stages.erase {user} --yes")
        if not yes:
            return
        if found:
            print("erase: deleting these files; what they hold is lost for good, other days of these versions stay")
        for finding in found.values():
            for place in places:
                if place.name in finding.places:
                    place.delete(finding.places[place.name])
        prove(places, user, names)
    named_in_git(user)


def nothing_there(place: str, user: str) -> PipelineError:
    return PipelineError(
        f"the {place} holds no file at all",
        where=".dvc/config",
        expected="a remote with versions in it; one that is gone, or whose folder is misspelt, looks the same",
        next_step="check dvc remote list; for one to which nothing was ever pushed: dvc remote remove NAME, or "
        f"python -m stages.erase {user} --local-only",
    )


def prove(places: list[store.Place], user: str, names: Sequence[str]) -> None:
    """Look again, at everything; DataError if the id is still somewhere."""
    after = look(places, names)
    left = [name for finding in after.found.values() for name in finding.places.values()] + in_workspace(names)
    if left:
        raise DataError(
            f"{user} is still in {say(left)}",
            where=", ".join(after.looked),
            expected="the id nowhere",
            next_step="the same command again; for copies of experiments: dvc exp remove --all-commits, dvc exp clean",
        )
    if after.damaged:
        raise DataError(
            f"{count(len(after.damaged), 'damaged file')} may still hold {user}: {say(after.damaged)}",
            where=", ".join(after.looked),
            expected="files that can be searched; in all others the id is nowhere",
            next_step="delete these files, which no version can use, then the same command again",
        )
    scanned = " and ".join(f"{count(files, 'file')} of the {name}" for name, files in after.looked.items())
    print(f"erase: proof: {user} is in none of {scanned}, and not in {', '.join(WORKSPACE)}")
    if after.other_key:
        print(
            f"erase: but {count(after.other_key, 'file')} with pseudonyms of other keys, and tables made of them, "
            f"could not be searched; next: the same command with {pseudonym.KEY} set, once for each key that was used"
        )


def named_in_git(user: str) -> None:
    """Say where Git's history names the id, which is not for this command to rewrite."""
    commits = store.git("log", "--all", "--format=%h", f"-S{user}").split()
    if commits:
        print(f"erase: notice: Git's history names the id (git log --all -S{user}); deleting that is up to you")


def say(paths: Sequence[str]) -> str:
    return ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.erase", description=__doc__)
    parser.add_argument("user", metavar="USER_ID", help="the user's cuid")
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is changed")
    parser.add_argument("--dry-run", action="store_true", help="only look, which is the default")
    parser.add_argument("--local-only", action="store_true", help="only the cache of this machine, no remote")
    args = parser.parse_args()
    if args.yes and args.dry_run:
        parser.error("--yes and --dry-run contradict each other")
    erase(args.user, args.yes, args.local_only)


if __name__ == "__main__":
    run("erase", main)
