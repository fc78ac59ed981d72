"""Make one archive of a snapshot that somebody without this project, Git or DVC can verify, open and cite.

Of a commit, without checking it out: files that are not in DVC's cache are fetched. The archive is the same bytes
wherever it is made of the same commit by the same code. Refuses a snapshot that failed its quality checks, and a
workspace that is not as it is committed. --pseudonyms replaces the ids of users and check-ins by those that an export
with pseudonyms and the same PSEUDONYM_KEY would have.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from dvc.repo import Repo

from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count
from pipeline.days.export import with_pseudonyms
from pipeline.files import manifest, pseudonyms
from pipeline.files.layout import PART, day_path, replacing, sha256
from pipeline.files.manifest import File
from pipeline.handover import archive
from pipeline.handover.cff import cff
from pipeline.handover.columns import as_in
from pipeline.handover.described import Described, Part, Version, described
from pipeline.handover.dictionary import dictionary
from pipeline.handover.looked import look
from pipeline.handover.metadata import SUMS, metadata, sums
from pipeline.handover.readme import readme
from pipeline.handover.views_sql import views_sql
from pipeline.versions import citation, snapshots, store
from pipeline.versions.citation import Citation, report_at
from pipeline.versions.git import GitError, content, git
from schemas.table import Table
from schemas.tables import TABLES

DATA = "data"  # the folder of the tables within a bundle

OTHER_FORM = "has reports of another form than this code reads"


class Asked(NamedTuple):
    revision: str
    pseudonyms: bool
    output: Path | None


class Source(NamedTuple):
    """The snapshot of a commit: its reports, and its files, each by its table and day."""

    found: Citation
    extracted: Mapping[str, Any]
    validated: Mapping[str, Any]
    files: Mapping[str, Mapping[date, Path]]
    quality: Mapping[str, bytes]  # the verdict and the page, by the names that they get


def bundle(paths: Paths, asked: Asked) -> None:
    """Make the archive. Raises ParamsError or DataError for what is not to be handed over, or not to be had."""
    if asked.output is not None and asked.output.exists():
        raise ParamsError(
            f"{asked.output} is there already",
            where=str(asked.output.absolute()),
            expected="--output FILE where there is none, so that no archive takes the place of another",
            next_step="the same command with another --output",
        )
    found = citation.of(paths, asked.revision)
    citation.check_named(paths, found, asked.revision)
    with store.project() as repo, tempfile.TemporaryDirectory(prefix="behavioral-events-") as scratch:
        source = collect(repo, paths, found)
        tables = [as_in(table, schema_of(source.files[table.name])) for table in tables_of(source)]
        before = has_pseudonyms(source)
        replaced = asked.pseudonyms and not before
        if replaced:
            check_known(source, tables)
        if asked.pseudonyms:
            pseudonyms.check(
                tables, "a snapshot without it (`tables` in params.yaml), or a bundle without --pseudonyms"
            )
        folder = Path(scratch, "bundle")
        parts = [(table, lay(table, source.files[table.name], folder, replaced)) for table in tables]
        version = version_of(found, asked.revision, parts, replaced)
        of = told(source, parts, before or replaced)._replace(version=version)
        beside = describe(of, version, folder, source.quality)
        name = name_of(of, version)
        target = asked.output or paths.bundles / f"{name}.zip"
        files: dict[str, tuple[Path, str] | bytes] = {**beside, SUMS: sums(of, beside)}
        files |= {part.path: (folder / part.path, part.sha256) for part in of.parts}
        with replacing(target) as new:
            archive.write(new, name, version.committed, files)
            own = sha256(new)
    if not of.pseudonyms:
        print("bundle: notice: it holds the ids of users as they are; --pseudonyms (make: PSEUDONYMS=1) replaces them")
    elif of.own_ids:
        print(f"bundle: notice: {', '.join(of.own_ids)} hold the ids of users as they are")
    if found.dataset.licence is None:
        print("bundle: notice: dataset.licence in params.yaml of that commit is null: whoever gets it has to ask")
    print(f"bundle: {target}, {count(of.rows, 'row')} in {count(len(of.parts), 'file')}; SHA-256 {own}")
    print(f"bundle: {version.citation}")


def collect(repo: Repo, paths: Paths, found: Citation) -> Source:
    """What the commit has. Raises DataError where its reports and its files do not belong together."""
    commit = found.commit
    try:
        reports = [paths.extract_report, paths.validation_report, paths.quality_report, paths.checks_report]
        extracted, validated, quality, checks = (report_at(commit, path) for path in reports)
        listed = manifest.parse(quality["files"])
        judged = {entry["files"]: entry["sha256"] for entry in checks["judged"]}
    except (GitError, ValueError, KeyError, TypeError):
        raise unfit(commit, OTHER_FORM) from None
    if judged.get("data/export") != found.sha256:
        raise unfit(commit, f"has a {paths.checks_report} that judged other files")
    snapshot = snapshots.of(repo, paths, commit)
    page = snapshots.listed(repo, paths, commit, paths.report)[paths.page.name]
    wanted = {own for days in snapshot.files.values() for own in days.values()}
    objects = snapshots.bring(repo, commit, [*sorted(wanted), page])
    files = {
        table: {day: objects[own] for day, own in sorted(snapshot.files.get(table, {}).items())} for table in listed
    }
    check_files(commit, listed, files)
    told = {
        f"quality/{paths.checks_report.name}": content(commit, str(paths.checks_report)).encode(),
        f"quality/{paths.page.name}": objects[page].read_bytes(),
    }
    return Source(found, extracted, validated, files, told)


def check_files(
    commit: str, listed: Mapping[str, Mapping[date, File]], files: Mapping[str, Mapping[date, Path]]
) -> None:
    """Raise DataError unless the files are those of the manifest."""
    for table, days in listed.items():
        same = days.keys() == files[table].keys()
        if not same or any(sha256(files[table][day]) != file.sha256 for day, file in days.items()):
            raise unfit(commit, f"has other files of {table} than its quality.json lists")


def unfit(commit: str, why: str) -> DataError:
    return DataError(
        f"commit {commit[:10]} {why}",
        where=commit,
        expected="reports, dvc.lock and files of one finished run",
        next_step="python -m commands.versions --all, and another REV; or make repro, then git commit -a",
    )


def tables_of(source: Source) -> list[Table]:
    known = {table.name: table for table in TABLES}
    if unknown := sorted(source.files.keys() - known.keys()):
        raise unfit(source.found.commit, f"has files of {', '.join(unknown)}, which schemas/tables.py does not know")
    return [known[name] for name in source.files]


def check_known(source: Source, tables: list[Table]) -> None:
    """Raise DataError where columns are not those of today: which of them hold ids can't be told."""
    today = {table.name: table for table in TABLES}
    for table in tables:
        now = {column.name: column.kind for column in today[table.name].columns}
        if others := [column.name for column in table.columns if now.get(column.name) != column.kind]:
            raise unfit(
                source.found.commit, f"has columns that today's contract does not: {table.name}.{', '.join(others)}"
            )


