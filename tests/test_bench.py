"""What the bench says of a run is what the run took. Its tables are looked at by the short form of `make bench`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import engines, skewed, windows
from benchmarks.local_cluster import core_seconds, peak_mb
from benchmarks.measuring import PUBLIC, Filling, ask, database, environment, measure, set_param
from benchmarks.report import Results, Run, held
from benchmarks.windows import DAY, MONTH, Copy, Window
from tests.fix_remote import S3
from tests.helpers import Clone

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone it is known what workers took")

# Leaves a child behind that works for a while and tells itself what that took.
LEAVING = """
import json, os, resource, sys
if not os.fork():
    block = bytearray(100_000_000)
    while sum(os.times()[:2]) < 0.4:
        pass
    used = resource.getrusage(resource.RUSAGE_SELF)
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6], open("worker", "w"))
os._exit(0)
"""


@linux
def test_what_workers_took_that_nobody_waited_for(tmp_path: Path) -> None:
    run, _ = measure([sys.executable, "-c", LEAVING], tmp_path, environment(""))
    seconds, peak = json.loads((tmp_path / "worker").read_text())
    assert run.worker_seconds == pytest.approx(seconds, abs=0.1)
    assert run.worker_mb == pytest.approx(peak, rel=0.05)
    assert run.core_seconds < seconds


@linux
def test_what_a_running_process_took() -> None:
    while sum(os.times()[:2]) < 0.1:
        pass
    assert core_seconds(os.getpid()) == pytest.approx(sum(os.times()[:2]), abs=0.05)
    assert peak_mb(os.getpid()) > 20


def test_rows_are_where_a_filling_says() -> None:
    """The schemas of one server: even, skewed, and what the bench has always had."""
    wanted = {PUBLIC: Filling(300, 3), **skewed.fillings(300, 3)}
    counted = "SELECT count(*) FROM {}.behavioral_events GROUP BY timestamp::date ORDER BY timestamp::date"
    with database(wanted) as (url, psql):
        found = {schema: ask(psql, environment(url), counted.format(schema)).split() for schema in wanted}
    assert found == {PUBLIC: ["100"] * 3, skewed.EVEN: ["100"] * 3, skewed.SKEWED: ["1", "1", "298"]}


def results(**driver_and_workers: tuple[float, float]) -> Results:
    """Of processes and LocalCluster: 10 s and 11 s of no rows, and what a million more take."""
    made = Results({"days": 3, "runs": 1})
    for start, (name, (driver, workers)) in enumerate(driver_and_workers.items(), 10):
        engine = {"processes": "processes:2", "cluster": engines.DASK}[name]
        for millions in (1, 3):
            clock = start + (driver + workers / 2) * millions
            run = Run(clock, 100, 2 + driver * millions, 1 + workers * millions, 200)
            made.runs[engines.name(engine, millions * 1_000_000)] = [run]
    return made


SIZES = [1_000_000, 3_000_000]


def test_the_estimate_follows_from_two_sizes() -> None:
    """Of 1,000 million: 0.5 s and 8 s / 16 cores a million are 1,000 s; with 32 cores and 0.5625 s 812.5 s."""
    said = "\n".join(engines.markdown(results(processes=(0.5, 8.0), cluster=(0.5625, 8.0)), SIZES))
    assert "| processes:2 | 4.50 | 0.50 | 8.00 |" in said
    assert "| processes | 16 | 8 | 8 | 0.3 |" in said
    assert "| LocalCluster | 16 + 16 | 9 | 4 | 0.2 |" in said
    # A second more at the start, 1 - 0.8125 s less for each million.
    assert "32 cores for its workers is quicker than one machine with 16 from 5,333,334 rows on." in said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        pytest.param({"processes": (0.5, 8.0), "cluster": (0.9, 8.0)}, "at no size", id="the driver takes too much"),
        pytest.param({"processes": (0.5, 8.0), "cluster": (-0.1, 8.0)}, "can't be told", id="sizes too near"),
        pytest.param({"processes": (0.5, 8.0)}, "can't be told", id="no Dask"),
    ],
)
def test_what_can_not_be_told_is_not_told(made: dict[str, tuple[float, float]], said: str) -> None:
    assert said in engines.markdown(results(**made), SIZES)[-1]


def test_an_engine_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_dask", lambda: False)
    made = results(processes=(0.5, 8.0))
    said = engines.engine_table(made, SIZES)
    assert f"| {engines.DASK}, 1,000,000 rows | not measured: pip install -r requirements-dask.txt |" in said
    rows = held(engines.targets(made, SIZES))
    assert [row[2:] for row in rows[1:3]] == [["1.62", "yes"], ["not measured", "-"]]


@pytest.mark.parametrize(
    ("extract", "expected"),
    [
        pytest.param("{days: 90}", [Window(90), Window(1825)], id="a file a day"),
        pytest.param(
            "{days: 90, files: day}",
            [Window(90, DAY), Window(1825, DAY), Window(1825, MONTH)],
            id="files may be longer",
        ),
    ],
)
def test_windows_are_those_that_params_know(
    extract: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(f"extract: {extract}\n")
    monkeypatch.setattr(windows, "ROOT", tmp_path)
    assert windows.windows(90, 1825) == expected


def test_a_param_is_changed_and_nothing_else(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("extract:\n  # files: of what\n  files: day\n  days: 90\n")
    set_param(tmp_path, "files", MONTH)
    assert params.read_text() == "extract:\n  # files: of what\n  files: month\n  days: 90\n"
    with pytest.raises(SystemExit, match=r"0 lines such as '  hours: \.\.\.', expected 1"):
        set_param(tmp_path, "hours", "1")


@pytest.mark.xdist_group("remote")
def test_bytes_pushed_are_those_of_the_objects(pushing: Clone, s3: S3, bucket: str) -> None:
    put = len(s3.requests("PUT"))
    pushing.run("dvc", "push")
    sizes = Copy(pushing.path, pushing.env, Window(5), s3).sizes(s3.requests("PUT")[put:])
    there = s3.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert {f"files/md5/{'/'.join(one['Key'].split('/')[-2:])}": one["Size"] for one in there} == sizes
    assert sum(name.endswith(".dir") for name in sizes) == 4  # raw, quarantine, export and report
