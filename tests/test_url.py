"""DATABASE_URL as Prisma writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import source
from pipeline.core.errors import ParamsError
from pipeline.core.params import load_params
from pipeline.postgres.session import transaction
from pipeline.postgres.statements import fetch
from pipeline.postgres.url import database_url, parse_url
from schemas.tables import TABLES
from tests.helpers import ROOT, Database


@pytest.mark.parametrize(
    ("text", "schema", "host", "password", "query"),
    [
        pytest.param("postgresql://u:p@h:5433/d?schema=app", "app", "h", "p", {}, id="schema and port"),
        pytest.param("postgres://u:p@h/d", "public", "h", "p", {}, id="postgres"),
        pytest.param(
            "postgresql://u:p@h/d?schema=public&connection_limit=5&pool_timeout=2&pgbouncer=true&socket_timeout=3",
            "public",
            "h",
            "p",
            {},
            id="arguments of Prisma's pool",
        ),
        pytest.param("postgresql://u:p%40ss%3A%2F%23@h/d", "public", "h", "p@ss:/#", {}, id="encoded password"),
        pytest.param("postgresql://u:50%@h/d", "public", "h", "50%", {}, id="a stray percent sign"),
        pytest.param(
            "postgresql://u@localhost/d?host=/var/run/postgresql",
            "public",
            "/var/run/postgresql",
            None,
            {"user": "u"},
            id="folder of a socket",
        ),
        pytest.param(
            "postgresql://u@%2Fvar%2Frun/a%20b",
            "public",
            "/var/run",
            None,
            {"dbname": "a b"},
            id="encoded host and database",
        ),
        pytest.param("postgresql://u:p@h/d?sslmode=require", "public", "h", "p", {"sslmode": "require"}, id="sslmode"),
        pytest.param("postgresql://u:p@h/d?ssl=true", "public", "h", "p", {"sslmode": "require"}, id="ssl=true"),
        pytest.param(
            "postgresql://u:p@h/d?ssl=1&sslmode=verify-full",
            "public",
            "h",
            "p",
            {"sslmode": "verify-full"},
            id="ssl=1 and more than that",
        ),
        pytest.param(
            "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/ca.pem",
            "public",
            "h",
            "p",
            {"sslrootcert": "/ca.pem"},
            id="root certificate",
        ),
        pytest.param(
            "postgresql://u:p@h/d?sslaccept=strict&sslcert=ca.pem",
            "public",
            "h",
            "p",
            {"sslrootcert": "ca.pem"},
            id="strict",
        ),
        pytest.param("postgresql://u:p@[::1]:5432/d", "public", "::1", "p", {}, id="IPv6"),
        pytest.param(
            "postgresql://u:p@h/d?connect_timeout=3&application_name=x",
            "public",
            "h",
            "p",
            {"connect_timeout": "3"},
            id="timeout and name",
        ),
    ],
)
def test_urls(text: str, schema: str, host: str, password: str | None, query: dict[str, str]) -> None:
    arguments, found = parse_url(text, "tests")
    assert (found, arguments["host"], arguments.get("password")) == (schema, host, password)
    assert query.items() <= arguments.items()
    assert not {"schema", "connection_limit", "pgbouncer", "sslaccept"} & arguments.keys()


@pytest.mark.parametrize(
    "text",
    [
        "mysql://u:sesame@h/d",
        "sesame",
        "postgresql://",
        "postgresql://u:sesame@open@h/d",
        "postgresql://u:sesame#1@h/d",
        "postgresql://u:ses/ame?@h/d",
        "postgresql://u:p@sesame;rm -rf/d",
        "postgresql://u:p@h:sesame/d",
        "postgresql://u:sesame@[::1/d",
        "postgresql://u:p@h,sesame/d",
        "postgresql://u:9/sesame@h/d",
        "postgresql://u:/sesame@h:1/d",
        "postgresql://u@h:12?sesame=1@h/d",
        "postgresql://u:sesame%FF@h/d",
    ],
)
def test_what_is_no_url_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse_url(text, "tests")
    assert "sesame" not in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            pytest.param(f"postgresql://u:sesame@h/d?{name}=sesame", f"an argument '{name}'", id=name)
            for name in ("currentSchema", "Schema", "SCHEMA", "search_path", "dbname", "port", "service", "user")
        ),
        *(
            pytest.param(f"postgresql://u:sesame@h/d?{name}=true", "sslmode=require", id=name)
            for name in ("useSSL", "encrypt", "tls", "sslMode", "requiressl", "sslidentity")
        ),
        pytest.param("postgresql://u:sesame@h/d?ssl=sesame", "sslmode=require", id="ssl=something"),
        pytest.param("postgresql://u:sesame@h/d?schema=a&schema=b", "an argument twice", id="two schemas"),
        pytest.param("postgresql://u:sesame@h/d?options=-csearch_path%3Dx", "options that choose", id="search_path"),
        pytest.param("postgresql://u:sesame@h/d?options=--role%3Dx", "options that choose", id="role"),
        pytest.param('"postgresql://u:sesame@h/d"', "is in quotes", id="in quotes"),
        pytest.param("prisma://accelerate.example/?api_key=sesame", "Prisma Accelerate's", id="prisma"),
        pytest.param("prisma+postgres://localhost:1/?api_key=sesame", "Prisma Accelerate's", id="prisma+postgres"),
        pytest.param("postgresql://u:sesame@h1:5432,h2:5433/d", "several hosts", id="several hosts"),
    ],
)
def test_what_may_not_be_dropped_is_refused(text: str, said: str) -> None:
    """What may have been meant to choose what is read, or to encrypt it."""
    with pytest.raises(ParamsError, match=said) as caught:
        parse_url(text, "tests")
    assert "sesame" not in str(caught.value)


def test_a_name_in_env_is_first_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / ".env").write_text("DB=file\nDATABASE_URL=postgresql://u@h/${DB}_${OTHER:-none}\n")
    assert database_url() == "postgresql://u@h/file_none"
    monkeypatch.setenv("DB", "environment")
    assert database_url() == "postgresql://u@h/environment_none"


def test_only_the_url_says_where_to_connect(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Prisma: not the variables of libpq, and of the arguments only the folder of a socket."""
    settings = load_params(ROOT / "params.yaml").source
    with monkeypatch.context() as environment:
        for name, value in {"PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGSERVICE": "x", "PGUSER": "x"}.items():
            environment.setenv(name, value)
        environment.setenv("DATABASE_URL", db.url())
        with source.connect(settings, TABLES) as target, transaction(target) as connection:
            assert fetch(connection, "SELECT current_database(), current_user") == [(db.name, "postgres")]
            assert f"{db.where['host']}:{db.where['port']}" in target.name


