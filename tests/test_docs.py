"""The README against the code: tables are made from it, commands exist, outputs are what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import duckdb
import pytest
import yaml

from pipeline.core import errors
from pipeline.core.errors import PipelineError
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.table import markdown
from tests.helpers import ROOT, Clone

pytestmark = pytest.mark.xdist_group("clones")


README = (ROOT / "README.md").read_text(encoding="utf-8")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_column_table_is_made_from_the_contract() -> None:
    assert markdown(BEHAVIORAL_EVENTS) in README


def test_the_params_table_has_every_key_with_its_default() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| `(.*?)` \|", README, re.M))
    assert {key: yaml.safe_load(value) for key, value in rows.items()} == {
        f"{group}.{name}": value for group, keys in params.items() for name, value in keys.items()
    }


def test_the_params_table_says_who_reads_a_key() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for key, readers in re.findall(r"^\| `(\w+\.\w+)` \|.*\| ([a-z, ]+) \|$", README, re.M):
        reading = [
            name
            for name, stage in stages.items()
            if {key, key.split(".")[0]} & {p for p in stage["params"] if isinstance(p, str)}
        ]
        assert readers.split(", ") == reading


def test_the_exit_codes_are_those_of_the_code() -> None:
    kinds = [PipelineError, *PipelineError.__subclasses__()]
    documented = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.*) \|$", README, re.M)}
    assert {kind.exit_code for kind in kinds} | {0, 130, 143} == set(documented)
    for kind in kinds[1:]:
        assert documented[kind.exit_code] == (kind.__doc__ or "").strip().rstrip(".")
    assert errors.PipelineError.exit_code == 1


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)`|\$ make ([a-z]+)", README))))
def test_make_targets_exist(target: tuple[str, str]) -> None:
    assert re.search(rf"^{''.join(target)}:.*## ", MAKEFILE, re.M)


def test_stage_commands_exist() -> None:
    for module in set(re.findall(r"python -m ((?:stages|commands)\.[a-z]+)", README)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()


def test_paths_of_the_layout_exist() -> None:
    layout = README[README.index("## Layout") :]
    for path in re.findall(r"^\| `(.+?)` \|", layout, re.M):
        assert (ROOT / path).exists()


def test_what_make_repro_prints_at_the_end_is_what_the_readme_shows(reproduced: Clone) -> None:
    printed = reproduced.run("python", "-m", "commands.summary", COLUMNS="110").stdout
    shown = next(block for block in blocks("console") if "ready to query" in block)
    for line in printed.splitlines():
        if not line.startswith("  times"):
            assert line in shown
    assert "  times        extract" in shown


def test_the_next_command_works_as_printed(clone: Clone) -> None:
    """As printed, but for .venv/bin, which `make` made: here it is the interpreter of the tests."""
    printed = clone.run("python", "-m", "commands.summary").stdout
    command = printed.split("Next, for example:\n")[1].strip()
    assert command.startswith(".venv/bin/python ")
    answer = clone.run(*shlex.split(command.removeprefix(".venv/bin/"))).stdout
    assert "intervention_A_2" in answer


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split("\n")[0])
def test_python_blocks_run_as_written(reproduced: Clone, block: str) -> None:
    reproduced.run("python", "-c", block)


def test_the_effect_is_found_again(reproduced: Clone) -> None:
    with duckdb.connect() as connection:
        files = f"{reproduced.path}/data/export/*/*/*.parquet"
        connection.execute(f"CREATE VIEW behavioral_events AS FROM read_parquet('{files}', hive_partitioning = false)")
        query = next(block for block in blocks("sql") if "AS effect" in block)
        answer = connection.execute(query).fetchone()
    assert answer is not None
    assert f"gives {answer[0]}." in README
    assert abs(answer[0] - 8) < 0.6


def test_commands_of_experiments_are_tested() -> None:
    tested = (ROOT / "tests/test_experiments.py").read_text(encoding="utf-8")
    for flag in ("--temp", "extract.days=30", "extract.user_id=", '"metrics", "diff"', '"exp", "show"'):
        assert flag in tested


def test_no_machine_path_or_password_is_written_down() -> None:
    for path in ("README.md", "params.yaml", "dvc.yaml", "Makefile"):
        text = Path(ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|work|tmp)/", text)
