"""A night by itself: fetch, refresh, repro, commit, push, and say how it went. For cron, systemd or CI.

A line a step with its time; the last one is `night OK` or `night FAILED: ...`. Interrupted anywhere, run again: it goes
on where it stopped. Each step is skipped where nothing changed.
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO

from pipeline.checks.current import check_current, check_database
from pipeline.checks.published import check_export
from pipeline.core import signals, watermark
from pipeline.core.errors import PipelineError
from pipeline.core.params import Night, load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.core.reports import read_report
from pipeline.tell import outcome, runs
from pipeline.tell.steps import Clock, Failed, no_hints, say, step
from pipeline.tell.told import finish
from pipeline.versions import git
from pipeline.versions.git import Rejected, Upstream

# What decides a snapshot, beside the night's own paths: it has to be committed, or the commit would not give the bytes.
DECIDES = ("params.yaml", "dvc.yaml", ".dvc/config", "pipeline", "schemas", "stages")

# Exit code of a check of level fail.
QUALITY = 8


@contextmanager
def locked(paths: Paths, wait: float) -> Iterator[None]:
    """One night at a time in a checkout. The file stays: who removes it lets two in."""
    paths.night_lock.parent.mkdir(parents=True, exist_ok=True)
    # Children don't inherit it: after a kill -9 of the night the lock is free.
    with open(paths.night_lock, "a+") as file:
        end = time.monotonic() + wait
        while not taken(file):
            if time.monotonic() > end:
                raise Failed("lock", 1, "another night runs in this checkout", "wait for it, or make history")
            time.sleep(0.2)
        yield


def taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def preflight(paths: Paths, follows: Upstream) -> None:
    """Raises Failed where the night would fail after all of its work."""
    if others := git.changed(*DECIDES):
        raise Failed(
            "preflight",
            1,
            f"{', '.join(others[:3])} not as committed: the snapshot would not be that of its commit",
            "git commit --all, or git checkout -- the files",
        )
    if not default_remote():
        from pipeline.versions import store  # DVC, which knows of more places and says what is missing

        with store.project() as repo:
            store.remote(repo)
    need = sum(file.stat().st_size for file in paths.data.rglob("*") if file.is_file() and not file.is_symlink())
    free = shutil.disk_usage(paths.root).free
    if free < need:
        raise Failed("preflight", 1, f"{free / 1e6:,.0f} MB free, {need / 1e6:,.0f} MB are in data/", "free some space")
    say("preflight", f"{follows.name}, {free / 1e9:,.1f} GB free")


def default_remote() -> bool:
    """Whether the project's own configuration of DVC names a remote."""
    config = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, UnicodeDecodeError):
        config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    return config.has_option("core", "remote")


def catch_up(follows: Upstream, clock: Clock) -> None:
    """The code may be another after it: the steps run what is there."""
    begin = time.monotonic()
    new = git.fetch(follows, clock.left())
    say("fetch", git.catch_up(follows, new, clock.left()), begin)


def accepted(paths: Paths, follows: Upstream) -> bool:
    """Whether somebody ran refresh --accept, and no pushed snapshot has it yet."""
    texts = [git.content(commit, str(paths.watermark)) for commit in git.ours(follows)]
    if git.changed(str(paths.watermark)) and paths.watermark.exists():
        texts.append(paths.watermark.read_text(encoding="utf-8"))
    pins = [watermark.load(paths.watermark, text) for text in texts]
    return any(one.moved is not None and one.moved.accepted for one in pins)


def snapshot(paths: Paths, options: list[str], clock: Clock) -> None:
    """refresh and repro. Raises Failed; after a quality check that failed the last good snapshot is back."""
    # What moved is told against the last commit, not against the pins of a night that failed.
    if git.changed(str(paths.watermark)):
        say("refresh", f"{paths.watermark} was not as committed, and is again")
        git.restore(str(paths.watermark))
    step("refresh", [sys.executable, "-m", "commands.refresh", *options], clock, without_next)
    step("preflight", [sys.executable, "-m", "commands.preflight"], clock)
    try:
        step("repro", [sys.executable, "-m", "dvc", "repro"], clock, no_hints)
    except Failed as failed:
        code = next((one.exit_code for one in runs.stages(paths) if one.exit_code), failed.code)
        if code == QUALITY:
            failed.seen = outcome.snapshot(paths)
            put_back(paths, clock)
            page = paths.failed / paths.page.name
            failed.seen["next_step"] = f"look at {page}; when the source is right again, or the limit, make night"
        raise
    params = load_params(paths.params)
    check_current(paths, params)
    check_database(paths)
    check_export(paths)
    shutil.rmtree(paths.failed, ignore_errors=True)


def without_next(line: str) -> str | None:
    """What refresh says, without what a person would do next: the night does it."""
    return line.removesuffix("; next: dvc repro, then git commit -a")


def put_back(paths: Paths, clock: Clock) -> None:
    """Keep the failed page beside the last good snapshot, which takes its place again."""
    paths.failed.mkdir(parents=True, exist_ok=True)
    for file in (paths.page, paths.checks_report):
        shutil.copy2(file, paths.failed / file.name)
    if not Path("dvc.lock").exists() or not git.git("ls-tree", "--name-only", "HEAD", "dvc.lock"):
        say("put back", f"there is no snapshot before this one; the page is {paths.page}")
        return
    git.restore()
    say("put back", f"the failed page is {paths.failed / paths.page.name}")
    try:
        step("put back", [sys.executable, "-m", "dvc", "checkout", "--quiet", "--force"], clock, no_hints)
    except Failed:
        say("put back", "the reports are those of the last good snapshot, its data are not; next: dvc pull --force")
    else:
        say("put back", "the last good snapshot is back")


