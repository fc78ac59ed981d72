"""Sources that can't be read, and a role that can do the job and no more."""

from __future__ import annotations

import shutil
from contextlib import closing

import psycopg2
import psycopg2.errors
import pytest

from pipeline.core.errors import (
    ParamsError,
    PipelineError,
    SourceError,
)
from tests.docs import blocks, fill_in
from tests.helpers import USER_B, Database, Project, damage, event, fails, files, rows_of_parquet, run_module


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        pytest.param(
            "postgresql://u:secret-word@127.0.0.1:1/d", SourceError, "Connection refused", id="nobody listens"
        ),
        pytest.param("postgresql://u:secret-word@host.invalid/d", SourceError, "host.invalid", id="no such host"),
        pytest.param("LOCKED", SourceError, "password authentication failed", id="wrong password"),
        pytest.param("NO_DATABASE", SourceError, "does not exist", id="no such database"),
        pytest.param("NO_TLS", SourceError, "SSL", id="no TLS"),
        pytest.param("mysql://u:secret-word@h/d", ParamsError, "postgresql://", id="another kind of database"),
    ],
)
def test_a_source_that_can_not_be_read(
    db: Database, extracted: Project, monkeypatch: pytest.MonkeyPatch, url: str, kind: type[PipelineError], said: str
) -> None:
    urls = {
        "LOCKED": db.url(user="locked", password="secret-word"),
        "NO_DATABASE": db.url(password="secret-word").replace(f"/{db.name}?", "/no_such_database?"),
        "NO_TLS": f"postgresql://postgres:secret-word@127.0.0.1:{db.where['port']}/{db.name}?sslmode=require",
    }
    monkeypatch.setenv("DATABASE_URL", urls.get(url, url))
    damage(extracted)
    before = files(extracted.root)
    with pytest.raises(kind) as caught:
        extracted.extract()
    assert said in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert files(extracted.root) == before


def test_row_level_security_is_an_error_and_never_a_shorter_export(
    db: Database, extracted: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.run("CREATE ROLE reader_rls LOGIN; GRANT SELECT ON behavioral_events TO reader_rls")
    db.run("ALTER TABLE behavioral_events ENABLE ROW LEVEL SECURITY")
    db.run(f"CREATE POLICY own ON behavioral_events USING (\"userId\" = '{USER_B}')")
    monkeypatch.setenv("DATABASE_URL", db.url(user="reader_rls"))
    fails(extracted, SourceError, "row-level security", "BYPASSRLS")
    db.run("ALTER ROLE reader_rls BYPASSRLS")
    extracted.extract()
    assert len(rows_of_parquet(extracted.raw)) == 2
    db.run(
        "ALTER TABLE behavioral_events DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON behavioral_events FROM reader_rls"
    )
    fails(extracted, SourceError, "permission denied", "GRANT SELECT")
    db.run("DROP ROLE reader_rls")


def test_a_data_folder_that_can_not_be_written(extracted: Project) -> None:
    shutil.rmtree(extracted.paths.data)
    extracted.paths.data.write_text("a file, no folder")
    done = run_module(extracted, "stages.extract")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr


@pytest.mark.parametrize("which", [0, 1], ids=["the table", "its columns"])
def test_the_roles_of_the_page_can_do_the_job_and_write_nothing(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, server: dict[str, str], which: int
) -> None:
    db.insert(event(), event(userId=USER_B))
    name = f"reader_{db.name}"
    role = blocks("your-database", language="sql")[which]
    db.run(fill_in(role.text, {"columns_reader" if which else "reader": name}))
    monkeypatch.setenv("DATABASE_URL", db.url(user=name))
    project.all()
    assert len(rows_of_parquet(project.raw)) == 2
    db.run("CREATE TABLE anything_else (n int)")
    for sql in (
        "INSERT INTO behavioral_events SELECT * FROM behavioral_events",
        'UPDATE behavioral_events SET "timeOfDay" = 1',
        "DELETE FROM behavioral_events",
        "TRUNCATE behavioral_events",
        "DROP TABLE behavioral_events",
        "CREATE TABLE public.own (n int)",
        "SELECT * FROM anything_else",
    ):
        with (
            closing(db.connect(user=name)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(sql)
    db.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_what_does_not_pass_is_not_tried_again(
    db: Database, extracted: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extracted.set(source__attempts=5)
    monkeypatch.setenv("DATABASE_URL", db.url(user="locked", password="wrong"))
    fails(extracted, SourceError, "password authentication failed")
    assert "attempt" not in capsys.readouterr().err
