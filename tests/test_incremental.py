"""However a folder came to be, it holds what a run from nothing gives; getting there costs the days that changed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError, PinError, RowsInvalidError
from pipeline.files import seal
from pipeline.files import writer as parquet
from pipeline.files.layout import day_path, days_in
from pipeline.files.writer import DayWriter
from schemas.contract import arrow_schema
from tests.conftest import UNTIL, USER_A, USER_B, Clone, Database, Work, event, ready_made

YESTERDAY = UNTIL - timedelta(days=1)


def outputs(work: Work) -> dict[str, bytes]:
    """Every file that the pipeline made and that has to be the same bytes however it was made."""
    places = [work.root / "data" / name for name in ("raw", "quarantine", "export", "reports")]
    return {
        str(file.relative_to(work.root)): file.read_bytes()
        for place in places
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


def from_nothing(work: Work, folder: Path) -> Work:
    """The same params and pins in an empty folder, run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fresh = Work(folder, work.values)
    shutil.copy(work.watermark, fresh.watermark)
    for stage in (fresh.extract, fresh.validate, fresh.export, fresh.load):
        stage()
    return fresh


def run(work: Work) -> None:
    for stage in (work.extract, work.validate, work.export, work.load):
        stage()


def said(capsys: pytest.CaptureFixture[str], stage: str) -> str:
    """The line in which a stage says what it kept."""
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{stage}: kept"))


STEPS = st.sampled_from(
    ["insert", "update", "delete", "move", "fewer days", "more days", "filter", "damage", "cut", "lose", "copy", "mode"]
)


def step(name: str, db: Database, work: Work, chance: random.Random) -> None:
    day = UNTIL - timedelta(days=chance.randint(0, 4))
    some = f"(SELECT id FROM behavioral_events ORDER BY md5(id || '{chance.random()}') LIMIT {chance.randint(1, 4)})"
    files = [file for root in (work.raw, work.out) for file in sorted(root.rglob("part-0.parquet"))]
    if name == "insert":
        users, scores = [USER_A, USER_B], [50, 50, 50, 999]  # 999 goes to quarantine
        stamps = [f"{day} {chance.randint(0, 23):02}:00:00.{chance.randint(0, 999):03}" for _ in range(5)]
        db.insert(
            *(
                event(timestamp=stamp, userId=chance.choice(users), sessionPerformanceScore=chance.choice(scores))
                for stamp in stamps
            )
        )
    elif name == "update":
        db.run(f'UPDATE behavioral_events SET "timeOfDay" = {chance.randint(0, 23)} WHERE id IN {some}')
    elif name == "delete":
        db.run(f"DELETE FROM behavioral_events WHERE id IN {some}")
    elif name == "move":
        work.refresh(day + timedelta(days=1))
        return
    elif name in ("fewer days", "more days"):
        work.set(extract__days=chance.randint(1, 2) if name == "fewer days" else chance.randint(3, 5))
    elif name == "filter":
        work.set(extract__user_id=chance.choice([None, USER_A, [USER_A, USER_B]]))
    elif name == "mode":
        work.set(validate__failure_cases=chance.randint(0, 3))
    elif files:
        file = chance.choice(files)
        if name == "damage":
            content = bytearray(file.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
        elif name == "cut":
            file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])
        elif name == "lose":
            shutil.rmtree(file.parent)
        elif name == "copy":  # another day's file, or a copy beside the right one
            others = [other for other in files if other != file]
            shutil.copyfile(file, chance.choice([*others[:1], file.with_name("part-1.parquet")]))
    if name in ("insert", "update", "delete", "more days"):
        work.refresh(work_until(work))


def work_until(work: Work) -> date:
    text = work.watermark.read_text(encoding="utf-8")
    return date.fromisoformat(text.split("until: '")[1][:10])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(STEPS, min_size=1, max_size=3), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_every_way_of_getting_there_gives_the_same_bytes(
    db: Database, tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]], seed: int
) -> None:
    chance = random.Random(seed)
    db.run("TRUNCATE behavioral_events")
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00") for n in range(20)))
    work = Work(tmp_path_factory.mktemp("kept"))
    work.set(extract__days=3, validate__mode="quarantine")
    work.refresh(days=10)
    run(work)
    for steps in rounds:
        for name in steps:
            step(name, db, work, chance)
        if len(set(days_of(work))) < work.values["extract"]["days"]:
            work.refresh(work_until(work), days=10)
        run(work)
        assert outputs(work) == outputs(from_nothing(work, work.root / "fresh")), (steps, seed)


