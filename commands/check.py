"""For a clone without data, as in CI: do the pipeline and dvc.lock agree, and is everything in the remote?

Reads code, params, dvc.lock and the remote; needs no data and no database. Prints one line each; ends with 0 or 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.checks.current import NEXT, differences
from pipeline.core.errors import PipelineError
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files.layout import dangling_links
from pipeline.versions import store
from pipeline.versions.git import git
from pipeline.versions.whole import Object, damaged, wanted

# The code that decides what the pipeline gives.
CODE = ("pipeline", "schemas", "stages")


def would_run() -> list[str]:
    """The stages for which `dvc repro` would run something, were all data there. Raises PipelineError."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    # A stage that would run but whose data is missing ends the dry run.
    stages = re.findall(r"(?:Running stage|failed to reproduce) '(.+?)'", done.stdout + done.stderr)
    if done.returncode and not stages:
        said = " ".join(done.stderr.split())[:300]
        where = "dvc.yaml, dvc.lock, params.yaml"
        raise PipelineError(
            said, where=where, expected="files that DVC can read", next_step="git checkout -- dvc.yaml dvc.lock"
        )
    return list(dict.fromkeys(stages))


def uncommitted(paths: Paths) -> list[str]:
    """Files that decide what the pipeline gives, and are not as they are committed."""
    files = [str(path) for path in (paths.dvc_yaml, paths.dvc_lock, paths.params, paths.watermark, paths.reports)]
    return [line[3:] for line in git("status", "--porcelain", "--", *files, *CODE).splitlines()]


class Found(NamedTuple):
    """Whether the remote holds every file of the snapshot, each with its own bytes, and lines that say so.

    `damaged`: whether a file of the cache is damaged, or a link to it leads nowhere, which misleads DVC.
    """

    whole: bool
    damaged: bool
    lines: list[str]


def places_are_whole(paths: Paths) -> Found:
    lock = paths.dvc_lock.read_text(encoding="utf-8")
    lines: list[str] = []
    try:
        with store.project() as repo:
            cached = store.versioned(repo)
            cache = store.cache(repo)
            here = cache.objects()
            bad_here = damaged(cache, wanted(lock, cached, [(cache, here)])[0], here, lock)
            lines += said_of_cache(paths, bad_here, here)
            misled = bool(lines)
            remote = store.remote(repo)
            there = remote.objects()
            objects, unlisted = wanted(lock, cached, [(remote, there), (cache, here)])
            missing = [one.path for one in objects if one.md5 not in there] + [f"{path}/" for path in unlisted]
            lines += said_of_damage("remote", damaged(remote, objects, there, lock), there)
    except PipelineError as error:
        said = "dvc.lock" in error.where  # what can't be read has been said of the pipeline
        lines += [] if said else [f"remote: {error.what}; next: {error.next_step}"]
        return Found(False, bool(lines) and lines[0].startswith("cache"), lines)
    if missing:
        # DVC takes all of a folder for pushed whose list is there.
        lines.append(
            f"remote: {count(len(missing), 'file')} not there ({some(missing)}); next: dvc push, where the data is; "
            "where that has nothing to send, python -m commands.mend"
        )
    return Found(not lines, misled, lines or [f"remote holds all {count(len(objects), 'file')}"])


def said_of_cache(paths: Paths, bad: list[Object], held: Mapping[str, str]) -> list[str]:
    lines = said_of_damage("cache", bad, held)
    if nowhere := dangling_links(paths.data):
        names = some([str(path) for path in nowhere])
        lines.append(f"cache: {count(len(nowhere), 'link')} to no file ({names}); next: python -m commands.mend")
    return lines


def said_of_damage(name: str, bad: list[Object], held: Mapping[str, str]) -> list[str]:
    found = list({one.md5: one for one in reversed(bad)}.values())[::-1]  # days without rows are one file
    if not found:
        return []
    listed = some([f"{one.path} as {held[one.md5]}" for one in found])
    return [f"{name}: {count(len(found), 'file')} damaged ({listed}); next: python -m commands.mend"]


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def agreement(paths: Paths) -> tuple[bool, str]:
    """Whether the pipeline, dvc.lock and the commit agree, and a line that says so."""
    try:
        stages, changed = would_run(), uncommitted(paths)
        others = list(differences(paths, load_params(paths.params)))
    except PipelineError as error:
        return False, f"pipeline and dvc.lock: {error.what}; next: {error.next_step}"
    if stages:
        return False, f"pipeline and dvc.lock: {', '.join(stages)} would run; next: dvc repro, then git commit -a"
    if others:
        said = "; ".join(f"{stage}: {why}" for stage, why in others)
        return False, f"pipeline and reports: {said}; next: {NEXT}"
    if changed:
        return False, f"pipeline and dvc.lock agree, but not with the commit: {', '.join(changed)}; next: git commit -a"
    return True, "pipeline and dvc.lock agree"


def check(paths: Paths) -> bool:
    if not paths.dvc_lock.exists():
        print("check: there is no dvc.lock; next: dvc repro, then git commit -a")
        return False
    # First: a dry run of DVC removes a damaged file of the cache that can be written to, and says nothing.
    found = places_are_whole(paths)
    agrees, line = agreement(paths)
    misled = found.damaged and not agrees  # what would run is a matter of the damage
    if misled:
        line = f"{line.partition('; next: ')[0]}; next: what is said of the cache, then python -m commands.check"
    for said in (*found.lines, line) if misled else (line, *found.lines):
        print(f"check: {said}")
    return agrees and found.whole


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.check", description=__doc__).parse_args()
    if not check(project()):
        raise SystemExit(1)


if __name__ == "__main__":
    run("check", main)
