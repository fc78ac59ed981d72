"""Old snapshots: read without being checked out, and listed with where their files are."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tests.fix_remote import S3, copy_of, night, with_remote
from tests.helpers import UNTIL, Clone, Database, event

pytestmark = pytest.mark.xdist_group("remote")

QUERY = ("python", "-m", "commands.query", "--csv", "--at")


def objects(s3: S3) -> set[str]:
    """What was fetched, but for the lists of folders."""
    return {path for path in s3.requests("GET") if "/files/md5/" in path and not path.endswith(".dir")}


def test_an_old_snapshot_is_read_where_it_lies(own: Clone, db: Database, s3: S3, bucket: str) -> None:
    with_remote(own, s3, bucket)
    first = own.run("git", "rev-parse", "HEAD").stdout.strip()
    own.run("git", "tag", "first-night")
    own.run("dvc", "push")
    everything = "SELECT * EXCLUDE (event_date) FROM behavioral_events ORDER BY timestamp, id"
    old = own.run("python", "-m", "commands.query", "--csv", everything.replace("* EXCLUDE (event_date)", "*")).stdout
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    night(own, UNTIL + timedelta(days=1), "second night")
    own.run("dvc", "push")
    other = copy_of(own, "who looks back")
    s3.forget_requests()
    day = UNTIL - timedelta(days=2)
    of_day = f"SELECT count(*), min(event_date) FROM behavioral_events WHERE event_date = '{day}'"
    answer = other.run(*QUERY, "first-night", of_day).stdout
    assert answer.split()[1].endswith(f",{day}")
    assert len(objects(s3)) == 2  # the day, and the first for the columns
    assert not (other.path / "data/export").exists()
    s3.forget_requests()
    other.run(*QUERY, "first-night", of_day)
    assert not objects(s3)
    last = ("--from", str(UNTIL - timedelta(days=1)), "--to", str(UNTIL - timedelta(days=1)))
    other.run(*QUERY, "first-night", "SELECT max(timestamp) FROM behavioral_events", *last)
    assert len(objects(s3)) == 1
    assert other.run(*QUERY, first[:8], everything).stdout == old
    assert int(other.run(*QUERY, "first-night", "SELECT count(*) FROM daily_activity").stdout.split()[1]) > 0
    ask = f"query.connect(at={first!r}).sql('SELECT count(*) FROM behavioral_events')"
    assert str(old.count("\n") - 1) in other.run("python", "-c", f"from commands import query; print({ask})").stdout
    listed = other.run("python", "-m", "commands.versions").stdout.splitlines()
    assert re.search(r"warned|passed", listed[1])
    assert listed[1].endswith("remote")
    assert re.search(r"cache, remote  first-night$", listed[2])
    # Erased, as by `commands.erase`: neither cache nor remote has it.
    gone = next(iter(objects(s3)))
    s3.client().delete_object(Bucket=bucket, Key=gone.removeprefix(f"/{bucket}/"))
    elsewhere = copy_of(own, "who comes too late")
    failed = elsewhere.fails(*QUERY, "first-night", everything)
    assert "1 file of first-night (" not in failed
    assert "neither in the cache nor in the remote" in failed
    assert "4 of 5 in remote" in elsewhere.run("python", "-m", "commands.versions").stdout


def test_what_is_no_snapshot(own: Clone) -> None:
    for given, said in (
        (("nobody", "SELECT 1"), "nobody is no commit"),
        (("HEAD", "SELECT 1", "--from", "2030-01-01"), "has no day of behavioral_events from 2030-01-01"),
        (("HEAD", "SELECT nobody FROM behavioral_events"), "DuckDB refused the query"),
    ):
        assert said in own.fails(*QUERY, *given)
    failed = own.run("python", "-m", "commands.query", "SELECT 1", "--from", "2025-10-01", ok=False)
    assert "--from and --to belong to --at" in failed.stderr
    assert "the remote was not asked: no remote" in own.run("python", "-m", "commands.versions").stdout
