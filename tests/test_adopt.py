"""adopt: what it guesses of a table, what it writes, what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import adopt as command
from pipeline.adopt import files
from pipeline.adopt.files import declared
from pipeline.core.errors import ContractError, ParamsError, PipelineError, SourceError
from pipeline.core.params import load_params
from schemas.rules import one_of
from schemas.table import Table
from tests.fix_adopt import TYPES, Home
from tests.helpers import ROOT, Database

PLANS = ("free", 'so "called" pro', "it's", "größer")


def rules(table: Table) -> dict[str, list[str]]:
    return {column.name: [rule.name for rule in column.rules] for column in table.columns if column.rules}


SHAPES: list[Any] = [
    pytest.param(
        "users",
        {"time": "createdAt", "user": "id", "key": "id", "order": ("createdAt", "id"), "counted": ("plan",)},
        {"id": ["unique"], "plan": ["isin"]},
        ["a table of 4 columns", "user: id, one row is one user", "id is no text, so an export with pseudonyms leaves"],
        id="users with an identity",
    ),
    pytest.param(
        "visit_log",
        {"time": "started_on", "user": "visitor_id", "key": "id"},
        {"id": ["unique"], "data": ["json_valid"]},
        ["day: started_on, the only one that the database fills in", "user: visitor_id, refers to users"],
        id="a cuid2 key and mapped names",
    ),
    pytest.param(
        "api_key",
        {"time": "created_at", "user": "user_id", "key": "id", "order": ("created_at", "id")},
        {"id": ["unique"]},
        ["day: created_at", "no index begins with created_at", "no row of late, so a day without any is nothing wrong"],
        id="a uuid key",
    ),
    pytest.param(
        "UserAccess",
        {"time": "createdAt", "user": "userId", "order": ("createdAt", "organisationId", "userId")},
        {},
        ["key: organisationId, of the primary key (organisationId, userId)"],
        id="a composite key",
    ),
    pytest.param(
        "Setting",
        {"time": None, "user": None, "key": "key", "order": ("key",), "daily": False},
        {"key": ["unique"], "value": ["json_valid"]},
        ["day: none, no created column with a default: the whole table is one partition", "user: none"],
        id="updatedAt is never the day",
    ),
    pytest.param(
        "log",
        {"time": "created", "key": "created", "user": None},
        {},
        ["key: created, no key promises that a row is told from others"],
        id="no key, a date",
    ),
    pytest.param(
        "class",
        {"time": None, "order": ("owner", "token"), "key": "owner"},
        {},
        ["key: owner, of unique (owner, token)", "(--day may name expires)", "wrote schemas/table_class.py"],
        id="a keyword, a unique index",
    ),
    pytest.param(
        "2fa-codes",
        {"time": "seen_at", "key": "id", "name": "2fa-codes"},
        {"id": ["unique"]},
        ["(--day may name created_at)", "wrote schemas/table_2fa_codes.py"],
        id="no name of Python, a generated column",
    ),
    pytest.param(
        "Other one.logins",
        {"name": "logins", "schema": "Other one", "time": "created_at", "user": "userId"},
        {"id": ["unique"]},
        ['"Other one"."logins" in database', "schemas/logins.py"],
        id="another schema",
    ),
    pytest.param(
        "recent",
        {"key": "id", "time": None},
        {"data": ["json_valid"]},
        ["a view of 7 columns", "(--day may name started_on, touched)"],
        id="a view",
    ),
    pytest.param("pages", {"key": "page_url"}, {}, ["a materialized view of 2 columns"], id="a materialized view"),
    pytest.param(
        "parts", {"order": ("created_at", "id"), "key": "id"}, {}, ["a partitioned table of 2"], id="partitions"
    ),
    pytest.param(
        "odd",
        {"key": "Id", "names": ('with "quotes", {braces} and 100%', "naïve", "Id", "id2")},
        {"Id": ["unique"]},
        [
            "left out: filename: a name that the files need for themselves",
            "left out: \\n: a control character in its name",
            "left out: naÏve: DuckDB can't tell it from naïve",
        ],
        id="odd names",
    ),
]


@pytest.mark.parametrize(("name", "expected", "checks", "said"), SHAPES)
def test_a_shape(
    shapes: Database,
    home: Home,
    capsys: pytest.CaptureFixture[str],
    name: str,
    expected: dict[str, Any],
    checks: dict[str, list[str]],
    said: list[str],
) -> None:
    table = home.adopt(name)
    assert {key: getattr(table, key) for key in expected} == expected
    assert rules(table) == checks
    printed = capsys.readouterr().out
    assert [words for words in said if words not in printed.replace(str(home.paths.root) + "/", "")] == []
    assert all(line.startswith("adopt: ") for line in printed.splitlines())


def test_every_type_has_its_kind(shapes: Database, home: Home) -> None:
    table = home.adopt("types")
    found = [(column.postgres, column.kind, column.native) for column in table.columns[101:-2]]
    assert found == TYPES
    plan, plans = table.columns[-2:]
    assert (plan.kind, plan.enum, plan.values) == ("enum", "Plan", PLANS)
    assert (plans.kind, plans.native) == ("list", 'public."Plan"[]')
    assert (table.column("t19").digits, table.column("t20").digits) == ((10, 2), (65, 30))


def test_words_are_those_of_the_database_else_of_schema_prisma(shapes: Database, home: Home) -> None:
    users, visits = home.adopt("users"), home.adopt("Visit")
    assert users.description == "Who has an account."
    assert users.column("email").description.startswith('A "quoted" word, an | and a \\ in it; 日本語の説明 that')
    assert users.column("email").description.endswith("for three lines")
    assert users.column("plan").rules == (one_of(*PLANS),) or users.column("plan").values == PLANS
    assert visits.name == "visit_log"
    assert visits.description == "One visit of a page, as the browser told."
    assert visits.column("page_url").description == '"The" page\'s address // with a slash. Never empty.'
    assert visits.column("referrer").description == "Where they came from."
    assert visits.column("data").description == "The column data."
    assert visits.column("visitor_id").description == "The column visitor_id, which refers to users."


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"day": "expires"}, {"time": "expires", "daily": False}, id="another day"),
        pytest.param({"day": "none"}, {"time": None}, id="no day"),
        pytest.param({"user": "owner"}, {"user": "owner"}, id="another user"),
        pytest.param({"user": "none"}, {"user": None}, id="no user"),
    ],
)
def test_what_is_asked_for_goes_before_what_is_guessed(
    shapes: Database, home: Home, asked: dict[str, str], expected: dict[str, Any]
) -> None:
    table = home.adopt("class", **asked)
    assert {key: getattr(table, key) for key in expected} == expected
    pseudonyms = [column.name for column in table.columns if column.pseudonym]
    assert pseudonyms == [name for name in [table.user] if name]


@pytest.mark.parametrize(
    ("rows", "daily", "day"),
    [
        pytest.param("generate_series(now() - interval '9 days', now(), '1 day') AS v (at)", True, True, id="each day"),
        pytest.param("generate_series(now() - interval '9 days', now(), '2 days') AS v (at)", False, True, id="some"),
        pytest.param("(VALUES (now()), (NULL)) AS v (at)", False, False, id="a NULL, which is on no day"),
        pytest.param("(VALUES (now()), ('infinity')) AS v (at)", False, False, id="an infinite one"),
    ],
)
def test_the_rows_are_asked_whether_the_day_will_do(
    own_shapes: Database, home: Home, capsys: pytest.CaptureFixture[str], rows: str, daily: bool, day: bool
) -> None:
    own_shapes.run(f"INSERT INTO api_key (created_at) SELECT at FROM {rows}")
    table = home.adopt("api_key")
    assert (table.daily, table.time) == (daily, "created_at" if day else None)
    assert ("created_at is NULL or infinite in some rows, which lie on no day" in capsys.readouterr().out) == (not day)


def test_what_is_written_is_as_ruff_and_mypy_want_it(shapes: Database, home: Home) -> None:
    known = set(declared(home.paths.schemas))
    for shape in [*(shape.values[0] for shape in SHAPES), "types"]:
        home.adopt(shape)
    made = [str(place.file) for name, place in declared(home.paths.schemas).items() if name not in known]
    config = str(ROOT / "pyproject.toml")
    # Of what the files import, mypy need not know pandas and its like, which take ten seconds.
    alone = ["--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent"]
    for check in (
        ["ruff", "check", "--config", config, *made, str(home.paths.schemas / "tables.py")],
        ["ruff", "format", "--check", "--config", config, *made, str(home.paths.schemas / "tables.py")],
        ["mypy", "--config-file", config, *alone, *made],
    ):
        done = subprocess.run([sys.executable, "-m", *check], cwd=home.paths.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert len(made) == len(SHAPES) + 1
    listed = yaml.safe_load(home.paths.params.read_text(encoding="utf-8"))["tables"]
    assert listed == ["behavioral_events", "context_metadata", *(s.values[0].split(".")[-1] for s in SHAPES), "types"]


REFUSED: list[Any] = [
    pytest.param("visitlog", {}, ParamsError, ["there is no table visitlog; there is visit_log"], id="no such table"),
    pytest.param("logins", {}, ParamsError, ["there is Other one.logins"], id="in another schema"),
    pytest.param("users", {"day": "id"}, ParamsError, ["--day id", "one of createdAt, or none"], id="a number as day"),
    pytest.param("users", {"user": "nobody"}, ParamsError, ["--user nobody", "one of id, email"], id="no such user"),
    pytest.param("Users", {}, ContractError, ["users is declared twice"], id="two names but for the case"),
    pytest.param("über/alles", {}, ContractError, ["other characters than letters"], id="a name no folder can have"),
    pytest.param("sessions", {}, ContractError, ["sessions is a view that is made of"], id="the name of a view"),
    pytest.param("nothing", {}, ContractError, ["it has no columns"], id="no columns"),
    pytest.param("secret", {}, SourceError, ["row security hides rows", "BYPASSRLS"], id="row security"),
    pytest.param("closed", {}, SourceError, ["this role may not read it", "GRANT SELECT ON"], id="no right"),
    pytest.param("behavioral_events", {}, ParamsError, ["declares behavioral_events already"], id="one that is there"),
]


@pytest.mark.parametrize(("name", "asked", "kind", "said"), REFUSED)
def test_a_refusal_says_why_and_writes_nothing(
    own_shapes: Database,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    asked: dict[str, str],
    kind: type[PipelineError],
    said: list[str],
) -> None:
    role = f"r_{own_shapes.name}"
    own_shapes.run(
        'CREATE TABLE "Users" (id text PRIMARY KEY); CREATE TABLE "über/alles" (id text PRIMARY KEY);'
        "CREATE TABLE nothing (); CREATE TABLE sessions (id text);"
        "CREATE TABLE secret (id text); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;"
        f"CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"
        f'GRANT USAGE ON SCHEMA "Other one" TO {role}; CREATE TABLE closed (id text)'
    )
    if name == "Users":
        monkeypatch.setattr(command, "TABLES", (*command.TABLES, home.adopt("users")))
    monkeypatch.setenv("DATABASE_URL", own_shapes.url(user=role))
    before = {path: path.read_bytes() for path in home.paths.root.rglob("*.*") if path.is_file()}
    with pytest.raises(kind) as refused:
        home.adopt(name, **asked)
    assert [words for words in said if words not in str(refused.value)] == []
    assert {path: path.read_bytes() for path in home.paths.root.rglob("*.*") if path.is_file()} == before
    own_shapes.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_columns_that_the_role_may_not_read_are_left_out(
    own_shapes: Database, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    role = f"r_{own_shapes.name}"
    own_shapes.run(f'CREATE ROLE {role} LOGIN; GRANT SELECT (id, "createdAt", xmin) ON users TO {role}')
    monkeypatch.setenv("DATABASE_URL", own_shapes.url(user=role))
    assert home.adopt("users").names == ("id", "createdAt")
    assert "left out: email: this role may not read it" in capsys.readouterr().out
    own_shapes.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_list_has_every_table_with_its_guesses(
    own_shapes: Database, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    own_shapes.run("ANALYZE users")
    command.listed(home.paths, load_params(home.paths.params))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["visit_log", "started_on", "visitor_id", "id"] in lines
    assert ["users", "0", "createdAt", "id", "id"] in lines
    assert ["Other", "one.logins", "created_at", "userId", "id"] in lines
    assert ["behavioral_events", "adopted"] in lines
    assert not any("parts_2025" in line for line in lines)


def test_tables_that_the_database_does_not_have_are_no_longer_read(
    own_shapes: Database, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    own_shapes.run("DROP TABLE behavioral_events, context_metadata")
    home.adopt("users")
    assert yaml.safe_load(home.paths.params.read_text(encoding="utf-8"))["tables"] == ["users"]
    assert "does not have them: behavioral_events, context_metadata" in capsys.readouterr().out


def test_force_writes_a_file_anew(own_shapes: Database, home: Home) -> None:
    home.adopt("users")
    own_shapes.run("ALTER TABLE users ADD COLUMN more text")
    texts = [(home.paths.schemas / "tables.py").read_bytes(), home.paths.params.read_bytes()]
    with pytest.raises(ParamsError, match="--force"):
        home.adopt("users")
    assert home.adopt("users", force=True).names[-1] == "more"
    assert [(home.paths.schemas / "tables.py").read_bytes(), home.paths.params.read_bytes()] == texts


def test_all_files_are_written_or_none(shapes: Database, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in home.paths.root.rglob("*.*") if path.is_file()}
    real, done = files.os.replace, []

    def full(source: Any, target: Any) -> None:
        done.append(target)
        if len(done) == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        home.adopt("users")
    assert len(done) == 3
    assert {path: path.read_bytes() for path in home.paths.root.rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("tables: [a, b] # read\n", "tables: [b, c] # read\n", id="on one line"),
        pytest.param("tables:\n  - a\n  - b # why\nx: 1\n", "tables:\n  - b # why\n  - c\nx: 1\n", id="on several"),
        pytest.param("tables:\n- a\nx: 1\n", "tables:\n- c\nx: 1\n", id="the last one replaced"),
        pytest.param("tables: [c]\n", "tables: [c]\n", id="there already"),
    ],
)
def test_params_keep_their_comments(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(before)
    assert files.with_name(path, "c", ["a"]) == after


@pytest.mark.parametrize("name", ["null", "2024", "1e3", "no"])
def test_a_name_that_yaml_takes_for_something_else_is_quoted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("tables: [a]\n")
    assert yaml.safe_load(files.with_name(path, name, [])) == {"tables": ["a", name]}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("DocumentAuditLog", "document_audit_log"),
        ("HTTPLog", "http_log"),
        ("user", "user"),
        ("_prisma_migrations", "prisma_migrations"),
        ("2fa-codes", "table_2fa_codes"),
        ("class", "table_class"),
        ("match", "table_match"),
        ("---", "table"),
    ],
    ids=lambda text: str(text),
)
def test_names_of_modules(name: str, module: str) -> None:
    assert files.snake(name) == module
