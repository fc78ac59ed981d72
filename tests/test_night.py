"""Nights by themselves, on a database, with a bare Git repository and an S3 API."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

import commands.night
from pipeline.core.paths import Paths
from pipeline.tell import runs, told
from pipeline.tell.steps import Failed
from pipeline.versions.git import Upstream
from tests.fix_night import night, rows_of, subjects
from tests.fix_remote import bytes_of
from tests.helpers import UNTIL, Clone, Database

pytestmark = pytest.mark.xdist_group("remote")


@pytest.mark.parametrize(
    "then", [pytest.param(False, id="nothing"), pytest.param(True, id="the rows arrive", marks=pytest.mark.long)]
)
def test_a_night_that_fails_a_check_puts_the_last_good_snapshot_back(nights: Clone, db: Database, then: bool) -> None:
    before, commits = bytes_of(nights), subjects(nights)
    # An empty last day, where its weekdays have rows: five days later, since the window has five.
    nights.change(("days: 5", "days: 10"))
    nights.commit("a longer window")
    rows_of(db, "2025-10-21", 2)
    nights.run("git", "push", "-q")
    commits = ["a longer window", *commits]
    failed = night(nights, UNTIL + timedelta(days=1), ok=False)
    assert failed.returncode == 8
    last = failed.stdout.splitlines()[-1]
    assert (
        "night FAILED: report: 1 quality check failed: behavioral_events: the last day, 2025-10-28, has 0 rows" in last
    )
    assert "next: look at data/failed/quality.html; " in last
    assert "Do not use" in (nights.path / "data/failed/quality.html").read_text(encoding="utf-8")
    assert bytes_of(nights) == before
    assert subjects(nights) == commits
    assert nights.run("git", "status", "--porcelain").stdout == ""
    # What is remembered and told is of the snapshot that failed, not of the one that is back.
    remembered = runs.read(nights.path / "data/runs.jsonl")[-1]
    assert (remembered.verdict, remembered.until, remembered.exit_code) == ("failed", "2025-10-29", 8)
    found = told.checks(Paths(nights.path), remembered)
    assert found["last_day", "behavioral_events"]["verdict"] == "failed"
    status = nights.run("python", "-m", "commands.status", ok=False)
    assert status.returncode in (1, 2)
    assert "the last night FAILED: report: 1 quality check failed" in status.stdout
    if then:
        rows_of(db, "2025-10-28", 4)
        night(nights, UNTIL + timedelta(days=1))
        assert subjects(nights)[0].startswith("Snapshot 2025-10-29")
        assert not (nights.path / "data/failed").exists()


def half_of_the_rows(db: Database) -> None:
    db.run("DELETE FROM behavioral_events WHERE extract(day FROM timestamp)::int % 2 = 0")


def an_empty_source(db: Database) -> None:
    db.run("TRUNCATE behavioral_events CASCADE")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(half_of_the_rows, id="half of the rows", marks=pytest.mark.long),
        pytest.param(an_empty_source, id="an empty source"),
    ],
)
def test_a_source_that_lost_rows_is_not_pinned(nights: Clone, db: Database, change: Callable[[Database], None]) -> None:
    before, commits = bytes_of(nights), subjects(nights)
    change(db)
    failed = night(nights, ok=False)
    assert failed.returncode == 8
    assert "refresh --accept" in failed.stdout
    assert "FAILED: refresh: behavioral_events: " in failed.stdout.splitlines()[-1]
    assert (bytes_of(nights), subjects(nights)) == (before, commits)
    nights.run("python", "-m", "commands.refresh", "--until", str(UNTIL), "--accept")
    if change is half_of_the_rows:
        night(nights)
        assert subjects(nights)[0].startswith("Snapshot 2025-10-28: 6 rows")


def test_two_at_once(nights: Clone) -> None:
    nights.change(("lock_wait: 60", "lock_wait: 1"))
    nights.commit("a short wait")
    nights.run("git", "push", "-q")
    with open(nights.path / "data/.night.lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        failed = night(nights, ok=False)
        assert "FAILED: another night runs in this checkout" in failed.stdout


def test_a_disk_that_would_fill_up_ends_a_night_before_its_work(nights: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with less space than data/ takes: told by a mock, since nobody can fill the machine's."""
    monkeypatch.chdir(nights.path)
    monkeypatch.setattr(commands.night.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(Failed) as failed:
        commands.night.preflight(Paths(), Upstream("origin/main", "origin", "refs/heads/main"))
    assert failed.value.reason.startswith("0 MB free, ")


def test_only_its_own_paths_are_committed(nights: Clone) -> None:
    (nights.path / "notes.txt").write_text("a draft\n")
    nights.run("git", "add", "notes.txt")
    night(nights)
    assert "notes.txt" not in nights.run("git", "show", "--name-only", "--format=", "origin/main").stdout
    assert nights.run("git", "status", "--porcelain").stdout == "A  notes.txt\n"
