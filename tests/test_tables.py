"""Tables of other kinds: every kind of column is exact from PostgreSQL to DuckDB, a hundred columns are, and a second
table needs a file and a line."""

from __future__ import annotations

import math
import pickle
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import watermark
from pipeline.core.errors import RowsInvalidError
from schemas import rules
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.rules import Settings, between, of_row, unique
from schemas.table import Column, Table
from tests.helpers import UNTIL, Database, Project, event, read_report, rows_of_parquet, use


def passes_floor(rows: pd.DataFrame) -> pd.Series[Any]:
    return rows["ratio"] <= rows["ceiling"]


MEASURES = Table(
    name="measures",
    description="One row is one measure.",
    columns=(
        Column("id", "bigint", "Autoincrement.", False, (unique(),)),
        Column("at", "timestamp", "When.", False),
        Column("ratio", "float", "Any float."),
        Column("ceiling", "float", "What ratio may not exceed."),
        Column("active", "bool", "Yes or no."),
        Column("total", "bigint", "64 bits."),
        Column("price", "decimal", "DECIMAL in DuckDB.", digits=(10, 2)),
        Column("wide", "decimal", "Prisma's bare Decimal: too wide for DECIMAL.", digits=(65, 30)),
        Column("share", "decimal", "All its digits are fractions.", digits=(38, 38)),
        Column("odd name", "int", 'Quoted; with "quotes" in the words.', rules=(between(0, 9),)),
        *(Column(f"c{n}", "text" if n % 2 else "int", "One of many.") for n in range(90)),
    ),
    order=("at", "id"),
    key="id",
    time="at",
    rules=(of_row("below_ceiling", "ratio is at most ceiling", ("ratio", "ceiling"), passes_floor),),
    counted=("active",),
)

TYPES = {"bigint": "bigint", "float": "double precision", "bool": "boolean", "text": "text", "int": "integer"}


def create(db: Database, table: Table) -> None:
    columns = ", ".join(
        f"{c.quoted} {c.type.postgres if c.kind in ('timestamp', 'decimal') else TYPES[c.kind]}" for c in table.columns
    )
    db.run(f"CREATE TABLE {table.name} ({columns})")


def insert(db: Database, table: Table, *rows: dict[str, Any]) -> None:
    """Floats as texts, since psycopg2 writes -0.0 as a number, which to PostgreSQL is 0."""
    for row in rows:
        names = ", ".join(table.column(name).quoted for name in row)
        db.run(
            f"INSERT INTO {table.name} ({names}) VALUES ({', '.join(['%s'] * len(row))})",
            [repr(value) if isinstance(value, float) else value for value in row.values()],
        )


