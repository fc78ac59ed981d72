"""The parts of a table: UTC days by a day column of every kind, with and without an index; one part without any."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline.core import watermark
from pipeline.core.errors import DataError, PipelineError
from pipeline.days import copy
from schemas.rules import unique
from schemas.table import Column, Table
from tests.helpers import UNTIL, Database, Project, files, outputs, read_report, rows_of_parquet, use


def create(db: Database, table: Table, types: dict[str, str], schema: str = "public") -> None:
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in types.items())
    db.run(f'CREATE TABLE "{schema}"."{table.name}" ({columns})')


def rows_of_parquet_file(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]


DAYS = {
    "timestamp": "timestamp(3)",
    "timestamp_us": "timestamp(6)",
    "timestamptz": "timestamp(6) with time zone",
    "date": "date",
}
TIMES = [
    "2025-10-25 23:59:59.999999+00",
    "2025-10-26 00:00:00+00",
    "2025-10-26 23:59:59.999+00",
    "2025-10-27 12:00:00+00",
    "2025-10-28 00:00:00+00",
]


def by_day(kind: str, indexed: bool) -> Table:
    native = {"timestamp_us": "timestamp(6) without time zone", "timestamptz": "timestamp(6) with time zone"}.get(kind)
    return Table(
        name=f"by_{kind}_{indexed}".lower(),
        description="One row is one row.",
        columns=(
            Column("id", "bigint", "The row.", False, (unique(),)),
            Column("text", "text", "Any."),
            Column("at", kind, "When.", False, native=native),  # type: ignore[arg-type]
        ),
        order=("id",),
        key="id",
        time="at",
    )


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
@pytest.mark.parametrize("kind", DAYS)
def test_rows_are_filed_by_their_utc_day(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, kind: str, indexed: bool
) -> None:
    table = by_day(kind, indexed)
    use(monkeypatch, table)
    db.run(f"ALTER DATABASE {db.name} SET TimeZone = 'America/New_York'")
    create(db, table, {"id": "bigserial PRIMARY KEY", "text": "text", "at": DAYS[kind]})
    if indexed:
        db.run(f"CREATE INDEX ON {table.name} (at)")
    for n, instant in enumerate(TIMES * 3):
        utc = "%s" if kind == "timestamptz" else "%s::timestamptz AT TIME ZONE 'UTC'"  # as the app writes it
        db.run(f"INSERT INTO {table.name} (text, at) VALUES (%s, {utc})", [f"{n}", instant])
    project.set(extract__days=3)
    project.all()
    found = {
        path.parent.name.removeprefix("event_date="): [row["id"] for row in rows_of_parquet_file(path)]
        for path in sorted((project.paths.export / table.name).glob("*/*.parquet"))
    }
    # timestamp(3) rounds the first one up to the next day, as PostgreSQL does.
    rounded = kind == "timestamp"
    assert found == {
        "2025-10-25": [] if rounded else [1, 6, 11],
        "2025-10-26": sorted([2, 3, 7, 8, 12, 13] + ([1, 6, 11] if rounded else [])),
        "2025-10-27": [4, 9, 14],
    }
    db.run(f"UPDATE {table.name} SET text = 'changed' WHERE id = 4")
    project.all()
    with duckdb.connect(str(project.paths.database), read_only=True) as connection:
        assert connection.execute(f"SELECT text FROM {table.name} WHERE id = 4").fetchall() == [("changed",)]
    project.values["quality"]["nulls"]["each"] = {}
    project.set()
    project.report()


def test_without_an_index_the_table_is_read_once_for_all_days(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives the same files as with one, rows or none, in one COPY, also for days that are not side by side."""
    made = {}
    real = copy.copy_rows
    asked: list[list[date]] = []

    def recorded(connection: Any, relation: Any, days: list[date], *more: Any) -> int:
        asked.append(days)
        return real(connection, relation, days, *more)

    monkeypatch.setattr(copy, "copy_rows", recorded)
    for indexed in (True, False):
        table = by_day("timestamp", True)
        use(monkeypatch, table)
        if indexed:
            create(db, table, {"id": "bigserial PRIMARY KEY", "text": "text", "at": "timestamp(3)"})
            db.run(
                f"INSERT INTO {table.name} (text, at) SELECT n, timestamp '2025-10-01' + n * interval '7 minutes' "
                "FROM generate_series(1, 4000) n WHERE n % 600 > 250"
            )
            db.run(f"CREATE INDEX by_day ON {table.name} (at)")
        else:
            db.run("DROP INDEX by_day")
        project.set(extract__days=30)
        project.refresh(full=True)
        if project.paths.data.exists():
            project.paths.data.rename(project.root / f"before {indexed}")
        project.run()
        assert len(asked) == (30 if indexed else 1)
        made[indexed] = outputs(project)
        for day in ("2025-10-03", "2025-10-10", "2025-10-11"):
            db.run(f"UPDATE {table.name} SET text = text || '!' WHERE at::date = %s", [day])
        asked.clear()
        project.all()
        assert sorted(str(day) for days in asked for day in days) == ["2025-10-03", "2025-10-10", "2025-10-11"]
        assert len(asked) == (3 if indexed else 1)
        db.run(f"UPDATE {table.name} SET text = replace(text, '!', '')")
        asked.clear()
    assert made[True] == made[False]


