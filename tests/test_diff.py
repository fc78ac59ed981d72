"""Rows that differ between two snapshots, against the same said in plain Python over the rows."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands.diff import check_keys, main
from pipeline.core.days import WHOLE
from pipeline.core.errors import DataError, ParamsError, PipelineError
from pipeline.files import manifest
from pipeline.versions.diff import Diff, Sides
from schemas.rules import unique
from schemas.table import Column, Table
from schemas.tables import TABLES
from tests.fix_remote import S3, copy_of, night, with_remote
from tests.helpers import UNTIL, Clone, Database, event

SMALL = Table(
    name="small",
    description="One row is one test.",
    columns=(
        Column("id", "text", "The key.", False, (unique(),)),
        Column("at", "timestamp", "When.", False),
        Column("who", "text", "The user."),
        Column("value", "float", "Any float."),
        Column("odd 'name\"", "json", "Anything."),
    ),
    order=("at", "id"),
    key="id",
    time="at",
    user="who",
)
ODD = SMALL.names[4]
FIRST = datetime(2025, 10, 1)
NAMES = [table.name for table in TABLES]

Row = dict[str, Any]


def a_row(rng: Random, key: str) -> Row:
    return {
        "id": key,
        "at": FIRST + timedelta(days=rng.randrange(4), milliseconds=rng.randrange(86_400_000)),
        "who": rng.choice(("ann", "bob", None)),
        "value": rng.choice((0.0, -0.0, math.nan, math.inf, 0.1, 5e-324, None)),
        ODD: rng.choice(('{"a": 1}', "[]", "null", "0", "0.0", None)),
    }


def changed(rng: Random, row: Row) -> Row:
    """A value or two anew, which may give the same, and another day now and then."""
    return row | {name: a_row(rng, row["id"])[name] for name in rng.sample(SMALL.names[1:], rng.randrange(3))}


def write(folder: Path, rows: list[Row], columns: tuple[str, ...] = SMALL.names) -> dict[date, Path]:
    by_day: dict[date, list[Row]] = {}
    for row in rows:
        by_day.setdefault(row["at"].date(), []).append({name: row[name] for name in columns})
    folder.mkdir()
    files = {}
    schema = pa.schema([field for field in SMALL.arrow_schema("export") if field.name in columns])
    for day, own in by_day.items():
        files[day] = folder / f"{day}.parquet"
        storage = pa.schema([pa.field(f.name, pa.string() if f.name == ODD else f.type) for f in schema])
        pq.write_table(pa.Table.from_pylist(own, storage).cast(schema), files[day])
    return files


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else struct.pack(">d", value)
    return value


def differing(before: list[Row], after: list[Row]) -> list[tuple[Row | None, Row | None]]:
    old, new = ({row["id"]: row for row in rows} for rows in (before, after))
    pairs = [(old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    return [(a, b) for a, b in pairs if a is None or b is None or any(bits(a[n]) != bits(b[n]) for n in a)]


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize("seed", range(12))
def test_rows_that_differ(tmp_path: Path, duck: duckdb.DuckDBPyConnection, seed: int) -> None:
    rng = Random(seed)
    before = [a_row(rng, f"r{n}") for n in range(rng.randrange(60))]
    after = [changed(rng, row) for row in before if rng.random() > 0.1]
    after += [a_row(rng, f"new{n}") for n in range(rng.randrange(1, 9))]
    sides = Sides(SMALL, write(tmp_path / "a", before), write(tmp_path / "b", after))
    diff = Diff(duck, sides)
    wanted = differing(before, after)
    rows = duck.sql(diff.rows()).to_arrow_table().to_pylist()
    found = {row["to_id"] or row["from_id"]: row for row in rows}
    assert len(found) == len(rows) == len(wanted)
    for a, b in wanted:
        row = found[(a or b or {})["id"]]
        assert row["diff_type"] == ("added" if a is None else "removed" if b is None else "modified")
        for prefix, side in (("from", a), ("to", b)):
            assert [bits(row[f"{prefix}_{n}"]) for n in SMALL.names] == [
                bits(side[n]) if side else None for n in SMALL.names
            ]
        names = None if a is None or b is None else [n for n in SMALL.names if bits(a[n]) != bits(b[n])]
        assert row["changed_columns"] == names
    summary = diff.summary()
    days = Counter((row["to_at"] or row["from_at"]).date() for row in rows)
    assert {one.day: one.added + one.removed + one.modified for one in summary.days} == days
    assert dict(summary.columns) == Counter(name for row in rows for name in row["changed_columns"] or ())
    assert summary.moved == sum(a is not None and b is not None and a["at"].date() != b["at"].date() for a, b in wanted)
    feed = duck.sql(diff.feed()).to_arrow_table().to_pylist()
    kinds = Counter(row["change_type"] for row in feed)
    both = sum(a is not None and b is not None for a, b in wanted)
    assert (kinds["update_preimage"], kinds["update_postimage"]) == (both, both)
    assert kinds["insert"] == sum(a is None for a, _ in wanted)
    assert kinds["delete"] == sum(b is None for _, b in wanted)


def test_a_condition_holds_before_or_after(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    row = {"at": FIRST, "who": "ann", "value": 1.0, ODD: None}
    before = [row | {"id": "a"}, row | {"id": "b"}, row | {"id": "c", "who": "bob"}]
    after = [row | {"id": "a", "who": "bob"}, row | {"id": "b", "value": 2.0}, row | {"id": "c", "who": "cy"}]
    diff = Diff(duck, Sides(SMALL, write(tmp_path / "a", before), write(tmp_path / "b", after)))
    diff.keep("who = 'bob' -- or so")
    assert [key for (key,) in duck.execute("SELECT after.id FROM pairs ORDER BY 1").fetchall()] == ["a", "c"]
    for condition in ("nobody = 1", "true); DROP TABLE pairs; --", ""):
        with pytest.raises(ParamsError, match="is no condition"):
            diff.keep(condition)
    assert len(duck.execute("FROM pairs").fetchall()) == 2


def test_a_key_that_stands_twice_is_refused(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    row = {"id": "a", "at": FIRST, "who": None, "value": None, ODD: None}
    sides = Sides(SMALL, write(tmp_path / "a", [row, row]), write(tmp_path / "b", [row]))
    with pytest.raises(DataError, match="id a stands twice"):
        Diff(duck, sides)


def test_a_key_of_several_columns_named_like_anything(duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    names = ("a", "b", "before", "after")
    table = Table(
        name="members",
        description="One row is a member of a team.",
        columns=tuple(Column(name, "int", "Any.", False) for name in names),
        order=("a", "b"),
        key="a",
        time=None,
    )
    sides = []
    for number, rows in enumerate(
        ([(1, 1, 5, 5), (1, 2, 5, 5), (2, 1, 5, 5)], [(1, 1, 5, 5), (1, 2, 5, 6), (3, 1, 5, 5)])
    ):
        path = tmp_path / f"{number}.parquet"
        values = [dict(zip(names, row, strict=True)) for row in rows]
        pq.write_table(pa.Table.from_pylist(values, table.arrow_schema("export")), path)
        sides.append({WHOLE: path})
    diff = Diff(duck, Sides(table, *sides))
    found = duck.sql(diff.rows()).to_arrow_table().to_pylist()
    told = [(row["diff_type"], row["changed_columns"], row["from_a"], row["to_after"]) for row in found]
    assert told == [("modified", ["after"], 1, 6), ("removed", None, 2, None), ("added", None, None, 5)]
    assert len(duck.sql(diff.feed()).fetchall()) == 4
    diff.keep('"after" = 6')
    assert [row["to_b"] for row in duck.sql(diff.rows()).to_arrow_table().to_pylist()] == [2]


def test_a_key_may_be_null(duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    table = Table(
        name="loose",
        description="One row is anything.",
        columns=(Column("a", "text", "Any."), Column("b", "int", "Any.")),
        order=("a", "b"),
        key="a",
        time=None,
    )
    sides = []
    for number, rows in enumerate(([(None, 1), (None, None), ("x", None)], [(None, 1), ("x", None), ("y", 2)])):
        path = tmp_path / f"{number}.parquet"
        values = [dict(zip(("a", "b"), row, strict=True)) for row in rows]
        pq.write_table(pa.Table.from_pylist(values, table.arrow_schema("export")), path)
        sides.append({WHOLE: path})
    found = duck.sql(Diff(duck, Sides(table, *sides)).rows()).to_arrow_table().to_pylist()
    kinds = [(row["diff_type"], row["from_a"], row["from_b"], row["to_a"], row["to_b"]) for row in found]
    assert sorted(kinds) == [("added", None, None, "y", 2), ("removed", None, None, None, None)]


def test_columns_that_came_and_went(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    row = {"id": "a", "at": FIRST, "who": "ann", "value": 1.0, ODD: "{}"}
    before = write(tmp_path / "a", [row, row | {"id": "b", "value": None}], ("id", "at", "value"))
    after = write(tmp_path / "b", [row, row | {"id": "b", "who": None}], ("id", "at", "who"))
    diff = Diff(duck, Sides(SMALL, before, after))
    summary = diff.summary()
    assert (summary.came, summary.went) == (["who"], ["value"])
    # A value that was NULL, or is, is no other one where there is no column.
    assert dict(summary.columns) == {"value": 1, "who": 1}
    assert summary.days[0].modified == 1


def test_pseudonyms_of_other_keys_are_no_change(tmp_path: Path) -> None:
    """Refused: no row would be the same. A file without rows tells of no key."""

    def one(name: str, key: str, rows: int = 1) -> dict[date, Path]:
        file = tmp_path / name
        made = pa.table({"id": ["a"] * rows}).replace_schema_metadata({manifest.PSEUDONYMS: key} if key else None)
        pq.write_table(made, file)
        return {FIRST.date(): file}

    check_keys(Sides(SMALL, one("a", "k1"), one("b", "k1")))
    check_keys(Sides(SMALL, one("a", "k1"), one("b", "k2", rows=0)))
    check_keys(Sides(SMALL, one("a", "k1"), {}))
    for key in ("k2", ""):
        with pytest.raises(DataError, match="not made with the same key"):
            check_keys(Sides(SMALL, one("a", "k1"), one("b", key)))


@pytest.mark.xdist_group("remote")
def test_between_commits_and_the_workspace(
    own: Clone, db: Database, s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs, whatever names it; another clone fetches those files only, into DVC's cache."""
    with_remote(own, s3, bucket)
    first = own.run("git", "rev-parse", "HEAD").stdout.strip()
    said = own.run("python", "-m", "commands.diff", "HEAD").stdout
    same = [f"diff: {name}, HEAD ({first[:7]}) to workspace: the same files, so the same rows" for name in NAMES]
    assert said.splitlines() == same
    (kept, moved, *_) = (row[0] for row in db.run("SELECT id FROM behavioral_events ORDER BY timestamp DESC LIMIT 2"))
    db.run('UPDATE behavioral_events SET "sessionPerformanceScore" = 7 WHERE id = %s', [kept])
    db.run("UPDATE behavioral_events SET timestamp = timestamp - interval '1 day' WHERE id = %s", [moved])
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    second = night(own, UNTIL + timedelta(days=1), "second night")
    own.run("dvc", "push", "--all-commits")
    s3.forget_requests()
    other = copy_of(own, "who compares")
    file = tmp_path / "rows.json"
    command = ("python", "-m", "commands.diff", first[:10], second, "--output", str(file))
    said = other.run(*command).stdout
    rows = {row["to_id"] or row["from_id"]: row for row in json.loads(file.read_text())}
    assert rows[kept]["changed_columns"] == ["sessionPerformanceScore"]
    assert rows[moved]["changed_columns"] == ["timestamp"]
    assert "1 row moved to another day" in said
    removed = {row["from_timestamp"][:10] for row in rows.values() if row["diff_type"] == "removed"}
    assert removed == {str(UNTIL - timedelta(days=5))}  # the day that left the window
    fetched = {path for path in s3.requests("GET") if "/files/md5/" in path}
    differ = int(said.partition(" file")[0].rpartition(" ")[2])
    # A list a side, and files: of the days that differ, one on each side, but for those that came or went.
    assert len(fetched) <= 2 + 2 * differ
    assert not (other.path / "data/export").exists()
    s3.forget_requests()
    assert other.run(*command).stdout == said
    assert not [path for path in s3.requests("GET") if "/files/md5/" in path]
    of_user = other.run("python", "-m", "commands.diff", first, second, "--user", "c" * 25).stdout
    assert "no row of behavioral_events that was asked for" in of_user
    only = other.run("python", "-m", "commands.diff", first, second, "--where", "sessionPerformanceScore = 7").stdout
    assert "0 added, 0 removed, 1 modified" in only
    owned = other.run("python", "-m", "commands.diff", first, second, "--output", "data/rows.csv", ok=False)
    assert "which the pipeline owns" in owned.stderr
    monkeypatch.chdir(other.path)
    for given, said in (
        (("no-such-branch",), "no-such-branch is no commit"),
        (("HEAD~1000",), "is no commit"),
        (("HEAD",), "there is no snapshot in data/export"),
        ((first, second, "--where", "nobody = 1"), "is no condition"),
    ):
        monkeypatch.setattr(sys, "argv", ["diff", *given])
        with pytest.raises(PipelineError, match=said):
            main()
