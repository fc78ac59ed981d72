"""What may go wrong in a night; and several nights, one after the other."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest

from tests.fix_night import fresh, night, rows_of, subjects
from tests.fix_remote import S3, answers, bytes_of, object_in
from tests.helpers import UNTIL, USER_A, USER_B, Clone, Database

pytestmark = [pytest.mark.xdist_group("remote"), pytest.mark.long]


def test_five_nights_and_who_reads_them(nights: Clone, db: Database, scratch: Path) -> None:
    said = night(nights).stdout
    assert "commit" in said  # the report of the quality limit that changed
    # New rows.
    rows_of(db, "2025-10-28", 3)
    night(nights, UNTIL + timedelta(days=1))
    second = answers(nights)
    # Late rows, a user who is erased, and a new type that the contract knows.
    rows_of(db, "2025-10-29", 3, userId=USER_B)
    rows_of(db, "2025-10-27", 1, userId=USER_B)
    night(nights, UNTIL + timedelta(days=2))
    db.run(f"DELETE FROM behavioral_events WHERE \"userId\" = '{USER_B}' AND timestamp < '2025-10-29'")
    rows_of(db, "2025-10-30", 2, eventType="GRAPH_VIEWED")
    fourth = night(nights, UNTIL + timedelta(days=3)).stdout
    assert "with fewer rows" in fourth
    # A value that the contract does not know: the night says how to accept it.
    db.run("ALTER TYPE \"EventType\" ADD VALUE 'NOTE_TAKEN'")
    rows_of(db, "2025-10-30", 1, eventType="NOTE_TAKEN")
    failed = night(nights, UNTIL + timedelta(days=3), ok=False)
    assert failed.returncode == 5
    last = failed.stdout.splitlines()[-1]
    assert "FAILED: validate: 1 row of 13 break the contract: behavioral_events.eventType.isin (1)" in last
    assert "or accept a value that is new by a line in schemas/behavioral_events.py" in last
    assert subjects(nights)[0].startswith("Snapshot 2025-10-31: 12 rows")
    schema = nights.path / "schemas/behavioral_events.py"
    line = '                    "RECOMMENDATION_RATED",\n'
    schema.write_text(schema.read_text().replace(line, line + line.replace("RECOMMENDATION_RATED", "NOTE_TAKEN")))
    nights.commit("notes")
    night(nights, UNTIL + timedelta(days=3))
    # A quiet one.
    quiet = night(nights, UNTIL + timedelta(days=3)).stdout
    assert "nothing new: all was there when it was asked last" in quiet
    assert "Running stage" not in quiet
    assert quiet.splitlines()[-1].split(None, 1)[1].startswith("night OK: This snapshot can be used with care")
    found = subjects(nights)
    assert [one.partition(",")[0] for one in found[:5]] == [
        "Snapshot 2025-10-31: 13 rows",
        "notes",
        "Snapshot 2025-10-31: 12 rows",
        "Snapshot 2025-10-30: 13 rows",
        "Snapshot 2025-10-29: 11 rows",
    ]
    assert nights.run("git", "status", "--porcelain").stdout == ""
    newest, older = fresh(nights, scratch), fresh(nights, scratch, "origin/main~4")
    assert bytes_of(newest) == bytes_of(nights)
    assert answers(older) == second
    told = nights.run("python", "-m", "commands.history").stdout
    assert told.count(" night  OK ") == 6
    assert "7 runs, 86% good" in told


def test_a_push_that_somebody_else_was_first_with(nights: Clone, db: Database, scratch: Path) -> None:
    """A second machine has pushed a night of its own, and somebody a commit."""
    night(nights)
    other = fresh(nights, scratch, "main")
    other.env["DATABASE_URL"] = nights.env["DATABASE_URL"]
    for name, value in (("user.name", "other"), ("user.email", "other@example.org")):
        other.run("git", "config", name, value)
    rows_of(db, "2025-10-28", 3)
    night(other, UNTIL + timedelta(days=1))
    (other.path / "docs/new.md").write_text("new\n")
    other.commit("a page")
    other.run("git", "push", "-q")
    # This machine has an unpushed snapshot, and a commit of its own.
    (nights.path / "docs/ours.md").write_text("ours\n")
    nights.commit("Snapshot 2025-10-28: our page")
    rows_of(db, "2025-10-29", 3)
    said = night(nights, UNTIL + timedelta(days=2)).stdout
    assert "on top of 2 commits of origin/main, 1 unpushed commit kept" in said
    assert subjects(nights)[:4] == [
        subjects(nights)[0],
        "Snapshot 2025-10-28: our page",  # by somebody, whatever it is called
        "a page",
        "Snapshot 2025-10-29: 11 rows, warned",
    ]
    assert subjects(nights)[0].startswith("Snapshot 2025-10-30")


def test_a_rejected_push_is_made_anew_on_top(nights: Clone, db: Database, scratch: Path) -> None:
    """A hook of the other side: somebody pushes in the moment between fetch and push."""
    night(nights)
    bare = Path(nights.run("git", "remote", "get-url", "origin").stdout.strip())
    other = fresh(nights, scratch, "main")
    other.env |= {"GIT_AUTHOR_NAME": "o", "GIT_AUTHOR_EMAIL": "o@example.org"}
    (other.path / "docs/new.md").write_text("new\n")
    other.commit("a page")
    hook = bare / "hooks/pre-receive"
    hook.write_text(f"#!/bin/sh\nrm '{hook}'\nenv -i PATH=\"$PATH\" git -C '{other.path}' push -q\nexit 1\n")
    hook.chmod(0o755)
    rows_of(db, "2025-10-28", 3)
    said = night(nights, UNTIL + timedelta(days=1)).stdout
    assert "rejected" in said
    assert "on top of 1 commit of origin/main, 1 unpushed snapshot dropped" in said
    assert [one.partition(",")[0] for one in subjects(nights)[:2]] == ["Snapshot 2025-10-29: 11 rows", "a page"]


def test_a_push_that_is_refused_for_good_is_not_tried_again(nights: Clone, db: Database) -> None:
    hook = Path(nights.run("git", "remote", "get-url", "origin").stdout.strip()) / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho no pushes here\nexit 1\n")
    hook.chmod(0o755)
    rows_of(db, "2025-10-28", 3)
    failed = night(nights, UNTIL + timedelta(days=1), ok=False)
    assert "no pushes here" in failed.stdout.splitlines()[-1]
    assert failed.stdout.count("refresh   done") == 1
    hook.unlink()
    night(nights, UNTIL + timedelta(days=1))
    assert subjects(nights)[0] == "Snapshot 2025-10-29: 11 rows, warned"


def test_commits_that_conflict_stop_before_any_work(nights: Clone, scratch: Path) -> None:
    night(nights)
    other = fresh(nights, scratch, "main")
    for clone, text in ((other, "theirs"), (nights, "ours")):
        (clone.path / "docs/page.md").write_text(f"{text}\n")
        clone.commit(text)
    other.run("git", "push", "-q")
    head = nights.run("git", "rev-parse", "HEAD").stdout
    failed = night(nights, ok=False)
    last = failed.stdout.splitlines()[-1]
    assert (
        "FAILED: commits that are not pushed conflict with origin/main, or merge it; next: git rebase origin/main"
        in last
    )
    assert "refresh" not in failed.stdout
    assert nights.run("git", "rev-parse", "HEAD").stdout == head
    assert nights.run("git", "status", "--porcelain").stdout == ""


def test_a_yes_to_fewer_rows_outlives_a_night_that_fails_and_other_people_s_pushes(
    nights: Clone, db: Database, scratch: Path
) -> None:
    night(nights)
    db.run("DELETE FROM behavioral_events WHERE extract(day FROM timestamp)::int % 2 = 0")
    assert night(nights, ok=False).returncode == 8
    nights.run("python", "-m", "commands.refresh", "--until", str(UNTIL), "--accept")
    other = fresh(nights, scratch, "main")
    (other.path / "docs/new.md").write_text("new\n")
    other.commit("a page")
    other.run("git", "push", "-q")
    (nights.path / "docs/new.md").write_text("mine, not committed, which Git does not overwrite\n")
    failed = night(nights, ok=False)
    assert "FAILED: git reset: " in failed.stdout.splitlines()[-1]
    (nights.path / "docs/new.md").unlink()
    assert "--accept" not in night(nights).stdout
    assert subjects(nights)[0].startswith("Snapshot 2025-10-28: 6 rows")
    assert "accepted: ['behavioral_events lost rows']" in nights.text("watermark.yaml")


def test_what_moved_is_told_after_a_night_that_failed(nights: Clone, db: Database) -> None:
    """Against the last commit, not against the pins of the night that failed."""
    night(nights)
    nights.change(("emptied_days: {limit: 0, level: warn}", "emptied_days: {limit: 0, level: fail}"))
    nights.commit("no emptied days")
    db.run("DELETE FROM behavioral_events WHERE timestamp::date = '2025-10-24'")
    rows_of(db, "2025-10-25", 1, timeOfDay=99)
    assert "FAILED: validate: " in night(nights, ok=False).stdout.splitlines()[-1]
    db.run('DELETE FROM behavioral_events WHERE "timeOfDay" = 99')
    failed = night(nights, ok=False).stdout.splitlines()[-1]
    assert "1 day that had rows and have none now: 2025-10-24" in failed


def test_commits_are_kept_when_a_night_is_stopped_while_it_puts_them_on_top(nights: Clone, scratch: Path) -> None:
    """In a hook that takes its time; and a merge is nobody's to pick."""
    night(nights)
    other = fresh(nights, scratch, "main")
    (other.path / "docs/new.md").write_text("new\n")
    other.commit("a page")
    other.run("git", "push", "-q")
    for number in (1, 2):
        (nights.path / f"docs/mine{number}.md").write_text("mine\n")
        nights.commit(f"mine {number}")
    hook = nights.path / ".git/hooks/prepare-commit-msg"
    hook.write_text("#!/bin/sh\nexec sleep 60\n")
    hook.chmod(0o755)
    head = nights.run("git", "rev-parse", "HEAD").stdout
    command = [sys.executable, "-m", "commands.night", "--until", str(UNTIL)]
    with subprocess.Popen(command, cwd=nights.path, env=nights.env, stdout=subprocess.PIPE, text=True) as process:
        while not sleeping(psutil.Process(process.pid)):
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=30)
    hook.unlink()
    assert nights.run("git", "rev-parse", "HEAD").stdout == head
    nights.run("git", "pull", "-q", "--no-rebase", "--no-edit")
    (other.path / "docs/more.md").write_text("more\n")
    other.commit("another page")
    other.run("git", "push", "-q")
    merged = nights.run("git", "rev-parse", "HEAD").stdout
    assert "conflict with origin/main, or merge it; next: git rebase" in night(nights, ok=False).stdout
    assert nights.run("git", "rev-parse", "HEAD").stdout == merged
    nights.run("git", "rebase", "-q", "origin/main")
    night(nights)
    assert {"mine 1", "mine 2", "another page"} <= set(subjects(nights))
    assert nights.run("git", "worktree", "list").stdout.count("\n") == 1


