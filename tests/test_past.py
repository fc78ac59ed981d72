"""Old snapshots: read without being checked out, and listed with where their files are."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta

import pytest

from tests.docs import blocks, run_shell, with_venv
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
    everything = "SELECT * EXCLUDE (event_date) FROM behavioral_events ORDER BY timestamp, id"
    old = own.run("python", "-m", "commands.query", "--csv", everything.replace("* EXCLUDE (event_date)", "*")).stdout
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    night(own, UNTIL + timedelta(days=1), "second night")
    own.run("dvc", "push", "--all-commits")
    other = copy_of(own, "who looks back")
    s3.forget_requests()
    day = UNTIL - timedelta(days=2)
    of_day = f"SELECT count(*), min(event_date) FROM behavioral_events WHERE event_date = '{day}'"
    answer = other.run(*QUERY, "first-night", of_day).stdout
    assert answer.split()[1].endswith(f",{day}")
    assert len(objects(s3)) == 3  # the day, and of each table the first for the columns
    assert not (other.path / "data/export").exists()
    s3.forget_requests()
    other.run(*QUERY, "first-night", of_day)
    assert not objects(s3)
    last = ("--from", str(UNTIL - timedelta(days=1)), "--to", str(UNTIL - timedelta(days=1)))
    other.run(*QUERY, "first-night", "SELECT max(timestamp) FROM behavioral_events", *last)
    assert len(objects(s3)) == 1
    assert other.run(*QUERY, first[:8], everything).stdout == old
    ask = "SELECT (SELECT count(*) FROM behavioral_events), (SELECT count(*) FROM daily_activity)"
    code = f"from commands import query; print(query.connect(at={first!r}).sql({ask!r}).fetchall())"
    events, activity = map(int, re.findall(r"\d+", other.run("python", "-c", code).stdout))
    assert (events, activity > 0) == (old.count("\n") - 1, True)
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
    assert "13 of 14 in remote" in elsewhere.run("python", "-m", "commands.versions").stdout


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


def test_a_snapshot_gets_a_name_that_can_be_cited(own: Clone) -> None:
    page = blocks("versions", language="sh")[7]
    said = run_shell(with_venv(own), page, {}).splitlines()
    head, day = own.run("git", "show", "-s", "--format=%H %cs", "HEAD").stdout.split()
    listed = json.loads(own.text("data/reports/quality.json"))["files"]
    lines = "".join(f"{one['table']} {one['day']} {one['sha256']}\n" for one in listed)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    of = f"2025-10-23 to 2025-10-27 (UTC), 10 rows, SHA-256 {digest}. {day}."
    assert said[-1] == f"Behavioural events [Data set]. commit {head[:10]}, {of}"
    named = f"Behavioural events [Data set]. version study-1, commit {head[:10]}, {of}"
    assert named in said
    assert own.run("git", "tag", "--list", "--format=%(contents:subject)", "study-1").stdout.strip() == named
    assert own.run("git", "rev-parse", "study-1^{commit}").stdout.strip() == head
    assert own.run("python", "-m", "commands.versions").stdout.splitlines()[1].endswith("  study-1")
    tree = own.run("git", "mktree", "--missing").stdout.strip()
    empty = own.run("git", "commit-tree", tree, "-m", "nothing").stdout.strip()
    for given, said_ in (
        (("study-1",), "'study-1' can't be a tag"),
        (("a name",), "'a name' can't be a tag"),
        (("-d",), ""),
        (("study-2", "--rev", "nobody"), "nobody is no commit"),
        (("study-2", "--rev", empty), "no snapshot that can be cited"),
    ):
        failed = own.run("python", "-m", "commands.tag", *given, ok=False)
        assert failed.returncode != 0
        assert said_ in failed.stderr
        assert "Traceback" not in failed.stderr
    (own.path / "data/reports/load.json").write_text("{}")
    assert "not as it is committed: data/reports/load.json" in own.fails("python", "-m", "commands.tag", "study-2")
    assert own.run("git", "tag").stdout.split() == ["study-1"]
