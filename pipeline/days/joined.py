"""Some days of a table from PostgreSQL to files, by a worker in another process, in the snapshot that all share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from psycopg2.extensions import parse_dsn

from pipeline import source
from pipeline.core.errors import SourceError
from pipeline.core.params import Source
from pipeline.days.copy import Copied, CopyTask, copy_days
from pipeline.engine.executor import Workers
from pipeline.postgres.joined import end_joined, joined
from pipeline.postgres.session import SharedSnapshot
from pipeline.postgres.target import Target
from schemas.table import Table


class JoinedTask(NamedTuple):
    """What is copied over one connection. It holds no password: the worker looks up DATABASE_URL itself."""

    snapshot: str
    number: int
    settings: Source
    tables: tuple[Table, ...]
    sample: Target | None  # in place of DATABASE_URL
    copies: tuple[CopyTask, ...]


def copies(
    run: Workers, snapshot: SharedSnapshot, target: Target, tasks: Sequence[CopyTask], at_once: int
) -> Iterator[tuple[CopyTask, Mapping[date, Copied]]]:
    """Each of `tasks` with what copy_days returns for it, over at most `at_once` connections.

    Raises what copy_days raises, and SourceError.
    """
    if not run.apart:
        yield from snapshot.map(copy_days, tasks)
        return
    tables = tuple(relation.table for relation in target.relations)
    sample = target if target.is_sample else None
    parts = run.parts(tasks, lambda copy: copy.rows)
    joined_tasks = [JoinedTask(snapshot.name, n, target.settings, tables, sample, part) for n, part in enumerate(parts)]
    try:
        for task, found in run.each(copy_joined, joined_tasks, lambda task: sum(c.rows for c in task.copies), at_once):
            yield from zip(task.copies, found, strict=True)
    finally:
        end_joined(target, snapshot.name)


def copy_joined(task: JoinedTask) -> list[dict[date, Copied]]:
    """What copy_days returns for each of the copies. Raises what it raises, and SourceError."""
    with _target(task) as target, joined(target, task.snapshot, task.number) as connection:
        return [copy_days(connection, copy) for copy in task.copies]


@contextmanager
def _target(task: JoinedTask) -> Iterator[Target]:
    if task.sample is None:
        with source.connect(task.settings, task.tables) as target:
            yield target
        return
    if not Path(parse_dsn(task.sample.dsn)["host"]).exists():
        raise SourceError(
            "the embedded sample runs on another machine than this worker",
            where=str(Path.cwd()),
            expected="DATABASE_URL, or workers on one machine",
            next_step="set DATABASE_URL where the workers run, or unset PIPELINE_ENGINE",
        )
    yield task.sample