@pytest.fixture
def measures(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The stages read behavioral_events and the table of measures."""
    create(db, MEASURES)
    use(monkeypatch, BEHAVIORAL_EVENTS, MEASURES)
    return MEASURES


def bits(value: Any) -> Any:
    """A value by which all floats can be told apart; NaN is one."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack(">d", value).hex()
    return value


def values(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted([tuple(map(bits, row)) for row in rows], key=str)


def in_postgresql(db: Database, table: Table) -> list[tuple[Any, ...]]:
    return values(db.run(f"SELECT {', '.join(c.quoted for c in table.columns)} FROM {table.name}"))


def in_duckdb(project: Project, table: Table) -> list[tuple[Any, ...]]:
    """The rows as DuckDB has them, decimals that are kept as text read as numbers."""
    with duckdb.connect(str(project.paths.database), read_only=True) as connection:
        rows = connection.execute(f"FROM {table.name}").fetchall()
    kept = [n for n, c in enumerate(table.columns) if c.kind == "decimal" and c.type.duckdb == "VARCHAR"]
    return values([tuple(Decimal(v) if n in kept and v is not None else v for n, v in enumerate(row)) for row in rows])


EDGES = [
    {"ratio": 0.0, "active": True, "total": 2**63 - 1, "price": "99999999.99"},
    {"ratio": -0.0, "active": False, "total": -(2**63), "price": "-0.01"},
    {"ratio": math.nan},
    {"ratio": -math.inf, "ceiling": math.inf},
    {"ratio": 5e-324, "ceiling": 1.7976931348623157e308, "wide": "9" * 35 + "." + "9" * 30},
    {"ratio": 0.1 + 0.2, "price": "0", "wide": "0", "share": "0." + "9" * 38},
    {"ratio": 1e15, "ceiling": 1e16, "share": "-0." + "0" * 37 + "1", "odd name": 9},
    {},
]


def row(n: int, **more: Any) -> dict[str, Any]:
    return {"id": n, "at": f"2025-10-2{6 + n % 2} 10:00:00", **more}


@pytest.mark.parametrize("strategy", ["view", "table"])
def test_every_kind_is_exact(db: Database, project: Project, measures: Table, strategy: str) -> None:
    many = {f"c{n}": "x" * n if n % 2 else n for n in range(90)}
    insert(db, measures, *(row(n, **edge) for n, edge in enumerate(EDGES)), row(50, **many))
    db.insert(event())
    expected = in_postgresql(db, measures)
    # A setting under which floats would arrive as others.
    db.run(f"ALTER DATABASE {db.name} SET extra_float_digits = 0")
    project.set(load__strategy=strategy)
    project.all()
    assert in_duckdb(project, measures) == expected
    assert rows_of_parquet(project.raw) == db.rows()
    with duckdb.connect(str(project.paths.database), read_only=True) as connection:
        described = connection.execute("DESCRIBE measures").fetchall()
    assert [(name, kind) for name, kind, *_ in described] == [(c.name, c.type.duckdb) for c in measures.columns]
    assert dict(described[n][:2] for n in range(9))["price"] == "DECIMAL(10,2)"
    tables = {entry["table"]: entry for entry in read_report(project.paths.load_report, "tables")["tables"]}
    assert tables["measures"]["columns_compared"] == 100
    assert {entry["duckdb"] for entry in tables.values()} == {1, len(EDGES) + 1}


floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    some=st.lists(
        st.fixed_dictionaries(
            {
                "ratio": floats,
                "total": st.integers(-(2**63), 2**63 - 1),
                "price": st.decimals(-99999999, 99999999, places=2),
                "active": st.none() | st.booleans(),
                "c1": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_values_are_exact(db: Database, project: Project, measures: Table, some: list[dict[str, Any]]) -> None:
    db.run("TRUNCATE measures")
    insert(db, measures, *(row(n, **values) for n, values in enumerate(some)))
    project.all()
    assert in_duckdb(project, measures) == in_postgresql(db, measures)


def test_one_changed_float_is_another_digest(db: Database, project: Project, measures: Table) -> None:
    seen = set()
    for ratio in (0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 0.1, math.nextafter(0.1, 1), None):
        db.run("TRUNCATE measures")
        insert(db, measures, row(0, ratio=ratio))
        project.refresh()
        seen.add(watermark.load(project.paths.watermark).tables["measures"][UNTIL.replace(day=26)].digest)
    assert len(seen) == 9


@pytest.mark.parametrize(
    ("bad", "check"),
    [
        pytest.param({"ratio": 2.0, "ceiling": 1.0}, "ratio, ceiling.below_ceiling", id="a rule over two columns"),
        pytest.param({"price": "NaN"}, "price.finite", id="NaN in a DECIMAL"),
        pytest.param({"odd name": 10}, "odd name.in_range", id="a rule on one column"),
        pytest.param({"id": 1}, "id.unique", id="an id twice"),
    ],
)
def test_rules_of_another_table(
    db: Database, project: Project, measures: Table, bad: dict[str, Any], check: str
) -> None:
    insert(db, measures, row(1), row(3, ratio=1.0, ceiling=1.0), row(5, ratio=2.0))
    project.refresh()
    project.run()
    insert(db, measures, row(7) | bad)
    project.refresh()
    project.extract()
    with pytest.raises(RowsInvalidError, match=f"break the contract: measures.{check} "):
        project.validate()
    project.set(validate__mode="quarantine")
    project.run()
    failing = 2 if check == "id.unique" else 1
    tables = {entry["table"]: entry for entry in read_report(project.paths.load_report, "tables")["tables"]}
    assert (tables["measures"]["quarantine"], tables["measures"]["duckdb"]) == (failing, 4 - failing)
    cases = project.paths.failures.read_text(encoding="utf-8")
    assert f'"measures","2025-10-27","{"1" if failing == 2 else "7"}","{check.rpartition(".")[0]}"' in cases


def test_a_table_can_be_handed_to_another_process() -> None:
    for table in (BEHAVIORAL_EVENTS, MEASURES):
        again = pickle.loads(pickle.dumps(table))
        assert again.fingerprint("raw") == table.fingerprint("raw")
        schema = rules.build_schema(again, Settings(watermark.midnight(UNTIL)), window=False)
        assert list(schema.columns) == list(table.names)


def test_a_table_that_is_gone_leaves_no_files(db: Database, project: Project, measures: Table, tmp_path: Path) -> None:
    insert(db, measures, row(0))
    project.all()
    with pytest.MonkeyPatch.context() as patch:
        use(patch, BEHAVIORAL_EVENTS)
        project.run()
    for folder in (project.paths.raw, project.paths.export):
        assert [entry.name for entry in folder.iterdir() if entry.is_dir()] == ["behavioral_events"]
    assert [entry.name for entry in project.paths.quarantine.iterdir()] == ["behavioral_events.parquet"]


def test_refresh_says_that_a_table_is_gone(
    db: Database, project: Project, measures: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.refresh()
    use(monkeypatch, BEHAVIORAL_EVENTS)
    project.refresh()
    assert "measures is no longer pinned" in capsys.readouterr().out
    assert list(watermark.load(project.paths.watermark).tables) == ["behavioral_events"]


def test_only_tables_with_pseudonyms_depend_on_their_key(
    db: Database, project: Project, measures: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(db, measures, row(0))
    db.insert(event())
    project.set(export__pseudonymize=True)
    made = []
    for key in ("a" * 40, "b" * 40):
        monkeypatch.setenv("PSEUDONYM_KEY", key)
        project.all()
        made.append({path.parts[0]: content for path, content in by_table(project.exported).items()})
    assert made[0]["measures"] == made[1]["measures"]
    assert made[0]["behavioral_events"] != made[1]["behavioral_events"]


def by_table(exported: Path) -> dict[Path, bytes]:
    """The files of 2025-10-26, by their paths under `exported`."""
    found = exported.parent.glob("*/event_date=2025-10-26/*.parquet")
    return {path.relative_to(exported.parent): path.read_bytes() for path in found}