def days_of(work: Work) -> list[str]:
    return [line for line in work.watermark.read_text(encoding="utf-8").splitlines() if "digest:" in line]


@pytest.fixture
def five(db: Database, work: Work) -> Work:
    """Five days with three rows each, extracted, validated, exported and loaded."""
    work.set(extract__days=5)
    rows = [event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00") for n in range(15)]
    return ready_made("five", db, work, rows)


@contextmanager
def unmoved(work: Work, *but: date) -> Iterator[None]:
    """Inside, no file of another day than `but` is touched."""

    def marks() -> dict[Path, tuple[int, int]]:
        kept = [day_path(root, day) for root in (work.raw, work.out) for day in days_in(root) if day not in but]
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in kept}

    before = marks()
    yield
    after = marks()
    assert after.items() >= {file: mark for file, mark in before.items() if file in after}.items()
    assert before


@pytest.mark.parametrize(
    "sql",
    [
        'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp) SELECT \'late\', '
        '"userId", "eventType", "eventData", timestamp + interval \'1 s\' FROM behavioral_events '
        "WHERE timestamp::date = '2025-10-25' LIMIT 1",
        "UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp::date = '2025-10-25'",
        "DELETE FROM behavioral_events WHERE id = "
        "(SELECT min(id) FROM behavioral_events WHERE timestamp::date = '2025-10-25')",
    ],
    ids=["a late row", "an update in place", "a delete"],
)
def test_a_change_of_one_day_costs_one_day(
    db: Database, five: Work, sql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    five.set(validate__mode="quarantine")
    before = days_of(five)
    db.run(sql)
    capsys.readouterr()
    five.refresh()
    changed = [line for line in days_of(five) if line not in before]
    assert len(changed) == 1
    assert "2025-10-25" in changed[0]
    with unmoved(five, date(2025, 10, 25)):
        capsys.readouterr()
        five.extract()
        assert said(capsys, "extract") == "extract: kept 4, read 1, dropped 0"
        five.validate()
        assert "4 days had passed before" in capsys.readouterr().out
        five.export()
        assert said(capsys, "export") == "export: kept 4, wrote 1"
        five.load()
    assert outputs(five) == outputs(from_nothing(five, five.root / "fresh"))


@pytest.mark.parametrize("invalid", [0, 1])
def test_two_changed_days_with_others_between_them(
    db: Database, five: Work, invalid: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when a day between them has a row in quarantine."""
    five.set(validate__mode="quarantine")
    db.run(
        'UPDATE behavioral_events SET "sessionPerformanceScore" = 101 WHERE id IN '
        "(SELECT id FROM behavioral_events WHERE timestamp::date = '2025-10-25' LIMIT %s)",
        [invalid],
    )
    five.refresh()
    run(five)
    db.run("UPDATE behavioral_events SET \"timeOfDay\" = 3 WHERE timestamp::date IN ('2025-10-24', '2025-10-27')")
    five.refresh()
    run(five)
    assert "the content of 3 days had been compared before" in capsys.readouterr().out
    assert json.loads(five.loaded.read_text())["quarantine"] == invalid
    assert outputs(five) == outputs(from_nothing(five, five.root / "fresh"))


def test_other_code_makes_every_file_anew(
    five: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake that was in a file's making, and is mended, does not stay in it."""
    edited = tmp_path / "edited.py"
    edited.write_text("# another way to read a row, or to make a pseudonym")
    for module, stage, said_ in (
        ("pipeline.postgres.copy", five.extract, "extract: kept 0, read 5"),
        ("pipeline.files.writer", five.extract, "extract: kept 0, read 5"),
        ("pipeline.files.pseudonyms", five.export, "export: kept 0, wrote 5"),
    ):
        if stage == five.export:
            five.validate()
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.__file__", str(edited))
            parquet.fingerprint.cache_clear()
            stage()
        parquet.fingerprint.cache_clear()
        assert said_ in capsys.readouterr().out


def test_the_night_after(db: Database, five: Work, capsys: pytest.CaptureFixture[str]) -> None:
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    five.refresh(UNTIL + timedelta(days=1))
    capsys.readouterr()
    five.extract()
    assert said(capsys, "extract") == "extract: kept 4, read 1, dropped 1"
    five.validate()
    five.export()
    five.load()
    assert "the content of 4 days had been compared before" in capsys.readouterr().out
    five.set(load__strategy="table")
    five.load()  # which makes all rows anew
    assert "compared before" not in capsys.readouterr().out
    five.set(load__strategy="view")
    five.load()
    assert outputs(five) == outputs(from_nothing(five, five.root / "fresh"))


def test_no_database_is_needed_when_no_day_has_to_be_read(five: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    five.set(extract__batch_size=7)
    with unmoved(five):
        five.extract()


def test_a_kept_day_whose_row_has_a_new_twin_is_checked_again(db: Database, five: Work) -> None:
    twin = db.run("SELECT id FROM behavioral_events WHERE timestamp::date = '2025-10-25' LIMIT 1")[0][0]
    db.run("ALTER TABLE behavioral_events DROP CONSTRAINT behavioral_events_pkey")
    db.insert(event(id=twin, timestamp=f"{YESTERDAY} 12:00:00"))
    five.refresh()
    five.extract()
    with pytest.raises(RowsInvalidError, match=r"id.unique \(2\)"):
        five.validate()


def test_rules_that_changed_are_applied_to_all_days(db: Database, five: Work) -> None:
    db.run("UPDATE behavioral_events SET \"experimentPhase\" = 'baseline_1' WHERE timestamp::date = '2025-10-25'")
    five.refresh()
    five.extract()
    five.validate()
    five.set(validate__experiment_phases=["baseline_2"])
    with pytest.raises(RowsInvalidError, match=r"experimentPhase.isin \(3\)"):
        five.validate()


def test_a_day_that_grew_too_old_is_checked_again(db: Database, work: Work) -> None:
    """The five years count from `until`, which moves while the file stays; their first instant belongs to them."""
    first = date(2020, 10, 28)
    db.insert(*(event(timestamp=f"2020-10-{stamp}") for stamp in ("28 00:00:00", "28 23:59:59.999", "29 00:00:00")))
    work.set(extract__days=(UNTIL - first).days)
    work.refresh()
    work.extract()
    work.validate()
    work.set(extract__days=(UNTIL - first).days + 1)
    work.refresh(UNTIL + timedelta(days=1))
    work.extract()
    with pytest.raises(RowsInvalidError, match=r"2 rows of 3 .* timestamp\.timestamp_not_old \(2\)"):
        work.validate()


@pytest.mark.parametrize("note", ["", "{", "[]", '{"rules": 1}', None])
def test_without_the_note_of_what_passed_everything_is_checked(
    five: Work, note: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(five)
    five.passed.unlink()
    if note is not None:
        five.passed.write_text(note)
    five.validate()
    assert "had passed before" not in capsys.readouterr().out
    assert outputs(five) == before


def test_a_failing_day_is_not_taken_for_one_that_passed(db: Database, five: Work) -> None:
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00", dayOfWeek=9))
    five.refresh()
    five.extract()
    for _ in range(2):
        with pytest.raises(RowsInvalidError, match=r"1 row of 16 .* dayOfWeek.in_range \(1\)"):
            five.validate()


def test_no_byte_of_a_file_can_change_unnoticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with DayWriter(file, arrow_schema("raw"), {"pipeline.pin": "1"}):
        pass
    assert seal.read(file) == seal.Sealed(0, pq_facts(file)["pipeline.sha256"], pq_facts(file))
    good = file.read_bytes()
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert seal.read(file) is None
        file.write_bytes(good[:place])
        assert seal.read(file) is None
    file.write_bytes(good + b"\0")
    assert seal.read(file) is None


def pq_facts(file: Path) -> dict[str, str]:
    found = pq.read_metadata(file).metadata
    return {key.decode(): value.decode() for key, value in found.items() if key.startswith(b"pipeline.")}


def test_a_row_that_spells_the_seal_s_key_deceives_nobody(db: Database, work: Work) -> None:
    mark = f"{seal.CHECKSUM}\x18\x40{'0' * 64}"
    db.insert(event(contentType=mark), event(contentType=mark + "!"))
    work.refresh()
    work.extract()
    assert seal.read(day_path(work.raw, YESTERDAY)) is not None


@pytest.mark.parametrize("stage", ["validate", "export", "load"])
def test_a_damaged_raw_file_is_named(five: Work, stage: str) -> None:
    file = day_path(five.raw, date(2025, 10, 25))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    if stage == "export":  # which reads the files of the days that it writes
        shutil.rmtree(day_path(five.out, date(2025, 10, 25)).parent)
    with pytest.raises(DataError, match=r"event_date=2025-10-25/part-0\.parquet is damaged"):
        getattr(five, stage)()


@pytest.mark.parametrize("stage", ["extract", "export"])  # make faults kills all four, often
def test_kill_9_and_the_next_run_gives_the_same_bytes(db: Database, five: Work, stage: str) -> None:
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 11:00:00") for n in range(5)))
    five.refresh()
    wanted = outputs(from_nothing(five, five.root / "fresh"))
    chance = random.Random(1)
    before = ["extract", "validate", "export", "load"]
    for name in before[: before.index(stage)]:
        getattr(five, name)()
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=five.root,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.2, 1.2))  # a random moment is the point
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(five)
    assert outputs(five) == wanted


@pytest.mark.xdist_group("clones")
def test_dvc_killed_with_its_stage_living_on(clone: Clone, db: Database) -> None:
    db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n % 30 + 1)} 10:00:00") for n in range(60)))
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 30"))
    clone.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
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


