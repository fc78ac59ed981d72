"""Which rows were added, removed or modified between two snapshots, and in which columns.

REV1 and REV2 are commits, branches or tags; REV2 is the workspace by default. Only files that differ are read, and
fetched where they are not in DVC's cache. A row is the same one where its key is.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow.parquet as pq

from pipeline.core.days import WHOLE
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.files import manifest
from pipeline.files.layout import day_path
from pipeline.files.sql import literal, with_memory
from pipeline.versions import snapshots, store
from pipeline.versions.diff import MEMORY_LIMIT, Diff, Sides, Summary
from pipeline.versions.snapshots import WORKSPACE, Snapshot
from schemas.table import Table
from schemas.tables import TABLES

FORMATS = {".parquet": "FORMAT parquet", ".csv": "FORMAT csv, HEADER true", ".json": "FORMAT json, ARRAY true"}


class Asked(NamedTuple):
    table: Table
    user: str | None
    where: str | None
    output: Path | None
    feed: bool


def both_sides(paths: Paths, table: Table, revisions: tuple[str, str]) -> tuple[Sides, tuple[Snapshot, Snapshot], bool]:
    """The files of the days that differ, or of one day where all are the same; and whether they are.

    Raises DataError or ParamsError where there are none to be had.
    """
    with store.project() as repo:
        before, after = (snapshots.of(repo, paths, revision) for revision in revisions)
        for snapshot in (before, after):
            if table.name not in snapshot.files:
                raise ParamsError(
                    f"{snapshot.title} has no table {table.name}",
                    where="--table",
                    expected=f"one of {', '.join(snapshot.files) or 'none'}",
                    next_step="two snapshots that have it",
                )
        old, new = before.files[table.name], after.files[table.name]
        days = [day for day in old.keys() | new.keys() if old.get(day) != new.get(day)]
        same = not days
        days = days or [max(new)]  # for its columns
        found = []
        for snapshot, files in ((before, old), (after, new)):
            wanted = {day: files[day] for day in sorted(days) if day in files}
            if snapshot.commit:
                objects = snapshots.bring(repo, snapshot.name, list(wanted.values()))
                found.append({day: objects[own] for day, own in wanted.items()})
            else:
                found.append({day: day_path(paths.export / table.name, day) for day in wanted})
    return Sides(table, *found), (before, after), same


def check_keys(sides: Sides) -> None:
    """Raise DataError where the pseudonyms of both sides were made with different keys: no row would be the same."""
    made = []
    for files in (sides.before, sides.after):
        known = (pq.read_metadata(path) for path in files.values())
        marks = {(one.metadata or {}).get(manifest.PSEUDONYMS.encode(), b"none") for one in known if one.num_rows}
        made.append(marks)
    if made[0] and made[1] and made[0] != made[1]:
        raise DataError(
            "the pseudonyms of the two snapshots were not made with the same key",
            where=sides.table.name,
            expected="both without pseudonyms, or both with those of one PSEUDONYM_KEY",
            next_step="two such snapshots",
        )


def compare(connection: duckdb.DuckDBPyConnection, sides: Sides, asked: Asked) -> Summary:
    diff = Diff(connection, sides)
    if asked.user is not None:
        if asked.table.user is None:
            raise ParamsError(
                f"{asked.table.name} has no column that names a user",
                where="--user",
                expected="a table that has one",
                next_step="the same command without --user",
            )
        diff.keep(f"{asked.table.column(asked.table.user).quoted} = {literal(asked.user)}")
    if asked.where is not None:
        diff.keep(asked.where)
    if asked.output is not None:
        write(connection, diff, asked.output, asked.feed)
    return diff.summary()


def write(connection: duckdb.DuckDBPyConnection, diff: Diff, output: Path, feed: bool) -> None:
    rows = diff.feed() if feed else diff.rows()
    try:
        connection.execute(f"COPY ({rows}) TO {literal(str(output))} ({FORMATS[output.suffix]})")
    except duckdb.IOException as error:
        raise ParamsError(
            f"{output} can't be written: {str(error).splitlines()[0]}",
            where=str(output.absolute()),
            expected="--output FILE where there is, or can be, a file",
            next_step="the same command with another --output",
        ) from None


def named(day: date) -> str:
    return str(WHOLE if day == WHOLE else day)


def told(summary: Summary, table: Table) -> list[str]:
    width = max([len("column"), *(len(name) for name, _ in summary.columns)])
    lines = ["", f"  {'day':<10}  {'added':>9}  {'removed':>9}  {'modified':>9}"]
    lines += [f"  {named(d.day):<10}  {d.added:>9,}  {d.removed:>9,}  {d.modified:>9,}" for d in summary.days]
    lines += ["", f"  {'column':<{width}}  {'modified':>9}"] if summary.columns else []
    lines += [f"  {name:<{width}}  {rows:>9,}" for name, rows in summary.columns]
    lines += ["", f"  {count(summary.moved, 'row')} moved to another day"] if summary.moved else []
    for word, names in (("only after", summary.came), ("only before", summary.went)):
        lines += ["", f"  columns {word}: {', '.join(names)}"] if names else []
    return lines if summary.days else [f"  no row of {table.name} that was asked for"]


def diff(paths: Paths, revisions: tuple[str, str], asked: Asked) -> None:
    sides, (before, after), same = both_sides(paths, asked.table, revisions)
    check_keys(sides)
    summary = with_memory(MEMORY_LIMIT, lambda connection: compare(connection, sides, asked))
    title = f"diff: {asked.table.name}, {before.title} to {after.title}: "
    if same:
        print(f"{title}the same files, so the same rows")
    else:
        totals = (sum(getattr(d, kind) for d in summary.days) for kind in ("added", "removed", "modified"))
        said = ", ".join(
            f"{number:,} {kind}" for number, kind in zip(totals, ("added", "removed", "modified"), strict=True)
        )
        print(f"{title}{said}; {count(len(sides.days), 'file')} differ")
        for line in told(summary, asked.table):
            print(line)
    if asked.output is not None:
        print(f"\nin {asked.output}")


def table_of(name: str) -> Table:
    found = {table.name: table for table in TABLES}
    if name not in found:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(found)}")
    return found[name]


def output_of(text: str) -> Path:
    path = Path(text)
    if path.suffix not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} ends with none of {', '.join(FORMATS)}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.diff", description=__doc__)
    parser.add_argument("before", metavar="REV1", help="a commit, branch or tag")
    parser.add_argument("after", metavar="REV2", nargs="?", default=WORKSPACE, help=f"another; {WORKSPACE} by default")
    parser.add_argument("--table", type=table_of, default=TABLES[0], help=f"{TABLES[0].name} by default")
    parser.add_argument("--user", help="only rows of this user, as the export names them")
    parser.add_argument("--where", metavar="SQL", help="only rows for which this holds, before or after")
    parser.add_argument("--output", type=output_of, metavar="FILE", help="the rows, as .parquet, .csv or .json")
    parser.add_argument("--feed", action="store_true", help="the rows as a feed of changes, each as it was or is")
    args = parser.parse_args()
    if args.feed and args.output is None:
        parser.error("--feed says how --output is written; give both")
    if args.output is not None and Paths().data.absolute() in args.output.absolute().parents:
        parser.error(f"{args.output} lies in data/, which the pipeline owns; choose another --output")
    asked = Asked(args.table, args.user, args.where, args.output, args.feed)
    diff(project(), (args.before, args.after), asked)


if __name__ == "__main__":
    run("diff", main)
