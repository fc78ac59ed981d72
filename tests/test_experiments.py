"""The whole pipeline in clones, as a user runs it: experiments, invalid rows, no database."""

from __future__ import annotations

import shutil

import pytest

from commands import summary
from tests.helpers import USER_A, USER_B, Clone, Database, Project, event

pytestmark = pytest.mark.xdist_group("clones")


def test_an_invalid_row_stops_the_run_and_the_last_snapshot_still_answers(clone: Clone, db: Database) -> None:
    db.insert(event(), event())
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 2"))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28", "--accept")
    clone.run("dvc", "repro")
    before = clone.hashes()
    db.insert(event(dayOfWeek=9))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28", "--accept")
    failed = clone.run("dvc", "repro", ok=False)
    assert failed.returncode != 0
    assert "dayOfWeek.in_range (1)" in failed.stderr
    assert "Traceback" not in failed.stderr
    query = "SELECT count(*) AS n FROM behavioral_events"
    assert clone.run("python", "-m", "commands.query", "--csv", query).stdout == "n\n2\n"
    assert clone.hashes()["data/export"] == before["data/export"]
    ignored = clone.run("git", "check-ignore", "data/reports/validation_failures.csv").stdout
    assert ignored.strip() == "data/reports/validation_failures.csv"


def test_the_source_moving_on_is_no_reason_to_fail_offline(clone: Clone) -> None:
    """What ran stays up to date, whatever DATABASE_URL says, because no stage has to run."""
    clone.env["DATABASE_URL"] = "postgresql://nobody:secret-word@127.0.0.1:1/none"
    assert "up to date" in clone.run("dvc", "repro").stdout
    clone.change(("days: 90", "days: 10"))
    assert "kept 20, read 0, dropped 160" in clone.run("dvc", "repro").stdout  # the files are there
    shutil.rmtree(clone.path / "data/raw")
    clone.change(("days: 10", "days: 11"), ("attempts: 6", "attempts: 1"))
    failed = clone.run("dvc", "repro", ok=False)
    assert failed.returncode != 0
    assert "Connection refused" in failed.stderr
    assert "secret-word" not in failed.stderr + failed.stdout


def test_without_database_url_another_source_s_pin_is_not_taken_for_the_sample_s(clone: Clone, db: Database) -> None:
    db.insert(event())
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28", "--accept", DATABASE_URL=db.url())
    failed = clone.run("python", "-m", "stages.extract", ok=False)
    assert failed.returncode == 7
    assert "because DATABASE_URL is not set" in failed.stderr
    assert "set DATABASE_URL" in failed.stderr
    pinned = clone.text("watermark.yaml")
    failed = clone.run("python", "-m", "commands.refresh", ok=False)
    assert failed.returncode == 7
    assert "pins another source than the embedded sample: 180 days of other rows" in failed.stderr
    assert clone.text("watermark.yaml") == pinned
    (clone.path / "watermark.yaml").unlink()
    clone.run("python", "-m", "commands.refresh")
    assert clone.run("git", "status", "--porcelain", "watermark.yaml").stdout == ""


def test_the_summary_says_for_whom_it_holds(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    db.insert(event())
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 32)
    project.set(extract__user_id=[USER_A, USER_B], export__pseudonymize=True)
    project.all()
    project.report()
    said = summary.summary(project.paths, project.params, 80)
    assert "only 2 users of extract.user_id" in said
    assert "13 of 15 columns were compared" in said


def test_the_summary_does_not_mix_two_runs(clone: Clone) -> None:
    clone.change(("days: 90", "days: 30"))
    clone.run("python", "-m", "stages.extract")
    failed = clone.run("python", "-m", "commands.summary", ok=False)
    assert failed.returncode == 6
    assert "what extract left is not what is asked for now: its last run did not end" in failed.stderr