def test_a_moved_source_is_still_an_error_on_the_days_that_are_read(db: Database, five: Work) -> None:
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00"))
    five.refresh()
    db.insert(event(timestamp=f"{YESTERDAY} 13:00:00"))
    before = outputs(five)
    with pytest.raises(PinError, match="2025-10-27: pinned 4, now 5"):
        five.extract()
    assert outputs(five) == before


@pytest.mark.parametrize("first_run", [True, False])
def test_a_change_in_place_after_the_pin_is_noticed_before_anything_is_published(
    db: Database, five: Work, first_run: bool
) -> None:
    """Also when it is changed back, so that the pins are true again and the files are not."""
    db.insert(event(timestamp=f"{YESTERDAY} 12:00:00"))
    five.refresh()
    if first_run:
        shutil.rmtree(five.raw)
    before = outputs(five)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 5 WHERE timestamp >= %s', [YESTERDAY])
    five.extract()
    db.run('UPDATE behavioral_events SET "timeOfDay" = NULL WHERE timestamp >= %s', [YESTERDAY])
    five.refresh()
    five.extract()
    for _ in range(2):
        with pytest.raises(PinError, match=r"rows of 1 day are as many .* but not the same: 2025-10-27") as moved:
            five.validate()
    assert {name: text for name, text in outputs(five).items() if "raw" not in name and "extract" not in name} == {
        name: text for name, text in before.items() if "raw" not in name and "extract" not in name
    }
    assert f"rm -r {five.raw}" in str(moved.value)
    shutil.rmtree(five.raw)
    run(five)
    assert outputs(five) == outputs(from_nothing(five, five.root / "fresh"))


def test_with_a_filter_a_change_in_place_is_noticed_by_extract(db: Database, five: Work) -> None:
    """Of the others' rows, too: the file of some can't be compared with the pin of all."""
    five.set(extract__user_id=USER_A)
    run(five)
    before = outputs(five)
    shutil.rmtree(five.raw)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 5 WHERE timestamp >= %s', [YESTERDAY])
    with pytest.raises(PinError, match="2025-10-27: 3 rows as pinned, but of other content"):
        five.extract()
    db.run("DELETE FROM behavioral_events WHERE timestamp >= %s", [YESTERDAY])
    five.refresh()
    run(five)
    assert outputs(five) != before


def test_a_file_of_other_rows_than_postgresql_s_is_noticed(five: Work) -> None:
    """As by a mistake in decoding: as many rows, sealed, all valid, one value another."""
    path = day_path(five.raw, YESTERDAY)
    sealed, table = seal.read(path), pq.read_table(path)
    assert sealed is not None
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
        with DayWriter(path, arrow_schema("raw"), sealed.facts) as writer:
            writer.write(table.set_column(table.column_names.index(column), column, changed).to_batches()[0])
        five.as_if_extracted()
        with pytest.raises(PinError, match="2025-10-27"):
            five.validate()
