"""Which files hold a user: in DVC's cache, in remotes, in the workspace; and which can't be told."""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.paths import Paths
from pipeline.core.progress import Progress
from pipeline.files import pseudonyms
from pipeline.files.sql import literal, parquet, quoted
from pipeline.versions import store
from schemas.tables import TABLES


def workspace(paths: Paths) -> tuple[Path, ...]:
    """Folders that may hold rows or ids: outputs and reports, and DVC's copies for experiments."""
    return paths.data, paths.experiments


def is_scratch(paths: Paths, file: Path) -> bool:
    """Whether a file of the workspace is of no version: the last findings, or what dvc exp show remembers."""
    return file == paths.failures or paths.experiments / "cache" in file.parents


@dataclass(frozen=True)
class Holder:
    """A file that holds the user: in which places, and how many rows in it."""

    rows: int
    places: Mapping[str, str]  # name of the place: the file there


def spellings(user: str) -> list[str]:
    """The id of the user and, where the key is known, the pseudonyms in exports."""
    if os.environ.get(pseudonyms.KEY):
        key = pseudonyms.key()
        kinds = {c.pseudonym for table in TABLES for c in table.columns if c.name == table.user and c.pseudonym}
        return [user, *(pseudonyms.pseudonym(key, kind, user) for kind in sorted(kinds))]
    print(f"erase: notice: {pseudonyms.KEY} is not set; in exports with pseudonyms the user is not looked for")
    return [user]


def holds(duck: duckdb.DuckDBPyConnection, file: Path, names: Sequence[str]) -> int | None:
    """How many rows of a Parquet or DuckDB file hold a name in a text.

    0 when only bytes outside of rows do, None when nothing does.
    """
    if not file.stat().st_size:
        return None
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        is_parquet, is_database = content[:4] == b"PAR1", content[8:12] == b"DUCK"
        plain = any(content.find(name.encode()) >= 0 for name in names)
    rows = 0
    if is_parquet:
        rows = _rows(duck, parquet([file]), names)
    elif is_database:
        duck.execute(f"ATTACH {literal(str(file))} AS held (READ_ONLY)")
        try:
            tables = duck.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'held'")
            relations = [f"held.{quoted(schema)}.{quoted(name)}" for schema, name in tables.fetchall()]
            rows = sum(_rows(duck, relation, names) for relation in relations)
        finally:  # or a damaged one would stand in the way of the next
            duck.execute("DETACH held")
    return rows if rows or plain else None


def _rows(duck: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str]) -> int:
    described = duck.execute(f"DESCRIBE FROM {relation}").fetchall()
    texts = [quoted(name) for name, kind, *_ in described if kind in ("VARCHAR", "JSON")]
    where = " OR ".join(f"contains({text}::VARCHAR, ${n + 1})" for text in texts for n in range(len(names)))
    found = duck.execute(f"SELECT count(*) FROM {relation} WHERE {where}", names).fetchone() if where else None
    return found[0] if found else 0


def duck() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": "192MB"})


def under_other_key(file: Path) -> bool:
    """Whether a Parquet file has rows with pseudonyms that the key at hand does not make."""
    with open(file, "rb") as opened:
        if opened.read(4) != b"PAR1":
            return False
    metadata = pq.read_metadata(file)
    made = (metadata.metadata or {}).get(pseudonyms.FACT.encode(), b"none").decode()
    known = {"none", pseudonyms.fingerprint(pseudonyms.key()) if os.environ.get(pseudonyms.KEY) else "none"}
    return metadata.num_rows > 0 and made not in known


@dataclass(frozen=True)
class Search:
    """What a search of all places found: the files that hold the user, by their keys, and what it can't tell."""

    found: Mapping[str, Holder]
    searched: Mapping[str, int]  # files by place
    other_key: int  # files with pseudonyms of other keys, among which the user can't be found
    damaged: Sequence[str]  # files that can't be read


def search(places: list[store.Place], names: Sequence[str]) -> Search:
    """Search every file of the places; one that several hold is read once, from the cache if it is there."""
    where: dict[str, dict[str, str]] = defaultdict(dict)
    searched = {}
    for place in places:
        files = place.files()
        searched[place.name] = len(files)
        for file in files:
            where[file.removeprefix(place.root)][place.name] = file
    found, hidden = {}, 0
    damaged: list[str] = []
    by_name = {place.name: place for place in places}
    with duck() as connection, Progress("erase", "files", len(where)) as progress:
        for key, holders in sorted(where.items()):
            for name, file in holders.items():
                with suppress(duckdb.Error, pa.ArrowException), by_name[name].opened(file) as opened:
                    rows = holds(connection, opened, names)
                    hidden += under_other_key(opened)
                    if rows is not None:
                        found[key] = Holder(rows, holders)
                    break
            else:  # where another place has it whole, a damaged one is known by that
                damaged += holders.values()
            progress.add(1)
    return Search(found, searched, hidden, damaged)


def in_workspace(paths: Paths, names: Sequence[str]) -> list[Path]:
    """Files of the workspace that hold the user."""
    files = [file for folder in workspace(paths) for file in sorted(folder.rglob("*")) if file.is_file()]
    with duck() as connection:
        return [file for file in files if holds(connection, file, names) is not None]
