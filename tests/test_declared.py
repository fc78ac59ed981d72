"""Declarations in schemas/: what can't work is refused before anything is read, and the rest means what it says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.core.errors import ContractError, DataError, RowsInvalidError
from schemas.rules import between, not_older_than, unique
from schemas.table import Column, Table, problems
from tests.helpers import UNTIL, Database, Project, use

PLAIN = Table(
    name="plain",
    description="One row is one of a test.",
    columns=(
        Column("id", "int", "The key.", False),
        Column("at", "timestamp", "When.", False),
        Column("note", "text", "Any text."),
        Column("ratio", "float", "Any float."),
        Column("seen", "timestamp", "Another instant."),
    ),
    order=("at", "id"),
    key="id",
    time="at",
)


def with_column(kind: Any, *of: Any, name: str = "more", **more: Any) -> Table:
    return PLAIN._replace(columns=(*PLAIN.columns, Column(name, kind, "One more.", rules=of, **more)))


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        pytest.param((PLAIN, PLAIN), "plain is declared twice", id="a table twice"),
        pytest.param((PLAIN._replace(name="Plain"), PLAIN), "plain is declared twice", id="but for the case"),
        pytest.param((PLAIN._replace(name="a/b"),), "a/b has other characters", id="a name with a slash"),
        pytest.param((PLAIN._replace(name="a*"),), "a* has other characters", id="a name with a star"),
        pytest.param(
            (PLAIN._replace(indexes=(("i", ("id",)),)), PLAIN._replace(name="b", indexes=(("I", ("at",)),))),
            "an index i is declared twice",
            id="an index twice",
        ),
        pytest.param((with_column("int", name="NOTE"),), "a column note is declared twice", id="a column twice"),
        pytest.param((with_column("int", name="event_date"),), "event_date is a name", id="a reserved name"),
        pytest.param((PLAIN._replace(order=("at", "nr")),), "there is no column nr", id="an unknown column"),
        pytest.param((PLAIN._replace(time="note"),), "note, by whose day", id="the time is no timestamp"),
        pytest.param((PLAIN._replace(counted=("ratio",)),), "values of ratio, a float", id="floats counted"),
        pytest.param((with_column("int", pseudonym="id"),), "a pseudonym is a text", id="a number's pseudonym"),
        pytest.param((with_column("text", between(0, 1)),), "in_range is not for", id="a range of texts"),
        pytest.param((with_column("float", unique()),), "unique is not for", id="unique floats"),
        pytest.param((with_column("int", between(0, 1), between(0, 2)),), "two rules in_range", id="a rule twice"),
        pytest.param(
            (PLAIN._replace(columns=(*PLAIN.columns, *(Column(f"c{n}", "text", "One.") for n in range(900)))),),
            "too many columns: with texts counted twice 1806",
            id="more than a SELECT lists",
        ),
    ],
)
def test_what_can_not_be_exported_is_refused_before_anything_is_read(
    project: Project, monkeypatch: pytest.MonkeyPatch, tables: tuple[Table, ...], said: str
) -> None:
    assert problems((PLAIN,)) == []
    use(monkeypatch, *tables)
    for run in (project.refresh, project.extract):
        with pytest.raises(ContractError) as refused:
            run()
        assert said in str(refused.value)
        assert refused.value.exit_code == 4


@pytest.mark.parametrize("seen", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])
def test_a_timestamp_that_parquet_s_readers_have_not(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    use(monkeypatch, PLAIN)
    db.run("CREATE TABLE plain (id int NOT NULL, at timestamp(3) NOT NULL, note text, ratio float8, seen timestamp(3))")
    db.run("INSERT INTO plain VALUES (1, '2025-10-27', NULL, NULL, %s)", [seen])
    with pytest.raises(DataError, match="timestamps of the years 1 to 9999"):
        project.all()


def test_a_rule_that_looks_at_until_is_checked_again_when_it_moves(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another column than that by whose day rows are filed: there a day in the window is never in the future."""
    columns = tuple(c._replace(rules=(not_older_than(1),)) if c.name == "seen" else c for c in PLAIN.columns)
    use(monkeypatch, PLAIN._replace(columns=columns))
    db.run("CREATE TABLE plain (id int NOT NULL, at timestamp(3) NOT NULL, note text, ratio float8, seen timestamp(3))")
    db.run("INSERT INTO plain VALUES (1, '2025-10-27', NULL, NULL, '2024-10-29')")
    project.set(extract__days=5)
    project.all()
    project.refresh(until=UNTIL + timedelta(days=2))
    project.extract()
    with pytest.raises(RowsInvalidError, match=r"seen\.timestamp_not_old"):
        project.validate()
