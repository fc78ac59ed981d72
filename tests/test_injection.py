"""Params, names of files and identifiers are data: to SQL, to the shell, to patterns of files."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from pipeline import source
from pipeline.core.errors import ParamsError, PipelineError, RowsInvalidError
from pipeline.core.params import load_params
from pipeline.postgres.session import transaction
from pipeline.postgres.statements import fetch
from schemas.rules import CUID
from schemas.tables import TABLES
from tests.helpers import Database, Project, event, rows_of_duckdb, rows_of_parquet

# What SQL, a shell, YAML, a URL, a regular expression and a pattern of files each take for their own, and all the rest.
texts = st.one_of(
    st.sampled_from(
        [
            "'; DROP TABLE behavioral_events; --",
            '"; DELETE FROM behavioral_events; SELECT "',
            "$(touch pwned)",
            "`touch pwned`",
            "a; touch pwned; #",
            "%s %(x)s {x} :x \\x ${x}",
            "a' UNION SELECT 1 --",
            'public"."behavioral_events',
            "*?[a-z]{a,b}~",
        ]
    ),
    st.text(st.one_of(st.sampled_from("'\"`$();:%\\{}[]*?#&|<>-/ "), st.characters(codec="utf-8")), max_size=40),
)


quick = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts


@pytest.fixture
def pinned(db: Database, project: Project) -> Project:
    db.insert(event(), event(experimentPhase="baseline_1"))
    project.refresh()
    return project


@settings(quick, max_examples=200)
@given(value=scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=2))
def test_a_user_id_is_one_or_an_error(project: Project, value: Any) -> None:
    project.set(extract__user_id=value)
    try:
        users = load_params(project.root / "params.yaml").extract.user_id
    except ParamsError:
        return
    assert value is None or users == tuple(
        sorted({str(one) for one in (value if isinstance(value, list) else [value])})
    )


@quick
@given(user=st.from_regex(CUID, fullmatch=True))
def test_any_cuid_is_only_compared(db: Database, pinned: Project, user: str) -> None:
    pinned.set(extract__user_id=user)
    pinned.extract()
    assert rows_of_parquet(pinned.raw) == [row for row in db.rows() if row[1] == user]
    assert len(db.rows()) == 2


identifiers = texts.map(lambda text: text.replace("\0", "")).filter(
    lambda text: text and len(text.encode()) <= 63 and not text.startswith("pg_")
)


@quick
@given(schema=identifiers)
def test_any_schema_is_only_named(db: Database, project: Project, schema: str) -> None:
    name = sql.Identifier(schema)
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE behavioral_events CASCADE")
        db.insert(event())
        if schema != "public":
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            cursor.execute(
                sql.SQL("CREATE TABLE {}.behavioral_events (LIKE public.behavioral_events INCLUDING ALL)").format(name)
            )
            cursor.execute(sql.SQL("INSERT INTO {}.behavioral_events TABLE behavioral_events").format(name))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", db.url(schema=quote(schema, safe="")))
            project.refresh()
            project.extract()
        assert rows_of_parquet(project.raw) == db.rows()
        assert len(db.rows()) == 1
        if schema != "public":
            cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))


@quick
@given(name=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=63))
def test_any_application_name_is_only_shown(pinned: Project, name: str) -> None:
    pinned.set(source__application_name=name)
    with source.connect(pinned.params.source, TABLES) as target, transaction(target) as connection:
        assert fetch(connection, "SELECT current_setting('application_name')") == [(name,)]


@quick
@given(phase=texts.filter(lambda text: text not in ("", "none")))  # none stands for no phase, and is refused
def test_any_label_of_a_phase_is_only_compared(db: Database, pinned: Project, phase: str) -> None:
    pinned.set(validate__experiment_phases=[phase, "baseline_1"])
    pinned.extract()
    pinned.validate()
    if phase != "baseline_1":
        pinned.set(validate__experiment_phases=[phase])
        with pytest.raises(RowsInvalidError, match=r"experimentPhase.isin \(1\)"):
            pinned.validate()


names = texts.map(lambda text: text.replace("\0", "").replace("/", "")).filter(
    lambda text: text.strip(".") and len(text.encode()) <= 200
)


@settings(quick, max_examples=8)
@given(name=names)
def test_any_name_of_the_project_s_folder(db: Database, tmp_path: Path, name: str) -> None:
    db.run("TRUNCATE behavioral_events CASCADE")
    db.insert(event(), event(timestamp="2025-10-26 00:00:00"))
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        project = Project(Path())
        project.set(extract__days=2)
        if {"?", "\\"} & set(name):
            with pytest.raises(PipelineError, match="DuckDB opens no file in a folder with"):
                project.all()
            return
        project.all()
        assert rows_of_duckdb(project.paths.database) == db.rows()
    finally:
        os.chdir(before)
        assert not list(tmp_path.rglob("pwned"))