def sleeping(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # children come and go
        return any("sleep" in child.name() for child in process.children(recursive=True))
    return False


def detached(clone: Clone) -> None:
    clone.run("git", "checkout", "-q", "--detach")


def nameless(clone: Clone) -> None:
    for name in ("user.name", "user.email"):
        clone.run("git", "config", "--unset", name)
    clone.env |= {"GIT_COMMITTER_NAME": "", "GIT_COMMITTER_EMAIL": "", "GIT_AUTHOR_NAME": "", "EMAIL": ""}


def following_nobody(clone: Clone) -> None:
    clone.run("git", "branch", "--unset-upstream")


def another_remote(clone: Clone) -> None:
    clone.run("dvc", "remote", "modify", "storage", "url", "s3://elsewhere/events")


def edited(clone: Clone) -> None:
    file = clone.path / "schemas/rules.py"
    file.write_text(file.read_text() + "# edited\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(detached, "no branch is checked out (detached HEAD); next: git switch main", id="detached"),
        pytest.param(nameless, "Git knows no name for commits; next: git config user.name", id="no name"),
        pytest.param(following_nobody, "the branch main follows no other; next: git push --set-upstream", id="alone"),
        pytest.param(edited, "schemas/rules.py not as committed", id="edited code"),
        pytest.param(another_remote, ".dvc/config not as committed", id="another remote"),
    ],
)
def test_what_would_end_a_night_ends_it_before_its_work(
    nights: Clone, change: Callable[[Clone], None], said: str
) -> None:
    change(nights)
    failed = night(nights, ok=False)
    assert f"FAILED: {said}" in failed.stdout
    assert "refresh" not in failed.stdout.replace("next:", "")


