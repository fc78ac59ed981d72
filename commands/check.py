"""For a clone without data, as in CI: do the pipeline and dvc.lock agree, and is everything in the remote?

Reads code, params, dvc.lock and the remote; needs no data and no database. Prints one line each; ends with 0 or 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

from pipeline.checks.current import NEXT, differences
from pipeline.core.errors import PipelineError
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.versions import store
from pipeline.versions.whole import damaged, wanted

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
    return [line[3:] for line in store.git("status", "--porcelain", "--", *files, *CODE).splitlines()]


def places_are_whole(paths: Paths) -> tuple[bool, list[str]]:
    """Whether the remote holds every file of the snapshot, each with its own bytes, and lines that say so."""
    lock = paths.dvc_lock.read_text(encoding="utf-8")
    try:
        with store.project() as repo:
            cached = {str(out) for out in repo.index.outs if out.use_cache}
            remote, cache = store.remote(repo), store.cache(repo)
            there, here = remote.objects(), cache.objects()
            objects, unlisted = wanted(lock, cached, [(remote, there), (cache, here)])
            missing = [one.path for one in objects if one.md5 not in there] + [f"{path}/" for path in unlisted]
            bad = damaged(remote, objects, there, lock)
            bad_here = damaged(cache, objects, here, lock)
    except PipelineError as error:
        said = "dvc.lock" in error.where  # what can't be read has been said of the pipeline
        return False, [] if said else [f"remote: {error.what}; next: {error.next_step}"]
    lines = []
    if missing:
        lines.append(
            f"remote: {count(len(missing), 'file')} not there ({some(missing)}); next: dvc push, where the data is"
        )
    for name, found, place in (("remote", bad, there), ("cache", bad_here, here)):
        found = list({one.md5: one for one in reversed(found)}.values())[::-1]  # days without rows are one file
        if found:
            listed = some([f"{one.path} as {place[one.md5]}" for one in found])
            lines.append(f"{name}: {count(len(found), 'file')} damaged ({listed}); next: python -m commands.mend")
    return not lines, lines or [f"remote holds all {count(len(objects), 'file')}"]


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
        return False, f"pipeline and dvc.lock: {', '.join(stages)} would run; next: dvc repro, then git commit"
    if others:
        said = "; ".join(f"{stage}: {why}" for stage, why in others)
        return False, f"pipeline and reports: {said}; next: {NEXT}"
    if changed:
        return False, f"pipeline and dvc.lock agree, but not with the commit: {', '.join(changed)}; next: git commit"
    return True, "pipeline and dvc.lock agree"


def check(paths: Paths) -> bool:
    if not paths.dvc_lock.exists():
        print("check: there is no dvc.lock; next: dvc repro, then git commit")
        return False
    # First: a dry run of DVC removes a damaged file of the cache that can be written to, and says nothing.
    whole, lines = places_are_whole(paths)
    agrees, line = agreement(paths)
    for said in (line, *lines):
        print(f"check: {said}")
    return agrees and whole


def main() -> None:
    argparse.ArgumentParser(prog="python -m commands.check", description=__doc__).parse_args()
    if not check(project()):
        raise SystemExit(1)


if __name__ == "__main__":
    run("check", main)
