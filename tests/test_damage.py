"""Files that were altered, killed runs, and rows that are not the pinned ones: noticed before anything is published."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import watermark
from pipeline.core.errors import DataError, PinError
from pipeline.files import manifest
from pipeline.files.layout import day_path, write_report
from pipeline.files.manifest import File
from pipeline.files.writer import DayWriter
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.helpers import (
    TABLE,
    UNTIL,
    USER_A,
    YESTERDAY,
    Clone,
    Database,
    Project,
    environment,
    event,
    files,
    from_nothing,
    outputs,
    rewrite,
    rows_of_parquet,
)


def test_no_byte_of_a_file_can_change_unnoticed(tmp_path: Path) -> None:
    report, root, day = tmp_path / "extract.json", tmp_path / "raw", YESTERDAY
    file = day_path(root / TABLE, day)
    with DayWriter(file, BEHAVIORAL_EVENTS.arrow_schema("raw"), ()) as writer:
        pass
    listed = {TABLE: {day: File(0, writer.sha256, "made from")}}
    write_report(report, {"files": manifest.entries(listed)})

    def is_known() -> bool:
        try:
            manifest.check(report, root, listed)
        except DataError:
            assert manifest.kept(report, root / TABLE, {day: "made from"}) == {}
            return False
        return manifest.kept(report, root / TABLE, {day: "made from"}) == listed[TABLE]

    assert is_known()
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert not is_known()
    for length in range(0, len(good), 97):
        file.write_bytes(good[:length])
        assert not is_known()
    file.write_bytes(good + b"\0")
    assert not is_known()
    file.write_bytes(good)
    assert is_known()


@pytest.mark.parametrize("stage", ["validate", "export", "load"])
def test_a_damaged_raw_file_is_named(published: Project, stage: str) -> None:
    file = day_path(published.raw, date(2025, 10, 25))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    if stage == "export":  # which reads the files of the days that it writes
        shutil.rmtree(day_path(published.exported, date(2025, 10, 25)).parent)
    with pytest.raises(DataError, match="2025-10-25"):
        getattr(published, stage)()


@pytest.mark.parametrize("stage", ["extract", "export"])  # make faults kills all four, often
def test_kill_9_and_the_next_run_gives_the_same_bytes(db: Database, published: Project, stage: str) -> None:
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 11:00:00") for n in range(5)))
    published.refresh()
    wanted = outputs(from_nothing(published))
    chance = random.Random(1)
    before = ["extract", "validate", "export", "load"]
    for name in before[: before.index(stage)]:
        getattr(published, name)()
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=published.root,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.2, 1.2))  # a random moment is the point
        process.send_signal(signal.SIGKILL)
        process.wait()
    published.run()
    assert outputs(published) == wanted


@pytest.mark.xdist_group("clones")
@pytest.mark.long
def test_dvc_killed_with_its_stage_living_on(clone: Clone, db: Database) -> None:
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 30 + 1)} 10:00:00") for n in range(60)))
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 30"))
    clone.run("python", "-m", "commands.refresh", "--until", str(UNTIL), "--accept")
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        while "Running stage 'extract'" not in process.stdout.readline():
            pass
        process.kill()
        process.wait()
    clone.run("dvc", "repro")
    assert "up to date" in clone.run("dvc", "repro").stdout
    other = Path(f"{clone.path}-again")
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "killed")
    clone.run("git", "clone", "-q", str(clone.path), str(other))
    fresh = Clone(other, dict(clone.env))
    fresh.run("dvc", "repro", "--force")
    assert fresh.hashes() == clone.hashes()
    shutil.rmtree(other)


def test_a_moved_source_is_still_an_error_on_the_days_that_are_read(db: Database, published: Project) -> None:
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00"))
    published.refresh()
    db.insert(event(timestamp=f"{YESTERDAY} 13:00:00"))
    before = outputs(published)
    with pytest.raises(PinError, match="2025-10-27: pinned 4, now 5"):
        published.extract()
    assert outputs(published) == before


@pytest.mark.parametrize("first_run", [True, False])
def test_a_change_in_place_after_the_pin_is_noticed_before_anything_is_published(
    db: Database, published: Project, first_run: bool
) -> None:
    """Also when it is changed back, so that the pins are true again and the files are not."""
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00"))
    published.refresh()
    if first_run:
        shutil.rmtree(published.raw)
    before = outputs(published)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 5 WHERE timestamp >= %s', [YESTERDAY])
    published.extract()
    db.run('UPDATE behavioral_events SET "timeOfDay" = NULL WHERE timestamp >= %s', [YESTERDAY])
    published.refresh()
    published.extract()
    for _ in range(2):
        with pytest.raises(PinError, match=r"rows of 1 day are as many .* but not the same: 2025-10-27") as moved:
            published.validate()
    assert {name: text for name, text in outputs(published).items() if "raw" not in name and "extract" not in name} == {
        name: text for name, text in before.items() if "raw" not in name and "extract" not in name
    }
    assert f"rm -r {published.raw}" in str(moved.value)
    shutil.rmtree(published.raw)
    published.run()
    assert outputs(published) == outputs(from_nothing(published))


def test_a_file_that_passed_under_another_pin_is_compared_again(db: Database, published: Project) -> None:
    """A row is changed, pinned, and changed back before extract comes: the file is one that passed, the pin is not."""
    before = outputs(published)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 5 WHERE timestamp >= %s', [YESTERDAY])
    published.refresh()
    db.run('UPDATE behavioral_events SET "timeOfDay" = NULL WHERE timestamp >= %s', [YESTERDAY])
    published.extract()
    with pytest.raises(PinError, match="but not the same: 2025-10-27"):
        published.validate()
    published.refresh()
    published.run()
    assert outputs(published) == before


def test_a_wrong_memory_of_refresh_is_led_out_of(db: Database, published: Project) -> None:
    """The local cache says other digests than the rows have. The advice is followed as far as it takes."""
    before = outputs(published)
    published.refresh()
    cache = published.paths.verified("refresh")
    pins = watermark.load(published.paths.watermark).tables[TABLE]
    cache.write_text(cache.read_text().replace(pins[YESTERDAY].digest, "0123456789abcdef"))
    published.refresh()
    published.extract()
    with pytest.raises(PinError, match="refresh --full"):
        published.validate()
    published.refresh()
    published.extract()
    with pytest.raises(PinError):
        published.validate()
    published.refresh(full=True)
    published.run()
    assert outputs(published) == before


@pytest.mark.parametrize("stage", ["validate", "export", "load"])
def test_a_report_of_other_tables_is_refused(published: Project, stage: str) -> None:
    report = published.paths.extract_report
    report.write_text(report.read_text().replace(f'"table": "{TABLE}"', '"table": "other"'))
    with pytest.raises(DataError, match="lists files of other") as refused:
        getattr(published, stage)()
    assert "dvc repro" in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"rows": 3,', '"rows": null,', id="rows that are none"),
        pytest.param('"rows": 3,', '"rows": "3",', id="rows as a text"),
        pytest.param('"rows": 3,', '"rows": true,', id="rows as a truth"),
        pytest.param('"rows": 3,', '"rows": 4,', id="other rows"),
        pytest.param('"digest": "', '"digest": "0', id="another digest"),
        pytest.param('"digest": "', '"digets": "', id="no digest"),
        pytest.param('"made_from": "', '"made_from": "0', id="made from something else"),
        pytest.param('"day": "2025-10-27"', '"day": "today"', id="a day that is none"),
        pytest.param('"table": "behavioral_events", "day"', '"day"', id="no table"),
    ],
)
def test_a_report_that_was_altered_is_made_anew(published: Project, old: str, new: str) -> None:
    """Whatever extract believes of a report must be what it would write itself."""
    report = published.paths.extract_report
    before, good = outputs(published), report.read_text()
    at = good.index(old, good.index('"files"'))
    report.write_text(good[:at] + good[at:].replace(old, new, 1))
    assert report.read_text() != good
    published.extract()
    assert report.read_text() == good
    published.run()
    assert outputs(published) == before


@pytest.mark.parametrize(
    ("old", "new"), [('"rows": 3,', '"rows": 2,'), ('"digest": "', '"digest": "0')], ids=["rows", "digest"]
)
def test_a_filtered_report_that_was_altered_is_refused_with_a_way_out(published: Project, old: str, new: str) -> None:
    """With a filter no pin knows what a file should hold; the digest of the report is compared with the file."""
    published.set(extract__user_id=USER_A)
    published.run()
    before = outputs(published)
    report = published.paths.extract_report
    good = report.read_text()
    at = good.index(old, good.index('"files"'))
    report.write_text(good[:at] + good[at:].replace(old, new, 1))
    published.extract()
    with pytest.raises(PinError) as refused:
        published.validate()
    assert f"rm -r {published.raw}" in str(refused.value)
    shutil.rmtree(published.raw)
    published.run()
    assert outputs(published) == before


@pytest.mark.parametrize("of", ["table", "day", "another day"])
@pytest.mark.parametrize("root", ["raw", "exported"])
def test_a_link_in_place_of_a_folder_is_not_written_through(
    published: Project, tmp_path: Path, root: str, of: str
) -> None:
    before = outputs(published)
    table = getattr(published, root)
    folder = table if of == "table" else day_path(table, YESTERDAY).parent
    other = tmp_path / "elsewhere"
    folder.rename(other)
    if of == "another day":
        other = day_path(table, YESTERDAY - timedelta(days=1)).parent
    folder.symlink_to(other.absolute())
    kept = files(tmp_path / "elsewhere")
    with pytest.raises(DataError) as refused:
        published.validate() if root == "raw" else published.load()
    assert "then dvc repro" in str(refused.value)
    published.run()
    assert not folder.is_symlink()
    assert outputs(published) == before
    assert files(tmp_path / "elsewhere") == kept


def test_data_on_another_disk(db: Database, project: Project, tmp_path: Path) -> None:
    """data/ or one of its folders may be a link to a larger disk."""
    db.insert(event())
    here = tmp_path.stat().st_dev
    places = [place for place in (Path("/dev/shm"), Path("/var/tmp")) if place.is_dir()]
    disk = Path(tempfile.mkdtemp(dir=next(place for place in places if place.stat().st_dev != here)))
    try:
        project.paths.raw.parent.mkdir(parents=True, exist_ok=True)
        for folder in (project.paths.raw, project.paths.export):
            (disk / folder.name).mkdir()
            folder.symlink_to(disk / folder.name)
        project.all()
        assert rows_of_parquet(disk / "raw" / TABLE) == db.rows()
        assert project.paths.raw.is_symlink()
    finally:
        shutil.rmtree(disk)


def test_with_a_filter_a_change_in_place_is_noticed_by_extract(db: Database, published: Project) -> None:
    """Of the others' rows, too: the file of some can't be compared with the pin of all."""
    published.set(extract__user_id=USER_A)
    published.run()
    before = outputs(published)
    shutil.rmtree(published.raw)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 5 WHERE timestamp >= %s', [YESTERDAY])
    with pytest.raises(PinError, match="2025-10-27: 3 rows as pinned, but of other content"):
        published.extract()
    db.run("DELETE FROM behavioral_events WHERE timestamp >= %s", [YESTERDAY])
    published.refresh()
    published.run()
    assert outputs(published) != before


def test_a_file_of_other_rows_than_postgresql_s_is_noticed(published: Project) -> None:
    """As by a mistake in decoding: as many rows, in the manifest, all valid, one value another."""
    path = day_path(published.raw, YESTERDAY)
    table = pq.read_table(path)
    for column in table.column_names:
        values = table.column(column).to_pylist()
        kind = table.schema.field(column).type
        if column == "timestamp":
            other: object = values[0].replace(microsecond=321_000)
        elif pa.types.is_int32(kind):
            other = 0 if values[0] is None else None
        else:
            other = "" if values[0] is None else values[0] + " "
        changed = pa.array([other, *values[1:]], kind)
        rewrite(path, table.set_column(table.column_names.index(column), column, changed))
        published.as_if_made()
        with pytest.raises(PinError, match="2025-10-27"):
            published.validate()


STOPPED_WHILE_PUBLISHING = """
import os, runpy, signal, sys
replace = os.replace
def replace_and_stop(*paths):
    replace(*paths)
    if "/." not in str(paths[1]):  # where nobody sees it yet
        os.kill(os.getpid(), signal.SIGTERM)
os.replace = replace_and_stop
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize("stage", ["extract", "load"])
def test_a_signal_while_files_are_put_in_place_is_said_as_such(published: Project, stage: str) -> None:
    before = outputs(published)
    if stage == "extract":
        shutil.rmtree(published.raw)
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_PUBLISHING, f"stages.{stage}"],
        cwd=published.root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143
    assert "stopped by SIGTERM; files were being put in place, dvc repro ends that" in done.stderr
    assert "Traceback" not in done.stderr
    published.run()
    assert outputs(published) == before