def test_a_remote_that_is_away_and_one_that_lost_a_file(nights: Clone, s3: S3, bucket: str, db: Database) -> None:
    config = nights.path / ".dvc/config"
    good = config.read_text()
    config.write_text(good.replace(s3.url, "http://127.0.0.1:9"))
    nights.commit("a remote that is away")
    rows_of(db, "2025-10-28", 3)
    failed = night(nights, UNTIL + timedelta(days=1), ok=False)
    assert failed.returncode != 0
    assert "FAILED: dvc push: ERROR" in failed.stdout.splitlines()[-1]
    assert subjects(nights)[0] != "Snapshot 2025-10-29: 11 rows, warned"  # committed here, not sent
    config.write_text(good)
    nights.commit("the remote")
    night(nights, UNTIL + timedelta(days=1))
    assert subjects(nights)[0] == "Snapshot 2025-10-29: 11 rows, warned"
    # The snapshot of the night that could not push was made anew.
    assert subjects(nights)[1:3] == ["the remote", "a remote that is away"]
    # What is gone from the remote dvc push takes for sent; the night asks.
    content = (nights.path / "data/export/behavioral_events/event_date=2025-10-28/part-0.parquet").read_bytes()
    s3.client().delete_object(**object_in(s3, bucket, content))
    (nights.path / "data/.verified/pushed.json").unlink()
    failed = night(nights, UNTIL + timedelta(days=1), ok=False)
    assert "next: python -m commands.mend, then make night" in failed.stdout.splitlines()[-1]
    nights.run("python", "-m", "commands.mend")
    night(nights, UNTIL + timedelta(days=1))


