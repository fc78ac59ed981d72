"""Snapshots in a remote: pushed, pulled, checked. The S3 API is moto's."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fix_remote import S3, answers, bytes_of, configure, copy_of, serve, with_remote
from tests.helpers import Clone, ran

pytestmark = pytest.mark.xdist_group("remote")

MORE_CASES = ("failure_cases: 100", "failure_cases: 99")
AS_TABLE = ("strategy: view", "strategy: table")
PSEUDONYMS = ("pseudonymize: false", "pseudonymize: true")
RAW = {"raw", "quarantine"}
ALL_DATA = {"raw", "quarantine", "export", "analytics.duckdb", "report"}


def test_push_and_pull_and_a_clone_without_a_database(pushing: Clone, s3: S3, bucket: str) -> None:
    assert "key" not in pushing.text(".dvc/config").replace("hashkey", "")
    pushing.run("dvc", "push")
    other = copy_of(pushing, "pulled")
    before = other.run("python", "-m", "commands.check")
    assert before.stdout.splitlines() == [
        "check: pipeline and dvc.lock agree",
        # ten days' files and the quarantine of two tables, the page with its six series, four lists and the database
        "check: remote holds all 37 files",
    ]
    other.run("dvc", "pull")
    assert "up to date" in other.run("dvc", "repro").stdout
    assert bytes_of(other) == bytes_of(pushing)
    assert answers(other) == answers(pushing)
    assert "events_per_day" in other.run("python", "-m", "commands.query").stdout
    assert other.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("command", "change", "stages", "brought"),
    [
        pytest.param("dvc repro --pull", MORE_CASES, ["validate"], ALL_DATA, id="pull", marks=pytest.mark.long),
        pytest.param(
            "dvc repro --pull --allow-missing", MORE_CASES, ["validate"], RAW, id="raw", marks=pytest.mark.long
        ),
        pytest.param(
            "dvc repro --pull --allow-missing", AS_TABLE, ["load", "report"], ALL_DATA, id="all that load reads"
        ),
        pytest.param(
            "dvc repro --pull -s export", PSEUDONYMS, ["export"], RAW | {"export"}, id="export", marks=pytest.mark.long
        ),
    ],
)
def test_a_clone_without_a_database_runs_a_later_stage(
    pushing: Clone, command: str, change: tuple[str, str], stages: list[str], brought: set[str]
) -> None:
    """DVC brings what the stage reads; with --allow-missing nothing else."""
    pushing.run("dvc", "push")
    other = copy_of(pushing, "later")
    other.change(change)
    done = other.run(*command.split(), PSEUDONYM_KEY="k" * 32)
    assert ran(done.stdout) == stages
    there = {entry.name for entry in (other.path / "data").iterdir() if not entry.name.startswith(".")}
    assert there - {"reports"} == brought


@pytest.mark.long
def test_a_remote_that_does_not_work(own: Clone, s3: S3, bucket: str, scratch: Path) -> None:
    """What one sees, that nothing is lost, and that the next push completes."""
    before = bytes_of(own)
    said = own.fails("python", "-m", "commands.check")
    assert "no remote" in said.lower()
    assert "make remote URL=" in said
    with_remote(own, s3, bucket)

    configure(own, "url", "s3://no-such-bucket/events")
    assert "bucket does not exist" in own.fails("dvc", "push")
    said = own.fails("python", "-m", "commands.check")
    assert "can't read or write the remote s3://no-such-bucket/events" in said
    configure(own, "url", f"s3://{bucket}/events")

    configure(own, "endpointurl", "http://127.0.0.1:1")
    said = own.fails("dvc", "push")
    assert "Could not connect" in said

    with serve(scratch, INITIAL_NO_AUTH_ACTION_COUNT="0") as guarded:  # knows no keys
        configure(own, "endpointurl", guarded.url)
        assert "Forbidden" in own.fails("dvc", "push")
        said = own.fails("python", "-m", "commands.check")
        assert said.count("check: ") == 2
        assert "can't read or write the remote s3://" in said
        assert "AWS_ACCESS_KEY_ID" in said

    configure(own, "endpointurl", s3.url)
    # A push that dies in its middle.
    process = subprocess.Popen(
        ["dvc", "push", "-j", "1"],
        cwd=own.path,
        env=own.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not s3.requests("PUT") and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bytes_of(own) == before
    own.run("dvc", "push")
    assert own.run("python", "-m", "commands.check").returncode == 0
    other = copy_of(own, "after trouble")
    configure(other, "endpointurl", s3.url)
    other.run("dvc", "pull")
    assert bytes_of(other) == before


def test_check_sees_what_is_missing_and_what_would_run(pushing: Clone, s3: S3, bucket: str) -> None:
    pushing.run("dvc", "push")
    other = copy_of(pushing, "gate")
    lock = json.dumps(other.hashes())
    day = pushing.path / "data/export/behavioral_events/event_date=2025-10-25/part-0.parquet"
    md5 = subprocess.run(["md5sum", day], capture_output=True, text=True, check=True).stdout.split()[0]
    s3.client().delete_object(Bucket=bucket, Key=f"events/files/md5/{md5[:2]}/{md5[2:]}")
    report = other.path / "data/reports/load.json"
    right = report.read_text()
    report.write_text(right + "\n")
    other.run("git", "commit", "--quiet", "--all", "--message", "Without the reports of the run")
    report.write_text(right)
    other.change(("attempts: 6", "attempts: 6  # enough"))
    said = other.fails("python", "-m", "commands.check")
    assert "1 file not there (data/export/behavioral_events/event_date=2025-10-25/part-0.parquet)" in said
    uncommitted = "data/reports/load.json, params.yaml"
    assert f"pipeline and dvc.lock agree, but not with the commit: {uncommitted}; next: git commit -a" in said
    other.change(("strategy: view", "strategy: table"))
    done = other.make("check", ok=False)
    assert done.returncode != 0
    assert "check: pipeline and dvc.lock: load would run; next: dvc repro" in done.stdout
    assert json.dumps(other.hashes()) == lock
