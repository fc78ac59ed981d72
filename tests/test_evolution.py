"""The app's table and the contract change, each before or after a refresh, and back again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext as does_not_raise

import pytest

from pipeline.core.errors import ContractError, PinError, RowsInvalidError
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.rules import one_of
from schemas.table import Column, Table
from tests.helpers import UNTIL, Database, Project, event, from_nothing, outputs, use

DAY = f"{UNTIL.replace(day=26)} 10:00:00"

MORE = BEHAVIORAL_EVENTS._replace(columns=(*BEHAVIORAL_EVENTS.columns, Column("streak", "int", "Days in a row.")))
LESS = BEHAVIORAL_EVENTS._replace(columns=tuple(c for c in BEHAVIORAL_EVENTS.columns if c.name != "timeOfDay"))


def changed(name: str, /, **to: object) -> Table:
    columns = tuple(c._replace(**to) if c.name == name else c for c in BEHAVIORAL_EVENTS.columns)
    return BEHAVIORAL_EVENTS._replace(columns=columns)


RENAMED = changed("timeOfDay", name="hour")
TYPES = BEHAVIORAL_EVENTS.column("eventType").values
VALUE = changed("eventType", rules=(one_of(*TYPES, "NOTE_TAKEN"),))

Step = Callable[[Database], object]


def sql(*statements: str) -> Step:
    return lambda db: [db.run(statement) for statement in statements]


CHANGES = [
    pytest.param(
        MORE,
        sql("ALTER TABLE behavioral_events ADD COLUMN streak int DEFAULT 7"),
        sql("ALTER TABLE behavioral_events DROP COLUMN streak"),
        id="a column more",
    ),
    pytest.param(
        LESS,
        sql('ALTER TABLE behavioral_events DROP COLUMN "timeOfDay"'),
        sql('ALTER TABLE behavioral_events ADD COLUMN "timeOfDay" int DEFAULT 3'),
        id="a column less",
    ),
    pytest.param(
        RENAMED,
        sql('ALTER TABLE behavioral_events RENAME "timeOfDay" TO hour'),
        sql('ALTER TABLE behavioral_events RENAME hour TO "timeOfDay"'),
        id="another name",
    ),
    pytest.param(
        VALUE,
        sql(
            """ALTER TYPE "EventType" ADD VALUE IF NOT EXISTS 'NOTE_TAKEN'""",
            f"""UPDATE behavioral_events SET "eventType" = 'NOTE_TAKEN' WHERE timestamp = '{DAY}'""",
        ),
        sql(f"""UPDATE behavioral_events SET "eventType" = 'SESSION_STARTED' WHERE timestamp = '{DAY}'"""),
        id="a new enum value",
    ),
]


@pytest.fixture
def app(db: Database, project: Project) -> Project:
    db.insert(event(timestamp=DAY, timeOfDay=5), event(timeOfDay=9), event(timestamp=f"{UNTIL.replace(day=25)}"))
    project.set(extract__days=3)
    project.all()
    return project


def is_right(project: Project) -> None:
    """What is there is what a run from nothing gives, and validate proved it against PostgreSQL."""
    project.run()
    assert outputs(project) == outputs(from_nothing(project))


@pytest.mark.parametrize(("contract", "migrate", "undo"), CHANGES)
def test_the_contract_changes_with_the_table(
    db: Database, app: Project, monkeypatch: pytest.MonkeyPatch, contract: Table, migrate: Step, undo: Step
) -> None:
    migrate(db)
    use(monkeypatch, contract)
    app.refresh()
    is_right(app)
    undo(db)
    use(monkeypatch, BEHAVIORAL_EVENTS)
    app.refresh()
    is_right(app)


@pytest.mark.parametrize(("contract", "migrate", "undo"), CHANGES)
def test_the_contract_changes_after_a_refresh(
    db: Database, app: Project, monkeypatch: pytest.MonkeyPatch, contract: Table, migrate: Step, undo: Step
) -> None:
    """A night between the migration and the contract. What it says leads on, in whatever state it leaves things."""
    migrate(db)
    for table in (contract, BEHAVIORAL_EVENTS, contract):
        try:
            app.refresh()
            app.run()
        except (ContractError, RowsInvalidError):
            pass  # the old contract does not fit the table
        use(monkeypatch, table)
    app.refresh()
    is_right(app)
    undo(db)
    with pytest.raises((ContractError, RowsInvalidError)) if contract in (MORE, RENAMED) else does_not_raise():
        app.refresh()
    use(monkeypatch, BEHAVIORAL_EVENTS)
    app.refresh()
    is_right(app)


def test_a_contract_that_changes_between_refresh_and_repro(
    db: Database, app: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.run("ALTER TABLE behavioral_events ADD COLUMN streak int DEFAULT 7")
    app.refresh()
    use(monkeypatch, MORE)
    app.extract()
    with pytest.raises(PinError, match=r"python -m commands\.refresh"):
        app.validate()
    app.refresh()
    is_right(app)
