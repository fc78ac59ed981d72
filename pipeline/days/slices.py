"""A file with a large part of all rows is copied in slices of time, by all connections, and then put together.

A slice is a number of rows in their order at whose end DayWriter ends a row group in any case. So the file is the same,
byte for byte, as if one COPY had brought it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pipeline.core.digest import Pin
from pipeline.core.progress import Progress
from pipeline.days import joined as over_connections
from pipeline.days.copy import Copied, CopyTask, check_arrived
from pipeline.engine.executor import Workers
from pipeline.engine.packs import PER_SLOT
from pipeline.files import writer
from pipeline.files.manifest import File
from pipeline.files.slices import Pieces, put_together, slice_path
from pipeline.postgres.catalog import by_day
from pipeline.postgres.session import SharedSnapshot
from pipeline.postgres.statements import minutes
from pipeline.postgres.target import Slice, Target

# Share of a slice's rows that may be read and left out, since they share its first minute and stand in the one before.
SKIPPED = 0.5

MINUTE = timedelta(minutes=1)


class Sliced(NamedTuple):
    """A file, and the tasks that copy its slices, in order."""

    task: CopyTask
    slices: tuple[CopyTask, ...]


def copies(
    run: Workers, snapshot: SharedSnapshot, target: Target, tasks: Sequence[CopyTask], at_once: int
) -> Iterator[tuple[CopyTask, Mapping[date, Copied]]]:
    """What `pipeline.days.joined.copies` gives, with large files divided among the connections."""
    # Smaller files keep all connections busy as they are, and to look for slices takes a twentieth of their time.
    least = max(writer.SLICE_ROWS, sum(task.rows for task in tasks) // (PER_SLOT * at_once))
    each = [Sliced(task, _slices(snapshot, task) if at_once > 1 and task.rows > least else (task,)) for task in tasks]
    found: dict[Path, Copied] = {}
    parts = [part for one in each for part in one.slices]
    for part, copied in over_connections.copies(run, snapshot, target, parts, at_once):
        if part.relation.slice is None:
            yield part, copied
            continue
        (found[_path(part)],) = copied.values()
        if part.relation.slice.rows is not None:
            check_arrived(part.days[0], part.relation.slice.rows, found[_path(part)].file.rows)
    large = {_path(one.task): one for one in each if len(one.slices) > 1}
    if large:
        with Progress("extract", "files", len(large)):
            pieces = [Pieces(tuple(map(_path, one.slices)), path) for path, one in large.items()]
            for joined, (rows, sha256) in run.each(put_together, pieces, lambda _: 1):
                for path in joined.slices:
                    path.unlink()
                task = large[joined.path].task
                (wanted,) = task.wanted
                pin = Pin(rows, wanted.pin.digest)
                yield task, {wanted.day: Copied(File(rows, sha256, wanted.made_from, pin.digest), pin)}


def _slices(snapshot: SharedSnapshot, task: CopyTask) -> tuple[CopyTask, ...]:
    """Tasks that copy the rows of `task` one after the other, or the task itself where time does not divide them.

    So it is where rows stand in another order, where each slice would read the whole table, and where nearly all rows
    are of one minute. With `users` there is more to ask of all rows than to copy.
    """
    table, every = task.relation.table, writer.SLICE_ROWS
    if len(task.wanted) > 1 or task.users or table.order[0] != table.time or not snapshot.run(by_day, task.relation):
        return (task,)
    cuts = [Cut(0, None, 0)]
    for begin, before in snapshot.run(minutes, task.relation, task.days, every):
        place = max(-(-before // every), 1) * every
        if place - before <= every * SKIPPED:
            cuts.append(Cut(place, begin, place - before))
    return tuple(_divided(task, cuts)) if len(cuts) > 1 else (task,)


class Cut(NamedTuple):
    """Where a slice begins: behind so many rows of the file, of which `skip` are of its own first minute."""

    place: int
    minute: datetime | None
    skip: int


def _divided(task: CopyTask, cuts: Sequence[Cut]) -> Iterator[CopyTask]:
    (wanted,) = task.wanted
    for number, (cut, following) in enumerate(zip(cuts, [*cuts[1:], None], strict=True)):
        rows = following.place - cut.place if following else None
        end = following.minute + MINUTE if following and following.minute else None
        expected = max(wanted.pin.rows - cut.place, 0) if rows is None else rows
        yield task._replace(
            relation=task.relation._replace(slice=Slice(cut.minute, end, cut.skip, rows)),
            wanted=(wanted._replace(pin=Pin(expected, wanted.pin.digest), path=slice_path(wanted.path, number)),),
        )


def _path(task: CopyTask) -> Path:
    return task.wanted[0].path
