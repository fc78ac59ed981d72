"""Snapshots with files of months: compared with those of days, asked later, cited and handed over."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.core.days import DAYS
from tests.docs import blocks, run_shell, with_venv
from tests.helpers import UNTIL, Clone

pytestmark = pytest.mark.xdist_group("remote")

AT = ("python", "-m", "commands.query", "--csv", "--at", "HEAD")


@pytest.fixture(scope="module")
def months(first_night: Clone, scratch: Path) -> Clone:
    """A clone whose first commit has days and whose second has months, of the same rows. Read only."""
    path = scratch / "months"
    shutil.copytree(first_night.path, path, symlinks=True)
    clone = Clone(path, first_night.env)
    run_shell(with_venv(clone), blocks("scale", language="sh")[1], {})
    clone.commit("months")
    return clone


def test_the_same_rows_in_other_files(months: Clone) -> None:
    said = months.run("python", "-m", "commands.diff", "HEAD~1", "HEAD").stdout
    assert "0 added, 0 removed, 0 modified; 6 files differ" in said


def test_days_of_months_are_asked_for_later(months: Clone) -> None:
    def ask(sql: str, *more: str) -> list[str]:
        return months.run(*AT, sql, *more).stdout.splitlines()[1:]

    first, last = UNTIL - timedelta(days=5), UNTIL - timedelta(days=1)
    each = "SELECT event_date, count(*) FROM {} GROUP BY 1 ORDER BY 1"
    days = [first + timedelta(days=n) for n in range(5)]
    assert ask(each.format("behavioral_events")) == [f"{day},2" for day in days]
    assert ask("SELECT DISTINCT event_month FROM behavioral_events") == ["2025-10"]
    assert ask(each.format("event_days")) == [f"{day},1" for day in days]
    some = ("--from", str(days[1]), "--to", str(days[2]))
    assert ask(each.format("behavioral_events"), *some) == [f"{day},2" for day in days[1:3]]
    assert ask(each.format("event_days"), *some) == [f"{day},1" for day in days[1:3]]
    assert ask("SELECT max(event_date) FROM daily_activity") == [str(last)]
    here = months.run("python", "-m", "commands.query", "--csv", each.format("event_days")).stdout.splitlines()[1:]
    assert here == [f"{day},1" for day in days]


def test_days_that_no_month_has_are_an_error(months: Clone) -> None:
    """And no empty answer, though their month has a file."""
    asked = [("2025-10-28", "2025-10-31"), ("2025-10-01", "2025-10-22"), ("2025-10-26", "2025-10-25")]
    ask = f"""
from datetime import date
from commands import query
from pipeline.core.errors import ParamsError
for first, last in {asked}:
    try:
        with query.of_snapshot("HEAD", date.fromisoformat(first), date.fromisoformat(last)):
            print("found")
    except ParamsError as error:
        print(error.what.partition(") ")[2])
"""
    said = months.run("python", "-c", ask).stdout.splitlines()
    assert said == [f"has no day of behavioral_events from {first} to {last}" for first, last in asked]


def test_rows_are_dated_as_they_were_filed(months: Clone) -> None:
    """Whatever the contract of today says of the table."""
    ask = """
from datetime import date
from commands import query
with query.of_snapshot("HEAD", date(2025, 10, 25), date(2025, 10, 25)) as old:
    print(old.connection.execute("SELECT event_date, count(*) FROM behavioral_events GROUP BY 1").fetchall())
"""
    months.change(('    time="timestamp",\n', "    time=None,\n"), file="schemas/behavioral_events.py")
    try:
        assert months.run("python", "-c", ask).stdout == "[(datetime.date(2025, 10, 25), 2)]\n"
    finally:
        months.run("git", "checkout", "schemas")


def test_the_window_is_told_by_days(months: Clone) -> None:
    listed = months.run("python", "-m", "commands.versions").stdout.splitlines()
    assert [line.split()[2:5] for line in listed[1:3]] == [["2025-10-23", "to", "2025-10-27"]] * 2


def test_an_analysis_finds_the_window(months: Clone) -> None:
    ask = "from analyses.snapshot import Snapshot; from pipeline.core.inputs import Inputs; "
    ask += "from pipeline.core.paths import Paths; from pipeline.core.params import load_params; p = Paths(); "
    ask += "q = load_params(p.params); s = Snapshot(p, q, Inputs(p, q, lambda p: p.tables, [])); "
    ask += "print(s.first, s.last, s.count('FROM event_days'))"
    assert months.run("python", "-c", ask).stdout.split() == ["2025-10-23", "2025-10-27", "5"]


def test_months_are_cited_and_handed_over(months: Clone, tmp_path: Path) -> None:
    archive = tmp_path / "months.zip"
    key = {"PSEUDONYM_KEY": "k" * 40}
    said = months.run("python", "-m", "commands.bundle", "--pseudonyms", "--output", str(archive), **key).stdout
    assert "2025-10-23 to 2025-10-27 (UTC), 10 rows" in said
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    readme = (folder / "README.md").read_text()
    assert "holds one UTC month of one table" in (folder / "DATACARD.md").read_text()
    assert "5 days" in (folder / "DATACARD.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("sed "))
    found = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    assert f"if this prints its SHA-256, `{found}`" in readme
    sql = (folder / "views.sql").read_text()
    assert "event_month=2025-10/part-0.parquet" in sql
    assert "TIMESTAMP '2025-10-23'" in sql
    (file,) = folder.glob("data/behavioral_events/*/*")
    assert pq.read_metadata(file).metadata[DAYS.encode()] == b"2025-10-23/2025-10-27"
