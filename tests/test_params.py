"""params.yaml and watermark.yaml: what is refused, and that the message names key, value and expectation."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import watermark
from pipeline.core.digest import Pin
from pipeline.core.errors import ParamsError, PinError
from pipeline.core.params import load_params
from pipeline.core.watermark import Watermark
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.helpers import TABLE, USER_A, USER_B, Project


def test_the_project_s_own_params_load(project: Project) -> None:
    loaded = load_params(project.root / "params.yaml")
    assert loaded.extract.user_id == ()
    assert loaded.validate.mode == "strict"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("extract__days", 0, "1 to 36525", id="no days"),
        pytest.param("extract__days", -1, "1 to 36525", id="negative days"),
        pytest.param("extract__days", "90", "'90' (str)", id="days as text"),
        pytest.param("extract__days", True, "True (bool)", id="a flag for days"),
        pytest.param("extract__days", 9.5, "9.5 (float)", id="half a day"),
        pytest.param("extract__days", None, "nothing", id="days missing"),
        pytest.param("extract__days", date(2025, 10, 28), "datetime.date", id="a date for days"),
        pytest.param("extract__batch_size", 0, "extract.batch_size", id="no rows in a batch"),
        pytest.param("extract__workers", 0, "extract.workers", id="no workers"),
        pytest.param("extract__user_id", "not-a-cuid", "cuid", id="no cuid"),
        pytest.param("extract__user_id", "c'; DROP TABLE behavioral_events; --", "cuid", id="SQL"),
        pytest.param("extract__user_id", USER_A + "\n", "cuid", id="a newline"),
        pytest.param("extract__user_id", float("inf"), "inf (float)", id="infinity"),
        pytest.param("extract__user_id", [USER_A, "$(touch x)"], "cuid", id="shell in a list"),
        pytest.param("extract__user_id", [], "at least one", id="an empty list"),
        pytest.param("validate__mode", "lenient", "strict, quarantine", id="unknown mode"),
        pytest.param("validate__experiment_phases", [], "phase labels", id="no phases"),
        pytest.param("validate__experiment_phases", [1], "phase labels", id="a number for a phase"),
        pytest.param("load__strategy", "materialized", "view, table", id="unknown strategy"),
        pytest.param("load__colour", "red", "unknown key load.colour", id="unknown key"),
    ],
)
def test_what_can_not_be_meant_is_refused(project: Project, key: str, value: Any, said: str) -> None:
    project.set(**{key: value})
    with pytest.raises(ParamsError) as caught:
        load_params(project.root / "params.yaml")
    assert said in str(caught.value)
    assert "next:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("extract: {days: 1}", "missing key", id="keys missing"),
        pytest.param("[1, 2]", "source, extract, validate, export, load", id="a list"),
        pytest.param("a: [", "is no YAML", id="no YAML"),
        pytest.param("", "nothing", id="empty"),
    ],
)
def test_files_that_are_no_params(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError, match=said):
        load_params(file)


def test_a_missing_file_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="git checkout"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=r"commands\.refresh"):
        watermark.load(tmp_path / "watermark.yaml")


def test_user_ids_are_a_set(project: Project) -> None:
    project.set(extract__user_id=[USER_B, USER_A, USER_B])
    assert load_params(project.root / "params.yaml").extract.user_id == (USER_A, USER_B)


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
        pytest.param(("until: '2024-03-01T00:00:00Z'", "until: 2024-03-01"), "quoted UTC midnight", id="unquoted date"),
        pytest.param(
            ("until: '2024-03-01T00:00:00Z'", "until: 2024-03-01T00:00:00Z"),
            "quoted UTC midnight",
            id="unquoted instant",
        ),
        pytest.param(("T00:00:00Z", "T12:00:00Z"), "quoted UTC midnight", id="noon"),
        pytest.param(("until:", "till:"), "until and tables", id="until misspelt"),
        pytest.param(("'2024-02-28'", "2024-02-28"), "quoted date", id="unquoted day"),
        pytest.param(("rows: 3", "rows: -3"), "number of rows", id="negative rows"),
        pytest.param(("rows: 3", "rows: yes"), "number of rows", id="a flag for rows"),
        pytest.param(("0000000000000000", "zz"), "16 hex digits", id="no digest"),
    ],
)
def test_a_watermark_that_can_not_be_meant(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "watermark.yaml"
    file.write_text(watermark.render(PINS).replace(*change))
    with pytest.raises(ParamsError, match=said):
        watermark.load(file)


def test_a_day_that_was_never_pinned() -> None:
    assert list(watermark.pinned(PINS, BEHAVIORAL_EVENTS, 2)) == [date(2024, 2, 28), date(2024, 2, 29)]
    with pytest.raises(PinError, match=r"1 of 3 days are not pinned, the first is 2024-02-27"):
        watermark.pinned(PINS, BEHAVIORAL_EVENTS, 3)
