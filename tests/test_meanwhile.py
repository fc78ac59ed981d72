"""Inputs that change while a stage or refresh runs. DVC would note them as what the outputs were made from."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest

import commands.refresh
from pipeline.checks.current import check_current
from pipeline.core.errors import DataError, ParamsError, PipelineError, TransientSourceError
from pipeline.core.inputs import Inputs
from pipeline.core.reports import read_report
from pipeline.files.layout import day_path, write_report
from tests.helpers import UNTIL, USER_A, YESTERDAY, Clone, Database, Project, event, run_module

Change = Callable[[Project], object]


def meanwhile(monkeypatch: pytest.MonkeyPatch, before: Change | None, after: Change | None, project: Project) -> None:
    """Change something right before a stage compares its inputs, or right after it."""
    real = Inputs.check

    def check(self: Inputs) -> None:
        if before:
            before(project)
        real(self)
        if after:
            after(project)

    monkeypatch.setattr(Inputs, "check", check)


def refresh_with_fewer_rows(project: Project) -> None:
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM behavioral_events WHERE timestamp >= '2025-10-27'")
    connection.close()
    project.refresh()


def touch(path: Callable[[Project], Any]) -> Change:
    """Another content of the same length."""

    def change(project: Project) -> None:
        content = bytearray(path(project).read_bytes())
        content[len(content) // 2] ^= 1
        path(project).unlink()
        path(project).write_bytes(content)

    return change


def a_file(root: str) -> Callable[[Project], Any]:
    return lambda project: day_path(getattr(project, root), YESTERDAY)


CHANGES = [
    pytest.param("extract", refresh_with_fewer_rows, "watermark.yaml", id="extract: refresh"),
    pytest.param("extract", lambda p: p.set(extract__user_id=USER_A), "params.yaml", id="extract: user_id"),
    pytest.param("validate", lambda p: p.set(validate__mode="quarantine"), "params.yaml", id="validate: mode"),
    pytest.param("validate", lambda p: p.set(validate__experiment_phases=["x"]), "params.yaml", id="validate: phases"),
    pytest.param("validate", touch(lambda p: p.paths.extract_report), "extract.json", id="validate: extract.json"),
    pytest.param("validate", touch(a_file("raw")), "data/raw", id="validate: data/raw"),
    pytest.param("export", lambda p: p.set(export__pseudonymize=True), "params.yaml", id="export: pseudonymize"),
    pytest.param("export", touch(lambda p: p.paths.validation_report), "validation.json", id="export: validation.json"),
    pytest.param("export", touch(a_file("raw")), "data/raw", id="export: data/raw"),
    pytest.param(
        "export",
        touch(lambda p: p.paths.quarantined("behavioral_events")),
        "data/quarantine",
        id="export: data/quarantine",
    ),
    pytest.param("load", lambda p: p.set(load__strategy="table"), "params.yaml", id="load: strategy"),
    pytest.param("load", lambda p: p.set(export__pseudonymize=True), "params.yaml", id="load: pseudonymize"),
    pytest.param("load", touch(lambda p: p.paths.quality_report), "quality.json", id="load: quality.json"),
    pytest.param("load", touch(a_file("exported")), "data/export", id="load: data/export"),
]


@pytest.mark.parametrize(("stage", "change", "named"), CHANGES)
def test_an_input_that_changes_ends_the_stage(
    published: Project, monkeypatch: pytest.MonkeyPatch, stage: str, change: Change, named: str
) -> None:
    kept = {"extract": "raw", "validate": "quarantine", "export": "export", "load": "database"}[stage]
    place = getattr(published.paths, kept)
    shutil.rmtree(published.paths.data / ".verified")
    before = snapshot(place) if "touch" not in change.__qualname__ else None
    with monkeypatch.context() as patch:
        meanwhile(patch, change, None, published)
        with pytest.raises(DataError, match=rf"{re.escape(named)} changed meanwhile"):
            getattr(published, stage)()
    assert before is None or snapshot(place) == before


def snapshot(place: Any) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in ([place] if place.is_file() else sorted(place.rglob("*"))) if p.is_file()}


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        pytest.param("extract", refresh_with_fewer_rows, "pins in watermark.yaml", id="refresh"),
        pytest.param("extract", lambda p: p.set(extract__user_id=USER_A), "users", id="user_id"),
        pytest.param("extract", lambda p: p.set(extract__days=2), "extract.days says 2", id="days"),
        pytest.param("validate", lambda p: p.set(validate__mode="quarantine"), "mode", id="mode"),
        pytest.param("validate", lambda p: p.set(validate__experiment_phases=["x"]), "experiment_phases", id="phases"),
        pytest.param("export", lambda p: p.set(export__pseudonymize=True), "without pseudonyms", id="pseudonymize"),
        pytest.param("load", lambda p: p.set(load__strategy="table"), "strategy", id="strategy"),
    ],
)
def test_what_changes_after_the_stage_looked_is_found_by_the_report(
    published: Project, monkeypatch: pytest.MonkeyPatch, stage: str, change: Change, said: str
) -> None:
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 40)
    published.report()
    check_current(published.paths, published.params)
    with monkeypatch.context() as patch:
        meanwhile(patch, None, change, published)
        getattr(published, stage)()
    with pytest.raises(DataError, match=said) as found:
        check_current(published.paths, published.params)
    assert f"what {stage} left" in str(found.value)
    published.run()
    published.report()
    check_current(published.paths, published.params)


@pytest.mark.long
@pytest.mark.xdist_group("clones")
def test_what_stands_wrongly_in_dvc_lock_is_found_and_its_advice_leads_out(clone: Clone) -> None:
    """As if pseudonymize had been saved in the moment between the end of export and DVC's look at params.yaml."""
    key = {"PSEUDONYM_KEY": "k" * 40}
    clone.change(("pseudonymize: false", "pseudonymize: true"))
    clone.run("dvc", "commit", "--force")
    assert "up to date" in clone.run("dvc", "repro", **key).stdout
    failed = clone.run("python", "-m", "commands.summary", ok=False)
    assert failed.returncode == 6
    assert "behavioral_events was exported without pseudonyms" in failed.stderr
    assert "dvc repro --force" in failed.stderr
    assert "exported without pseudonyms" in clone.run("python", "-m", "commands.check", ok=False).stdout
    clone.run("dvc", "repro", "--force", **key)
    clone.run("python", "-m", "commands.summary")