WHOLE = Table(
    name="users",
    description="One row is one user.",
    columns=(Column("id", "text", "The user.", False, (unique(),)), Column("plan", "text", "What they pay.")),
    order=("id",),
    key="id",
    time=None,
    user="id",
    daily=False,
)


def test_a_table_without_a_day_column_is_one_part(
    db: Database, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, WHOLE)
    create(db, WHOLE, {"id": "text PRIMARY KEY", "plan": "text"})
    db.run("INSERT INTO users SELECT 'u' || n, 'free' FROM generate_series(1, 10) n")
    project.all()
    pins = watermark.load(project.paths.watermark).tables["users"]
    assert [(str(day), pin.rows) for day, pin in pins.items()] == [("whole", 10)]
    assert list(files(project.paths.export / "users")) == ["event_date=whole/part-0.parquet"]
    assert rows_of_parquet(project.paths.export / "users") == db.run('SELECT * FROM users ORDER BY id COLLATE "C"')
    before = outputs(project)
    project.refresh(until=date(2025, 10, 29))  # the window moves, the table does not
    capsys.readouterr()
    project.run()
    assert "extract: kept 1, read 0, dropped 0" in capsys.readouterr().out
    parquet = {path: content for path, content in before.items() if path.endswith(".parquet")}
    assert parquet.items() <= outputs(project).items()
    db.run("UPDATE users SET plan = 'paid' WHERE id = 'u3'")
    db.run("DELETE FROM users WHERE id = 'u4'")
    project.refresh(until=date(2025, 10, 29))
    assert "users: 1 day with fewer rows: whole (10 -> 9)" in capsys.readouterr().out.replace("refresh: ", "users: ")
    project.run()
    project.values["quality"]["nulls"]["each"] = {}
    project.set()
    project.report()
    with duckdb.connect(str(project.paths.database), read_only=True) as connection:
        assert connection.execute("SELECT plan FROM users WHERE id = 'u3'").fetchall() == [("paid",)]
    db.run("DELETE FROM users WHERE id <> 'u1'")
    project.set(quality__shrunk_days={"limit": 0.5, "level": "fail"})
    with pytest.raises(PipelineError, match="it lost 89% of its rows"):
        project.refresh(until=date(2025, 10, 29))


def test_a_table_of_another_schema(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    table = WHOLE._replace(schema="auth Schema")
    use(monkeypatch, table)
    db.run('CREATE SCHEMA "auth Schema"')
    create(db, table, {"id": "text PRIMARY KEY", "plan": "text"}, "auth Schema")
    db.run("INSERT INTO \"auth Schema\".users VALUES ('a', NULL)")
    project.all()
    assert rows_of_parquet(project.paths.export / "users") == [("a", None)]
    assert read_report(project.paths.extract_report)["window"] == ["2025-10-26", str(UNTIL)]


def test_a_row_out_of_order_is_in_no_file(db: Database, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL sorts; were it wrong, as with a broken index, no row would be filed under another day."""
    table = by_day("timestamp", False)
    use(monkeypatch, table)
    create(db, table, {"id": "bigserial PRIMARY KEY", "text": "text", "at": "timestamp(3)"})
    db.run(f"INSERT INTO {table.name} (at) VALUES ('2025-10-26 10:00'), ('2025-10-27 10:00')")
    project.refresh()
    real = copy.copy_rows

    class Backwards:
        def __init__(self, into: Any) -> None:
            self.into, self.lines = into, []

        def write(self, line: bytes) -> None:
            self.lines.append(line)

    def backwards(connection: Any, relation: Any, days: Any, users: Any, into: Any) -> int:
        held = Backwards(into)
        sent = real(connection, relation, days, users, held)
        for line in reversed(held.lines):
            into.write(line)
        return sent

    monkeypatch.setattr(copy, "copy_rows", backwards)
    with pytest.raises(DataError, match="none of the days that were asked for"):
        project.extract()
