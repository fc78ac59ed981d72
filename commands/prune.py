"""Keep some snapshots, and with --yes delete the files of all others from DVC's cache and every remote.

Kept are the newest snapshot of each of the latest days and months, of every branch, and what somebody uses: the tips
of branches, here and where they are pushed, the workspace, stashes, experiments. Deletes only files that snapshots of
this history name and no kept one does, and proves in the end that all of the kept ones are where they were.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from pipeline.core.errors import DataError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count, printable
from pipeline.versions import prune as files
from pipeline.versions import refs, retention, store
from pipeline.versions.known import Held, history
from pipeline.versions.place import Place
from pipeline.versions.prune import Plan
from pipeline.versions.retention import Kept, Rules


class Options(NamedTuple):
    """What the command line asks for; `command` is that line without --yes."""

    rules: Rules
    yes: bool
    local_only: bool
    command: str


def prune(paths: Paths, options: Options) -> None:
    with store.project(alone=options.yes) as repo:
        places = store.places(repo, options.local_only, options.command)
        refs.check_whole()
        versions = history()
        held: Held = [(place, place.objects()) for place in places]
        for place, objects in held[1:]:
            if not objects:
                raise store.nothing_there(place, options.command)
        found = files.listed(versions, held)
        readable = files.readable(versions, held, found)

        def now() -> Kept:
            return retention.read(paths, options.rules, readable, not options.local_only)

        kept = now()
        plan = files.plan(kept, held, found)
        sizes = [bytes_of(place, objects) for place, objects in held]
        for line in (*table(kept, plan, sizes), *totals(plan, held, sizes)):
            print(f"prune: {line}")
        if not any(objects.keys() & plan.doomed for _, objects in held):
            print("prune: nothing to delete")
            return
        if not options.yes:
            print(f"prune: dry run, nothing was deleted; next: {options.command} --yes")
            return
        if now() != kept:
            raise changed("before anything was deleted", options.command)
        print("prune: deleting these files; their snapshots can't be read any more")
        files.delete(held, plan.doomed)
        prove(options, now, (kept, plan, held))


def bytes_of(place: Place, objects: Mapping[str, str]) -> dict[str, int]:
    """Of each object; 0 where it has gone since."""
    sizes = place.sizes()
    return {md5: sizes.get(file, 0) for md5, file in objects.items()}


def table(kept: Kept, plan: Plan, sizes: list[dict[str, int]]) -> Iterator[str]:
    """A line for each snapshot, newest first, that is kept or has files in these places."""
    there = {md5: size for some in sizes for md5, size in some.items()}
    gone = named = 0
    for commit, version in kept.versions.items():
        blob = version.blob
        if kept.commits[blob] != commit:
            continue
        begin = f"{version.day}  {commit[:7]}"
        tags = [f"tag {name}" for name in kept.tags.get(blob, ())]
        goes = plan.of[blob] & plan.doomed & there.keys()
        if reasons := kept.why.get(blob):
            nowhere = ["its lists of files are in none of these places"] if blob in plan.unlisted else []
            yield printable(f"{begin}  kept   {', '.join(dict.fromkeys([*reasons, *tags, *nowhere]))}")
        elif goes:
            named += bool(tags)
            size = mb(sum(there[md5] for md5 in goes))
            yield printable(f"{begin}  goes   {', '.join([count(len(goes), 'file'), size, *tags])}")
        elif blob not in plan.unlisted and plan.of[blob] & there.keys():
            yield printable(f"{begin}  stays  {', '.join(['kept snapshots have all its files', *tags])}")
        else:
            gone += 1
    if gone:
        yield f"and {count(gone, 'snapshot')} whose files, or the lists of them, are in none of these places"
    if named:
        yield f"notice: {count(named, 'snapshot')} with a tag among these that go; --keep-tags keeps them"


def totals(plan: Plan, held: Held, sizes: list[dict[str, int]]) -> Iterator[str]:
    for (place, objects), size in zip(held, sizes, strict=True):
        going = objects.keys() & plan.doomed
        of = f"of {count(len(objects), 'file')}, {mb(sum(size[md5] for md5 in going))} of {mb(sum(size.values()))}"
        unknown = plan.unknown(objects)
        said = f"; {count(unknown, 'file')} of no version that Git knows, not touched" if unknown else ""
        yield f"{place.name}: {len(going):,} {of} to delete{said}"


def mb(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def prove(options: Options, now: Callable[[], Kept], done: tuple[Kept, Plan, Held]) -> None:
    """Look again, at Git and at every place. Raises DataError where a file is not there that has to be."""
    kept, plan, before = done
    after: Held = [(place, place.objects()) for place, _ in before]
    if gone := files.lost(plan, before, after):
        raise DataError(
            f"{count(len(gone), 'file')} of kept snapshots are no longer where they were",
            where=", ".join(gone[:3]),
            expected="nothing else deleted meanwhile, by another machine for example",
            next_step="dvc push --all-commits, where the data is; then python -m commands.check",
        )
    if left := files.left(plan, after):
        raise DataError(
            f"{count(left, 'file')} that were deleted are there again",
            where=", ".join(place.name for place, _ in after),
            expected="no push by another machine meanwhile",
            next_step=f"git fetch, then {options.command} --yes",
        )
    again = now()
    if files.plan(again, after, files.listed(again.versions, after)).keep & plan.doomed:
        raise changed("while files were deleted, and names some of them", "dvc push --all-commits, where it was made")
    snapshots = len({version.blob for version in kept.versions.values()} & kept.why.keys())
    here = ", ".join(f"{len(old.keys() & plan.keep):,} in the {place.name}" for place, old in before)
    print(f"prune: proof: all files of {count(snapshots, 'kept snapshot')} are where they were: {here}")


def changed(when: str, next_step: str) -> DataError:
    return DataError(
        f"what is kept has changed {when}",
        where="Git: a commit, a branch, or the workspace",
        expected="no commit, fetch or push meanwhile",
        next_step=next_step,
    )


def command(args: argparse.Namespace) -> str:
    """The command line, as it can be typed again."""
    given: Mapping[str, object] = vars(args)
    words = ["python", "-m", "commands.prune"]
    for name in ("keep_daily", "keep_monthly"):
        words += [f"--{name.replace('_', '-')}", str(given[name])] if given[name] else []
    words += [f"--{name.replace('_', '-')}" for name in ("keep_tags", "local_only") if given[name]]
    return shlex.join(words)


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.prune", description=__doc__)
    of = "of each of the N latest {} (UTC) that have a snapshot, the newest"
    parser.add_argument("--keep-daily", type=_number, default=0, metavar="N", help=of.format("days"))
    parser.add_argument("--keep-monthly", type=_number, default=0, metavar="N", help=of.format("months"))
    parser.add_argument("--keep-tags", action="store_true", help="every snapshot that has a tag")
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is changed")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go, which is the default")
    parser.add_argument("--local-only", action="store_true", help="only the cache of this machine; asks no remote")
    args = parser.parse_args()
    if args.yes and args.dry_run:
        parser.error("--yes and --dry-run contradict each other")
    if not (args.keep_daily or args.keep_monthly or args.keep_tags):
        parser.error("say what is kept: --keep-daily N, --keep-monthly N, --keep-tags")
    rules = Rules(args.keep_daily, args.keep_monthly, args.keep_tags)
    prune(project(), Options(rules, args.yes, args.local_only, command(args)))


if __name__ == "__main__":
    run("prune", main)