@pytest.mark.xdist_group("clones")
def test_code_that_is_edited_meanwhile_ends_the_stage(clone: Clone) -> None:
    """As `git pull` would: after Python has read it, and before the stage looks at its inputs."""
    code = "import stages.extract as s, pathlib as p; from pipeline.core.process import run_stage; "
    edit = "f = p.Path('pipeline/postgres/copy.py'); f.write_text(f.read_text() + '# more\\n'); "
    unused = "g = p.Path('pipeline/versions/store.py'); g.write_text(g.read_text() + '# more\\n'); "
    run = "run_stage('extract', s.extract, '')"
    clone.run("python", "-c", code + unused + run)
    failed = clone.run("python", "-c", code + edit + run, ok=False)
    assert failed.returncode == 6
    assert "pipeline/postgres/copy.py changed meanwhile" in failed.stderr


@pytest.mark.long
@pytest.mark.xdist_group("clones")
def test_a_database_of_another_version_is_refused(clone: Clone) -> None:
    """git checkout brings dvc.lock and the reports; data/ follows with dvc checkout."""
    clone.change(("strategy: view", "strategy: table"))
    clone.run("dvc", "repro")
    first = clone.commit("Ninety days")
    clone.change(("days: 90", "days: 30"))
    clone.run("dvc", "repro")
    clone.commit("Thirty days")
    clone.run("git", "checkout", first)
    for command in (["commands.summary"], ["commands.query", "SELECT count(*) FROM behavioral_events"]):
        failed = clone.run("python", "-m", *command, ok=False)
        assert failed.returncode == 6
        assert "dvc checkout" in failed.stderr
    clone.run("dvc", "checkout")
    clone.run("python", "-m", "commands.summary")
    counted = clone.run("python", "-m", "commands.query", "--csv", "SELECT count(*) FROM behavioral_events")
    assert counted.stdout.split()[1] == "52379"


SWAP = [
    """ALTER TYPE "EngagementLevel" RENAME VALUE 'HIGH' TO 'kept'""",
    """ALTER TYPE "EngagementLevel" RENAME VALUE 'LOW' TO 'HIGH'""",
    """ALTER TYPE "EngagementLevel" RENAME VALUE 'kept' TO 'LOW'""",
]