def subject(paths: Paths) -> str:
    rows = read_report(paths.quality_report, "rows")["rows"]
    until = read_report(paths.extract_report, "window")["window"][1]
    verdict = read_report(paths.checks_report, "verdict")["verdict"]
    return f"{git.SNAPSHOT} {until}: {count(rows, 'row')}, {verdict}"


def publish(paths: Paths, follows: Upstream, clock: Clock) -> None:
    """Commit, send the data, make sure that they are there, then send the commit. Raises Rejected and Failed."""
    if git.commit(subject(paths), clock.left()):
        say("commit", subject(paths))
    else:
        say("commit", "nothing new")
    ahead = git.unpushed(follows)
    if others := [one for one in git.unpushed(follows, "dvc.lock") if one != ahead[0]]:
        say("dvc push", f"notice: {', '.join(others)} changed dvc.lock; their data are for who made them to push")
    known = Pushed(paths)
    if known.there() and not ahead:
        say("dvc push", "nothing new: all was there when it was asked last")
    else:
        try:
            step("dvc push", [sys.executable, "-m", "dvc", "push"], clock, no_hints)
        except Failed as failed:
            failed.next_step = failed.next_step or "make check, which says more of the remote, then make night"
            raise
        ask(paths)
        known.note()
    if ahead:
        begin = time.monotonic()
        git.push(follows, clock.left())
        say("git push", f"{count(len(ahead), 'commit')} to {follows.name}", begin)


def ask(paths: Paths) -> None:
    """Ask the remote whether it holds every file: dvc push ends with 0 where the cache has lost one."""
    from pipeline.versions import store  # DVC, which a quiet night does without
    from pipeline.versions.whole import wanted

    begin = time.monotonic()
    with store.project() as repo:
        cached = store.versioned(repo)
        remote, cache = store.remote(repo), store.cache(repo)
        there, here = remote.objects(), cache.objects()
        objects, unlisted = wanted(paths.dvc_lock.read_text(encoding="utf-8"), cached, [(remote, there), (cache, here)])
    missing = [one.path for one in objects if one.md5 not in there] + unlisted
    if missing:
        raise Failed(
            "dvc push",
            6,
            f"{count(len(missing), 'file')} of the snapshot not in the remote, the first is {missing[0]}",
            "python -m commands.mend, then make night",
        )
    say("ask", f"the remote holds all {count(len(objects), 'file')}", begin)


class Pushed:
    """What is known to be in the remote: a cache that may be lost."""

    def __init__(self, paths: Paths) -> None:
        self.file = paths.verified("pushed")
        config = Path(".dvc/config").read_bytes() + (
            Path(".dvc/config.local").read_bytes() if Path(".dvc/config.local").exists() else b""
        )
        self.state = {
            "lock": hashlib.sha256(paths.dvc_lock.read_bytes()).hexdigest(),
            "remote": hashlib.sha256(config).hexdigest(),
            "commit": git.git("log", "-1", "--format=%H", "--", "dvc.lock").strip(),
        }

    def there(self) -> bool:
        try:
            return bool(json.loads(self.file.read_text(encoding="utf-8")) == self.state)
        except (OSError, ValueError):
            return False

    def note(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.state), encoding="utf-8")


def night(paths: Paths, wanted: Night, until: str | None, clock: Clock) -> None:
    with locked(paths, min(wanted.lock_wait, clock.left())):
        follows = git.upstream()
        preflight(paths, follows)
        options = [*(["--until", until] if until else []), *(["--accept"] if accepted(paths, follows) else [])]
        catch_up(follows, clock)
        snapshot(paths, options, clock)
        try:
            publish(paths, follows, clock)
        except Rejected as refused:
            say("git push", refused.what.removeprefix("git push: "))
            if not git.fetch(follows, clock.left()):
                raise  # for another reason than that somebody was first
            catch_up(follows, clock)
            snapshot(paths, options, clock)
            publish(paths, follows, clock)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.night", description=__doc__)
    parser.add_argument("--until", metavar="DATE", help="the exclusive end of the window, as of commands.refresh")
    until = parser.parse_args().until
    try:
        until = until and str(date.fromisoformat(until))
    except ValueError:
        parser.error(f"--until {until!r} is no date such as 2025-10-28")
    if until is not None and until > str(datetime.now(UTC).date()):
        parser.error(f"--until {until} lies in the future: a night is of days that have ended")
    paths = project()
    signals.say_instead("the next night goes on from here")
    started = runs.begin(paths, "night", git.head())
    code, reason, next_step, seen = 0, "", "", {}
    try:
        wanted = load_params(paths.params).night
        night(paths, wanted, until, Clock(wanted.time_limit))
    except Failed as failed:
        code, reason, next_step, seen = failed.code, failed.reason, failed.next_step, failed.seen
    except PipelineError as error:
        code, reason = error.exit_code, outcome.said(type(error).__name__, error.what)
        next_step = error.next_step
    except SystemExit as stopped:
        code, reason = stopped.code if isinstance(stopped.code, int) else 1, "it was stopped"
        next_step = "make night, which goes on where it stopped"
    except OSError as error:
        code, reason = 1, f"{error.strerror or error} ({error.filename or paths.data})"
        next_step = "check df -h . and ls -ld data, then make night"
    signals.ignore()  # the end is told within seconds, and once
    ended = outcome.of(paths, started, code, reason, next_step)._replace(snapshot=git.head(), **seen)
    for line in finish(paths, ended):
        say("tell", line)
    if code:
        say("night FAILED:", f"{ended.reason}; next: {ended.next_step}")
        raise SystemExit(ended.exit_code)
    say("night OK:", f"{ended.sentence}, {count(ended.rows or 0, 'row')} until {ended.until}")


if __name__ == "__main__":
    run("night", main)