# prctl(2)
PR_SET_CHILD_SUBREAPER = 36

STEPS = ["refresh", "repro", "commit", "dvc push", "ask"]


def test_a_night_that_is_killed_is_completed_by_the_next(nights: Clone, db: Database) -> None:
    """kill -9 of the night and its children in the middle of each step, each in a night with new rows."""
    # The children of a killed process are ours, or they would stay as zombies where no init takes care of them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number, step in enumerate(STEPS, 1):
        until = UNTIL + timedelta(days=number)
        rows_of(db, str(until - timedelta(days=1)), 2)
        kill_night(nights, until, step)
        night(nights, until)
        assert subjects(nights)[0] == f"Snapshot {until}: 10 rows, warned"
        assert nights.run("git", "status", "--porcelain").stdout == ""
    listed = [json.loads(line)["event"] for line in (nights.path / "data/runs.jsonl").read_text().splitlines()]
    assert listed == ["start", "start", "end"] * len(STEPS)
    assert nights.run("python", "-m", "commands.history").stdout.count("night  killed") == len(STEPS)


def kill_night(clone: Clone, until: date, step: str) -> None:
    """Kill a night when it says the first line of a step."""
    command = [sys.executable, "-m", "commands.night", "--until", str(until)]
    with subprocess.Popen(command, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split(None, 1)[1].startswith(step):
                break
        for one in [*(children := psutil.Process(process.pid).children(recursive=True)), process]:
            with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                one.kill()
        process.wait()
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def test_a_night_that_takes_too_long(nights: Clone, db: Database) -> None:
    nights.change(("time_limit: 7200", "time_limit: 3"))
    nights.commit("a short night")
    nights.run("git", "push", "-q")
    with db.connect() as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        failed = night(nights, ok=False)
    assert "FAILED: it took longer than night.time_limit, 3 s" in failed.stdout.splitlines()[-1]
    assert failed.returncode not in (0, -signal.SIGKILL)


def test_user_ids_are_in_no_line(nights: Clone) -> None:
    nights.change(("user_id: null", f"user_id: {USER_A}x"))
    nights.commit("a wrong id")
    nights.run("git", "push", "-q")
    night(nights, ok=False)
    assert USER_A not in (nights.path / "data/runs.jsonl").read_text()


def test_a_night_of_days_to_come_is_refused(nights: Clone) -> None:
    failed = night(nights, date(2999, 1, 1), ok=False)
    assert failed.returncode == 2
    assert "--until 2999-01-01 lies in the future" in failed.stderr
