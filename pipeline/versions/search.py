"""Which files hold a user: in DVC's cache, in remotes, in the workspace; and which can't be told."""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.paths import Paths
from pipeline.core.progress import Progress
from pipeline.files import manifest, pseudonyms
from pipeline.files.layout import md5 as file_md5
from pipeline.files.sql import literal, parquet, quoted, with_memory
from pipeline.versions.place import Place
from schemas.tables import TABLES


def workspace(paths: Paths) -> tuple[Path, ...]:
    """Folders that may hold rows or ids: outputs and reports, and DVC's copies for experiments."""
    return paths.data, paths.experiments


def is_scratch(paths: Paths, file: Path) -> bool:
    """Whether a file of the workspace is of no version: findings, a killed stage's, or what dvc exp show remembers."""
    staged = paths.data in file.parents and file.relative_to(paths.data).parts[0].startswith(".")
    return file == paths.failures or staged or paths.experiments / "cache" in file.parents


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


def kind_of(file: Path) -> str | None:
    """parquet or duckdb, which hold rows; None for any other file."""
    with open(file, "rb") as opened:
        begin = opened.read(12)
    return "parquet" if begin[:4] == b"PAR1" else "duckdb" if begin[8:] == b"DUCK" else None


def in_bytes(file: Path, names: Sequence[str]) -> bool:
    """Whether a name stands in a file as it is."""
    if not file.stat().st_size:
        return False
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(name.encode()) >= 0 for name in names)


def rows_with(duck: duckdb.DuckDBPyConnection, file: Path, names: Sequence[str]) -> int:
    """How many rows of a Parquet or DuckDB file hold a name in a text."""
    if kind_of(file) == "parquet":
        return _rows(duck, parquet([file]), names)
    with attached(duck, file):
        tables = duck.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'held'")
        relations = [f"held.{quoted(schema)}.{quoted(name)}" for schema, name in tables.fetchall()]
        return sum(_rows(duck, relation, names) for relation in relations)


def _rows(duck: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str]) -> int:
    described = duck.execute(f"DESCRIBE FROM {relation}").fetchall()
    texts = [quoted(name) for name, kind, *_ in described if kind in ("VARCHAR", "JSON")]
    where = " OR ".join(f"contains({text}::VARCHAR, ${n + 1})" for text in texts for n in range(len(names)))
    found = duck.execute(f"SELECT count(*) FROM {relation} WHERE {where}", names).fetchone() if where else None
    return found[0] if found else 0


def look(file: Path, names: Sequence[str]) -> tuple[int | None, bool]:
    """How many rows of a file hold a name, and what `under_other_key` says of it.

    0 when only bytes outside of rows do, None when nothing does.
    """
    rows, other = 0, False
    if kind_of(file):  # of the others, which are most, DuckDB need not be started
        rows, other = with_memory("192MB", lambda duck: (rows_with(duck, file, names), under_other_key(duck, file)))
    return (rows if rows or in_bytes(file, names) else None), other


def is_whole(key: str, file: Path) -> bool:
    """Whether the bytes of an object are those that it is named by."""
    parts = key.split("/")[-3:]
    return parts[0] != "md5" or file_md5(file) == "".join(parts[1:]).removesuffix(".dir")


def under_other_key(duck: duckdb.DuckDBPyConnection, file: Path) -> bool:
    """Whether a Parquet or DuckDB file has rows with pseudonyms that the key at hand does not make. Of a database that
    does not say which key made its tables, nothing else can be said."""
    known = {"none", pseudonyms.fingerprint(pseudonyms.key()) if os.environ.get(pseudonyms.KEY) else "none"}
    if kind_of(file) == "parquet":
        metadata = pq.read_metadata(file)
        made = (metadata.metadata or {}).get(manifest.PSEUDONYMS.encode(), b"none").decode()
        return metadata.num_rows > 0 and made not in known
    with attached(duck, file):
        tables = duck.execute("SELECT comment FROM duckdb_tables() WHERE database_name = 'held'").fetchall()
    mark = f"{manifest.PSEUDONYMS}: "
    # Tables that are made of the others do not say it again.
    made_by = [comment.removeprefix(mark) for (comment,) in tables if (comment or "").startswith(mark)]
    return bool(tables) and (not made_by or any(one not in known for one in made_by))


@contextmanager
def attached(duck: duckdb.DuckDBPyConnection, file: Path) -> Iterator[None]:
    """The database in `file` as `held`, for the length of the block: a damaged one is not in the way of the next."""
    duck.execute(f"ATTACH {literal(str(file))} AS held (READ_ONLY)")
    try:
        yield
    finally:
        duck.execute("DETACH held")


@dataclass(frozen=True)
class Search:
    """What a search of all places found: the files that hold the user, by their keys, and what it can't tell."""

    found: Mapping[str, Holder]
    searched: Mapping[str, int]  # files by place
    other_key: int  # files with pseudonyms of other keys, among which the user can't be found
    damaged: Sequence[str]  # files that can't be read


def search(places: list[Place], names: Sequence[str]) -> Search:
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
    with Progress("erase", "files", len(where)) as progress:
        for key, holders in sorted(where.items()):
            for name, file in holders.items():
                with suppress(duckdb.Error, pa.ArrowException), by_name[name].opened(file) as opened:
                    rows, other = look(opened, names)
                    if rows is not None:
                        found[key] = Holder(rows, holders)
                    # Without the user only if these are the bytes that all places should have under this name.
                    if is_whole(key, opened):
                        hidden += other
                        break
            else:
                damaged += holders.values()
            progress.add(1)
    return Search(found, searched, hidden, damaged)


def in_workspace(paths: Paths, names: Sequence[str]) -> list[Path]:
    """Files of the workspace that hold the user."""
    files = [file for folder in workspace(paths) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [file for file in files if look(file, names)[0] is not None]
