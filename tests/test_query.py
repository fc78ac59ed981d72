"""The example queries run on the view and on the table, from any directory, and say what independent counts say."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.views.views import DAYS, VIEWS
from tests.helpers import ROOT, Clone

QUERIES = sorted((ROOT / "queries").glob("*.sql"))


pytestmark = pytest.mark.xdist_group("clones")


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_all_queries_answer_from_any_directory(clone: Clone, tmp_path: Path, strategy: str) -> None:
    if strategy == "table":
        clone.change(("strategy: view", "strategy: table"))
        clone.run("dvc", "repro")
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
    rows = sum(
        pq.ParquetFile(p).metadata.num_rows for p in reproduced.path.glob("data/export/behavioral_events/*/*.parquet")
    )
    assert str(rows) in printed


def sql(name: str) -> str:
    return (ROOT / "queries" / f"{name}.sql").read_text(encoding="utf-8").strip().rstrip(";")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        pytest.param("SELECT nonsense", "DuckDB refused the query", id="unknown column"),
        pytest.param("missing.sql", "there is no file missing.sql", id="no such file"),
        pytest.param("SELECT 1; SELECT 2", "2 statements in one query", id="two statements"),
        pytest.param("", "0 statements in one query", id="no statement"),
        pytest.param("SELECT 'a'::INT", "Could not convert string 'a'", id="a value that can't be converted"),
        pytest.param("FROM 'nowhere.parquet'", "No files found that match", id="a file that is not there"),
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
    next(clone.path.glob("data/export/behavioral_events/*/*.parquet")).unlink()
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


def test_a_file_of_other_bytes_than_sql(reproduced: Clone, tmp_path: Path) -> None:
    file = tmp_path / "query.sql"
    for content, said in ((b"\xff", "can't decode byte 0xff"), (b"", "0 statements in one query")):
        file.write_bytes(content)
        failed = reproduced.run("python", "-m", "commands.query", str(file), ok=False)
        assert failed.returncode == 2
        assert said in failed.stderr


def test_values_that_python_has_not(reproduced: Clone) -> None:
    values = "TIMESTAMP 'infinity' AS t, DATE '20000-01-01' AS d, DATE '0044-03-15 (BC)' AS b, 2 AS a, 3 AS a"
    printed = reproduced.run("python", "-m", "commands.query", f"SELECT {values}").stdout
    assert re.findall(r"infinity +20000-01-01 +0044-03-15 \(BC\) +2 +3\n", printed)


def test_json_is_json(reproduced: Clone) -> None:
    values = """'NaN "Infinity' AS a, 'nan'::DOUBLE AS b, ['-inf'::DOUBLE, 1.5] AS c, 'inf'::FLOAT AS d"""
    printed = reproduced.run("python", "-m", "commands.query", "--json", f"SELECT {values}").stdout
    assert json.loads(printed, parse_constant=pytest.fail) == [
        {"a": 'NaN "Infinity', "b": None, "c": [None, 1.5], "d": None}
    ]


def test_an_answer_lists_no_table_of_the_command_itself(reproduced: Clone) -> None:
    printed = reproduced.run("python", "-m", "commands.query", "--csv", "SHOW TABLES").stdout
    assert printed.split() == [
        "name",
        *sorted(["behavioral_events", "context_metadata", DAYS.name, *(view.name for view in VIEWS)]),
    ]


def test_an_answer_replaces_what_its_file_held_and_nothing_else(reproduced: Clone, tmp_path: Path) -> None:
    """Also where FILE is a link or a pipe, and where folders beside it have names like those of its kind."""
    beside = tmp_path / ".answer.csv.mine"
    beside.mkdir()
    (tmp_path / "answer.csv").symlink_to(tmp_path / "target.csv")
    query = ("python", "-m", "commands.query", "SELECT 1 AS one", "--output")
    reproduced.run(*query, str(tmp_path / "answer.csv"))
    assert (tmp_path / "target.csv").read_text() == "one\n1\n"
    assert beside.is_dir()
    failed = reproduced.run(*query, str(tmp_path / "nowhere/answer.csv"), ok=False)
    assert failed.returncode == 2
    assert "another --output" in failed.stderr
    reproduced.run(*query, "/dev/null")


@pytest.mark.parametrize(
    ("form", "number"),
    [pytest.param((), signal.SIGINT, id="shown, SIGINT"), pytest.param(("--csv",), signal.SIGTERM, id="csv, SIGTERM")],
)
def test_a_signal_ends_a_long_query(reproduced: Clone, form: tuple[str, ...], number: signal.Signals) -> None:
    """Python hears of a signal between two of its own instructions, and a query is none."""
    endless = "SELECT sum(a.range * b.range) FROM range(100_000_000) a, range(1_000_000) b"
    command = ["python", "-m", "commands.query", *form, endless]
    process = subprocess.Popen(
        command, cwd=reproduced.path, env=reproduced.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    busy = Path(f"/proc/{process.pid}/stat")
    while process.poll() is None and int(busy.read_text().rpartition(")")[2].split()[11]) < 90:
        pass  # the imports take a third of a second of work; this is 0.9 s
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == f"stopped by {number.name}; nothing was published\n"


def test_a_folder_with_a_comma(clone: Clone) -> None:
    """file_search_path is a list, and DuckDB has no way to quote a comma in it."""
    folder = clone.path.with_name("a, b")
    clone.path.rename(folder)
    moved = Clone(folder, clone.env)
    moved.run("python", "-m", "commands.query", "SELECT count(*) FROM behavioral_events")
    code = "import os; os.chdir('/'); from commands import query; query.main()"
    failed = subprocess.run(
        ["python", "-c", code, "SELECT 1"],
        cwd=folder,
        env={**clone.env, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "in a folder with a comma" in failed.stderr
    assert f"cd '{folder}'" in failed.stderr
