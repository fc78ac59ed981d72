"""Projects in folders of their own, with the stages as functions. A fixture is named for the state that it gives."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.days import pin
from tests.fix_postgres import TEMPLATES, new_database
from tests.helpers import UNTIL, USER_B, Database, Project, event
from tests.nasty import nasty_rows


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project folder; two days, to keep tests short."""
    made = Project(tmp_path)
    made.set(extract__days=2)
    return made


@pytest.fixture
def extracted(db: Database, project: Project) -> Project:
    """A project with a good extract of two rows, one a day."""
    db.insert(event(timestamp="2025-10-26 12:00:00"), event())
    project.refresh()
    project.extract()
    return project


@pytest.fixture
def large(db: Database, project: Project) -> Project:
    """A pinned project with enough rows that a COPY can be caught in the act."""
    db.generate(150_000)
    project.set(source__attempts=5)
    project.refresh()
    return project


DAYS = 24


@pytest.fixture
def spread(db: Database, project: Project) -> Project:
    """Pinned days, enough for several packs, some of whose rows break two rules; they go to quarantine."""
    project.set(extract__days=DAYS, validate__mode="quarantine", validate__failure_cases=3)
    rows = [event(timestamp=f"{UNTIL - timedelta(days=n % DAYS + 1)} 10:00:00") for n in range(3 * DAYS)]
    for row in rows[::5]:
        row |= {"sessionPerformanceScore": 500, "userId": USER_B}
    for row in rows[::7]:
        row |= {"timeOfDay": 99}
    db.insert(*rows)
    project.refresh()
    return project


_ready: dict[str, Path] = {}


def ready_made(name: str, db: Database, project: Project, rows: Sequence[dict[str, Any]]) -> Project:
    """`project` after a run of all stages on `db` with these rows; run once a worker, and copied from then on.

    To a folder of the same name, `tmp_path`, because a view names its files by their paths.
    """
    if name in TEMPLATES:
        shutil.copytree(_ready[name], project.root, dirs_exist_ok=True)
        return project
    db.insert(*rows)
    project.all()
    new_database(db.where, name, db.name)
    TEMPLATES.add(name)
    _ready[name] = project.root.with_name(name)
    shutil.copytree(project.root, _ready[name], dirs_exist_ok=True)
    return project


@pytest.fixture
def published(db: Database, project: Project) -> Project:
    """Five days with three rows each, extracted, validated, exported and loaded."""
    project.set(extract__days=5)
    rows = [event(timestamp=f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00") for n in range(15)]
    return ready_made("published", db, project, rows)


@pytest.fixture
def loaded(db: Database, project: Project) -> Project:
    """A project that ran through, on rows that are hard to carry."""
    more = event(userId=USER_B, experimentPhase="baseline_1", sessionPerformanceScore=50)
    return ready_made("loaded", db, project, [*nasty_rows(), more])


@pytest.fixture
def pinned_days(db: Database, project: Project) -> Project:
    """Three days with two rows each, of one transaction each, pinned once."""
    for day in (UNTIL - timedelta(days=n) for n in (3, 2, 1)):
        db.insert(event(timestamp=f"{day} 10:00:00"), event(timestamp=f"{day} 11:00:00"))
    project.set(extract__days=3)
    project.refresh()
    return project


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """The days that PostgreSQL hashed; clear it to begin anew."""
    found: list[date] = []
    real = pin.day_pins

    def recorded(connection: object, relation: object, days: Sequence[date], *more: object) -> object:
        found.extend(days)
        return real(connection, relation, days, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pin, "day_pins", recorded)
    return found
