"""The example queries run on the view and on the table, from any directory, and say what independent counts say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers import ROOT, Clone

QUERIES = sorted((ROOT / "queries").glob("*.sql"))


pytestmark = pytest.mark.xdist_group("clones")


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_all_queries_answer_from_any_directory(clone: Clone, tmp_path: Path, strategy: str) -> None:
    if strategy == "table":
        clone.change(("strategy: view", "strategy: table"))
        clone.run("python", "-m", "stages.load")
    done = subprocess.run(
        ["python", "-m", "commands.query"],
        cwd=tmp_path,
        env={**clone.env, "PYTHONPATH": str(clone.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"^-- (\w+\.sql):", done.stdout, re.M) == [path.name for path in QUERIES]
    assert "0 rows in" not in re.sub(r"\d0 rows in", "", done.stdout)
    assert len(re.findall(r"rows in \d+ ms", done.stdout)) == len(QUERIES)


def test_events_per_day_are_the_files_rows(reproduced: Clone) -> None:
    printed = reproduced.run(
        "python", "-m", "commands.query", "SELECT sum(events) AS n FROM (" + sql("events_per_day") + ")"
    ).stdout
    rows = sum(pq.ParquetFile(p).metadata.num_rows for p in reproduced.path.glob("data/export/*/*/*.parquet"))
    assert str(rows) in printed


def sql(name: str) -> str:
    return (ROOT / "queries" / f"{name}.sql").read_text(encoding="utf-8").strip().rstrip(";")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        pytest.param("SELECT nonsense", "DuckDB refused the query", id="unknown column"),
        pytest.param("missing.sql", "there is no file missing.sql", id="no such file"),
        pytest.param("SELECT 1; SELECT 2", "2 statements in one query", id="two statements"),
    ],
)
def test_a_query_that_can_not_be_run(reproduced: Clone, argument: str, said: str) -> None:
    failed = reproduced.run("python", "-m", "commands.query", argument, ok=False)
    assert failed.returncode == 2
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_queries_before_the_first_run_say_what_to_do(reproduced: Clone, tmp_path: Path) -> None:
    for folder in ("commands", "pipeline", "schemas"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    code = "from commands import query; from pipeline.core.paths import Paths; query.connect(Paths())"
    failed = subprocess.run(
        ["python", "-c", code], cwd=tmp_path, env=reproduced.env, capture_output=True, text=True, check=False
    )
    assert "DataError: there is no data/analytics.duckdb" in failed.stderr
    assert "make repro" in failed.stderr


def test_a_file_less_under_the_view_is_an_error_and_no_shorter_answer(clone: Clone) -> None:
    next(clone.path.glob("data/export/*/*/*.parquet")).unlink()
    failed = clone.run("python", "-m", "commands.query", "SELECT count(*) FROM behavioral_events", ok=False)
    assert failed.returncode == 6
    assert "data/export/behavioral_events is not what export wrote" in failed.stderr
    clone.run("dvc", "repro")
    clone.run("python", "-m", "commands.query", "SELECT count(*) FROM behavioral_events")


def test_control_characters_do_not_reach_the_terminal(reproduced: Clone) -> None:
    printed = reproduced.run(
        "python", "-m", "commands.query", "SELECT chr(27) || '[31m' || chr(7) || 'é' AS text"
    ).stdout
    assert r"\x1b[31m\x07é" in printed
