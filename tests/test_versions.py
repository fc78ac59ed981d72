"""Snapshots in time: brought back, rolled back, merged. The S3 API is moto's."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tests.fix_remote import S3, answers, bytes_of, copy_of, night, with_remote
from tests.helpers import UNTIL, Clone, Database, event

pytestmark = pytest.mark.xdist_group("remote")


@pytest.mark.long
def test_a_night_pushes_its_day_and_an_old_snapshot_comes_back(own: Clone, db: Database, s3: S3, bucket: str) -> None:
    """In the same clone, in another one, and read without being checked out; a night pushes the new day only."""
    first = own.run("git", "rev-parse", "HEAD").stdout.strip()
    old, old_answers = bytes_of(own), answers(own)
    with_remote(own, s3, bucket)
    own.run("dvc", "push")
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    second = night(own, UNTIL + timedelta(days=1), "second night")
    s3.forget_requests()
    own.run("dvc", "push", "--all-commits")
    puts = s3.requests("PUT")
    lists = [path for path in puts if path.endswith(".dir")]
    # The new day in raw and in export, the four files that describe the export, the page with its six series, and the
    # lists of these three folders.
    assert (len(puts), len(lists)) == (15, 3)
    assert s3.requests("POST") == []  # no upload in parts
    new, new_answers = bytes_of(own), answers(own)
    assert new_answers != old_answers
    assert "quality.json" in own.run("dvc", "metrics", "diff", first, second).stdout.replace("\n", "")
    other = copy_of(own, "another machine")
    other.run("dvc", "pull")
    assert bytes_of(other) == new
    for clone in (own, other):
        clone.run("git", "checkout", "-q", first, "--", "watermark.yaml", "params.yaml", "dvc.lock", "data/reports")
        if clone is other:
            clone.run("dvc", "fetch")
        clone.run("dvc", "checkout")
        assert bytes_of(clone) == old
        assert answers(clone) == old_answers
        assert "up to date" in clone.run("dvc", "repro").stdout
    code = (
        "import duckdb\n"
        "from dvc.api import DVCFileSystem\n"
        f"DVCFileSystem(rev='{first}').get('data/export/behavioral_events', 'old', recursive=True)\n"
        "print(len(duckdb.sql(\"FROM read_parquet('old/*/*.parquet', hive_partitioning = false)\").fetchall()))"
    )
    assert other.run("python", "-c", code).stdout.strip() == str(sum(n for _, n in old_answers))


@pytest.mark.long
def test_there_and_back_gives_the_new_data(own: Clone, db: Database) -> None:
    """90, 30 and 90 days with the database changed and refreshed in between: never the first from a cache."""

    def days(n: int) -> None:
        text = re.sub(r"(?m)^  days: \d+$", f"  days: {n}", own.text("params.yaml"))
        (own.path / "params.yaml").write_text(text)

    first = bytes_of(own)
    days(2)
    own.run("dvc", "repro")
    db.insert(event(timestamp="2025-10-23 12:00:00"))
    days(5)
    own.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    own.run("dvc", "repro")
    assert bytes_of(own) != first
    assert dict(answers(own))["2025-10-23"] == 3
    db.run("DELETE FROM behavioral_events WHERE timestamp = '2025-10-23 12:00:00'")
    own.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    own.run("dvc", "repro")
    assert bytes_of(own) == first


REPORTS = ("extract", "validation", "quality", "load", "checks")


def test_versions_of_every_stash_and_of_the_reflog_are_known(own: Clone) -> None:
    def versions() -> int:
        return int(own.run("python", "-c", "from pipeline.versions.known import history; print(len(history()))").stdout)

    before, lock = versions(), own.path / "dvc.lock"
    for n in range(2):
        lock.write_text(f"{own.text('dvc.lock')}# {n}\n")
        own.run("git", "stash")
    lock.write_text(f"{own.text('dvc.lock')}# amended away\n")
    own.commit("to be lost")
    own.run("git", "reset", "--hard", "HEAD~1")
    assert versions() == before + 3