def schema_of(files: Mapping[date, Path]) -> Any:
    return pq.read_schema(next(iter(files.values())))


def has_pseudonyms(source: Source) -> bool:
    """Whether the export itself has some, by what stands in the footers."""
    footers = (pq.read_metadata(path).metadata or {} for days in source.files.values() for path in days.values())
    return any(manifest.PSEUDONYMS.encode() in footer for footer in footers)


def lay(table: Table, files: Mapping[date, Path], folder: Path, replaced: bool) -> list[Part]:
    """Lay the files of a table into the folder as the bundle has them: links, or files with pseudonyms."""
    parts = []
    key = pseudonyms.key("--pseudonyms was asked for", "leave it out") if replaced else None
    for day, source in files.items():
        path = day_path(folder / DATA / table.name, day)
        path.parent.mkdir(parents=True)
        if key is None:
            path.symlink_to(source.absolute())
        else:
            with_pseudonyms(table, source, path, key)
        name = f"{DATA}/{table.name}/{path.parent.name}/{PART}"
        parts.append(Part(day, name, pq.read_metadata(path).num_rows, path.stat().st_size, sha256(path)))
    return parts


def told(source: Source, parts: list[tuple[Table, list[Part]]], has: bool) -> Described:
    """What the reports say of the files; `has`: pseudonyms."""
    try:
        return described(source.found.dataset, parts, source.extracted, source.validated, has)
    except (ValueError, KeyError, TypeError, IndexError):
        raise unfit(source.found.commit, OTHER_FORM) from None


def version_of(found: Citation, revision: str, parts: list[tuple[Table, list[Part]]], replaced: bool) -> Version:
    """The version that is cited: a tag where one was asked for, else the commit."""
    try:
        git("show-ref", "--verify", "--quiet", f"refs/tags/{revision}")
        name = revision
    except GitError:
        name = found.commit
    files = {table.name: {part.day: File(part.rows, part.sha256, "") for part in of_table} for table, of_table in parts}
    own = found._replace(sha256=manifest.sha256_of(files))
    return Version(
        name=name,
        commit=own.commit,
        committed=own.committed,
        citation=own.line(name, replaced),
        sha256=own.sha256,
        verdict=own.verdict,
        sentence=own.sentence,
        replaced=found.sha256 if replaced else None,
    )


def name_of(of: Described, version: Version) -> str:
    label = version.commit[:10] if version.name == version.commit else re.sub(r"[^\w.-]", "-", version.name)
    if label not in (version.name, version.commit[:10]):  # another tag may look the same
        label += f"-{version.commit[:10]}"
    day = of.days[-1] if of.days else version.committed
    return f"{of.dataset.slug}-{day}-{label}{'-pseudonyms' if of.pseudonyms else ''}"


def describe(of: Described, version: Version, folder: Path, quality: Mapping[str, bytes]) -> dict[str, bytes]:
    """All that tells of the files, by name."""
    spill = folder.parent / "spill"
    looked = {table.name: look(table, [folder / part.path for part in parts], spill) for table, parts in of.tables}
    sql = views_sql(of, folder)
    others = {
        **metadata(of, "DATACARD.md"),
        "DICTIONARY.md": dictionary(of, looked).encode(),
        "CITATION.cff": cff(of, version).encode(),
        "views.sql": sql.encode(),
        **quality,
    }
    files = len(of.parts) + len(others) + 2  # the README itself, and SHA256SUMS
    return {"README.md": readme(of, version, sql, files).encode(), **others}


def output_of(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".zip":
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .zip")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.bundle", description=__doc__)
    parser.add_argument("--rev", default="HEAD", help="a commit, branch or tag; HEAD by default")
    parser.add_argument("--pseudonyms", action="store_true", help="replace ids by the key PSEUDONYM_KEY")
    parser.add_argument("--output", type=output_of, metavar="FILE", help="the archive, .zip; in bundles/ by default")
    args = parser.parse_args()
    if args.output is not None and Paths().data.resolve() in args.output.resolve().parents:
        parser.error(f"{args.output} lies in data/, which the pipeline owns; choose another --output")
    bundle(project(), Asked(args.rev, args.pseudonyms, args.output))


if __name__ == "__main__":
    run("bundle", main)
