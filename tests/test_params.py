"""params.yaml and watermark.yaml: what is refused, and that the message names key, value and expectation."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import params, watermark
from pipeline.core.digest import Pin
from pipeline.core.errors import ParamsError, PinError
from pipeline.core.watermark import Watermark
from tests.helpers import TABLE, USER_A, USER_B, Project


def test_the_project_s_own_params_load(project: Project) -> None:
    loaded = params.load(project.root / "params.yaml")
    assert loaded.extract.user_id == ()
    assert loaded.validate.mode == "strict"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("extract__days", 0, "1 to 36525"),
        ("extract__days", -1, "1 to 36525"),
        ("extract__days", "90", "'90' (str)"),
        ("extract__days", True, "True (bool)"),
        ("extract__days", 9.5, "9.5 (float)"),
        ("extract__days", None, "nothing"),
        ("extract__days", date(2025, 10, 28), "datetime.date"),
        ("extract__batch_size", 0, "extract.batch_size"),
        ("extract__workers", 0, "extract.workers"),
        ("extract__user_id", "not-a-cuid", "cuid"),
        ("extract__user_id", "c'; DROP TABLE behavioral_events; --", "cuid"),
        ("extract__user_id", USER_A + "\n", "cuid"),
        ("extract__user_id", float("inf"), "inf (float)"),
        ("extract__user_id", [USER_A, "$(touch x)"], "cuid"),
        ("extract__user_id", [], "at least one"),
        ("validate__mode", "lenient", "strict, quarantine"),
        ("validate__experiment_phases", [], "phase labels"),
        ("validate__experiment_phases", [1], "phase labels"),
        ("load__strategy", "materialized", "view, table"),
        ("load__colour", "red", "unknown key load.colour"),
    ],
)
def test_what_can_not_be_meant_is_refused(project: Project, key: str, value: Any, said: str) -> None:
    project.set(**{key: value})
    with pytest.raises(ParamsError) as caught:
        params.load(project.root / "params.yaml")
    assert said in str(caught.value)
    assert "next:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extract: {days: 1}", "missing key"),
        ("[1, 2]", "source, extract, validate, export, load"),
        ("a: [", "is no YAML"),
        ("", "nothing"),
    ],
)
def test_files_that_are_no_params(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError, match=said):
        params.load(file)


def test_a_missing_file_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="git checkout"):
        params.load(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=r"commands\.refresh"):
        watermark.load(tmp_path / "watermark.yaml")


def test_user_ids_are_a_set(project: Project) -> None:
    project.set(extract__user_id=[USER_B, USER_A, USER_B])
    assert params.load(project.root / "params.yaml").extract.user_id == (USER_A, USER_B)


DAYS = {date(2024, 2, 28): Pin(3, "0" * 16), date(2024, 2, 29): Pin(0, "f" * 16)}
PINS = Watermark(date(2024, 3, 1), {TABLE: DAYS})


def test_watermark_survives_a_round_trip_and_is_left_alone_when_equal(tmp_path: Path) -> None:
    file = tmp_path / "watermark.yaml"
    watermark.save(PINS, file)
    before = file.stat()
    assert watermark.load(file) == PINS
    watermark.save(PINS, file)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("until: '2024-03-01T00:00:00Z'", "until: 2024-03-01"), "quoted UTC midnight"),
        (("until: '2024-03-01T00:00:00Z'", "until: 2024-03-01T00:00:00Z"), "quoted UTC midnight"),
        (("T00:00:00Z", "T12:00:00Z"), "quoted UTC midnight"),
        (("until:", "till:"), "until and tables"),
        (("'2024-02-28'", "2024-02-28"), "quoted date"),
        (("rows: 3", "rows: -3"), "number of rows"),
        (("rows: 3", "rows: yes"), "number of rows"),
        (("0000000000000000", "zz"), "16 hex digits"),
    ],
)
def test_a_watermark_that_can_not_be_meant(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "watermark.yaml"
    file.write_text(watermark.render(PINS).replace(*change))
    with pytest.raises(ParamsError, match=said):
        watermark.load(file)


def test_a_day_that_was_never_pinned() -> None:
    assert list(watermark.pinned(PINS, TABLE, 2)) == [date(2024, 2, 28), date(2024, 2, 29)]
    with pytest.raises(PinError, match=r"1 of 3 days are not pinned, the first is 2024-02-27"):
        watermark.pinned(PINS, TABLE, 3)