def test_labels_that_are_swapped_and_back_while_days_are_hashed(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL writes an enum with the label of the moment, whatever the transaction snapshot."""
    levels = ("HIGH", "LOW")
    for n in range(1, 4):
        db.insert(*(event(timestamp=f"{UNTIL - timedelta(days=n)} 10:00:00", engagementLevel=x) for x in levels))
    project.set(extract__days=3, extract__workers=1)
    project.refresh()
    good = project.paths.watermark.read_text()
    real, hashed = commands.refresh.pin_days, []

    def pin_days(connection: Any, task: Any) -> Any:
        for statement in SWAP if len(hashed) in (1, 2) else ():
            db.run(statement)
        hashed.extend(task.days)
        return real(connection, task)

    monkeypatch.setattr(commands.refresh, "pin_days", pin_days)
    with pytest.raises(TransientSourceError, match="labels of an enum"):
        project.refresh(full=True)
    assert len(hashed) == 3
    assert project.paths.watermark.read_text() == good
    project.refresh()
    assert project.paths.watermark.read_text() == good
    project.run()


@pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is a library for Linux here")
@pytest.mark.parametrize("shift", ["-2d", "@2020-01-01 00:00:00", "+1d"])
def test_a_wrong_clock_pins_nothing(
    db: Database, project: Project, tmp_path_factory: pytest.TempPathFactory, shift: str
) -> None:
    done = run_module(project, "commands.refresh", **faketime(shift, tmp_path_factory))
    assert done.returncode == 1, done.stderr
    assert "this machine's clock says" in done.stderr
    assert "--until" in done.stderr
    assert not project.paths.watermark.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is a library for Linux here")
def test_a_clock_that_is_seconds_off_is_believed(
    db: Database, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert run_module(project, "commands.refresh", **faketime("-200s", tmp_path_factory)).returncode == 0


def faketime(shift: str, folders: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose clock is moved by `shift`, as of faketime(1)."""
    installed = find_spec("libfaketime")
    assert installed is not None
    assert installed.submodule_search_locations is not None
    library = next(Path(installed.submodule_search_locations[0]).rglob("libfaketime.so.1"))
    plain = folders.mktemp("lib") / library.name
    shutil.copy2(library, plain)  # LD_PRELOAD takes no path with a space
    return {"LD_PRELOAD": str(plain), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_the_window_moves_back_only_where_it_is_asked_to(db: Database, project: Project) -> None:
    today = datetime.now(UTC).date()
    with pytest.raises(ParamsError, match="lies in the future"):
        project.refresh(until=today + timedelta(days=2))
    project.refresh(until=today + timedelta(days=2), accept=True)
    with pytest.raises(PipelineError, match="the window would move back") as refused:
        project.refresh(until=None)
    assert str(refused.value).endswith("python -m commands.refresh --accept")
    project.refresh(until=None, accept=True)
    project.refresh(until=None)


@pytest.mark.xdist_group("clones")
def test_what_editors_leave_beside_code_is_no_input(clone: Clone) -> None:
    for name in (".DS_Store", "types.py~", ".types.py.swp", "#types.py#"):
        (clone.path / "schemas" / name).write_text("not code")
    for folder in ("stages", "schemas"):
        (clone.path / folder / ".#types.py").symlink_to("me@here.1:2")  # as Emacs locks a file
    assert "up to date" in clone.run("dvc", "repro").stdout
    clone.run("python", "-m", "stages.validate")
    clone.run("python", "-m", "commands.summary")


@pytest.mark.xdist_group("clones")
def test_a_clone_without_data_is_told_where_it_is(clone: Clone) -> None:
    shutil.rmtree(clone.path / "data/export")
    (clone.path / "data/analytics.duckdb").unlink()
    assert "next:     dvc pull, or make repro" in clone.fails("python", "-m", "commands.summary")


@pytest.mark.parametrize("report", ["extract_report", "validation_report", "quality_report", "load_report"])
@pytest.mark.parametrize("value", [None, 5, [[]], "x"], ids=str)
def test_a_report_of_another_form_is_an_error_and_no_traceback(published: Project, report: str, value: object) -> None:
    path = getattr(published.paths, report)
    content = read_report(path)
    for key in content:
        write_report(path, {**content, key: value})
        with suppress(DataError):
            check_current(published.paths, published.params)