@pytest.mark.parametrize("line", ['DATABASE_URL="postgresql://u:sesame@h/d', "DATABASE_URL: x", "database_url=sesame"])
def test_a_line_of_env_that_was_meant_to_be_it_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / ".env").write_text(f"OTHER=1\n{line}\n")
    with pytest.raises(ParamsError, match="whose line 2 can't be understood") as caught:
        database_url()
    assert "sesame" not in str(caught.value)


def test_unknown_arguments_are_named_but_not_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    parse_url("postgresql://u:p@h/d?colour=crimson", "tests")
    said = capsys.readouterr().err
    assert "colour" in said
    assert "crimson" not in said


def test_environment_then_env_file_then_the_checkout_of_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    here.mkdir()
    checkout.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert database_url() is None
    (checkout / ".env").write_text('# comment\nDATABASE_URL="postgresql://checkout/d"\n')
    monkeypatch.setenv("DVC_ROOT", str(checkout))
    assert database_url() == "postgresql://checkout/d"
    (here / ".env").write_text("export DATABASE_URL='postgresql://here/d' # comment\n")
    assert database_url() == "postgresql://here/d"
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/d")
    assert database_url() == "postgresql://environment/d"
    monkeypatch.setenv("DATABASE_URL", "")
    assert database_url() is None
