"""The data card: what the data is, how it was made, what it is not. A page for whoever gets it."""

from __future__ import annotations

from pipeline.core.dataset import NO_LICENCE
from pipeline.core.progress import count
from pipeline.handover.described import Described

FROM_SAMPLE = "The rows are made up: they are the sample that comes with the pipeline, and no app's users."


def card(of: Described) -> str:
    """Markdown."""
    tables = "\n".join(
        f"| `{table.name}` | {sum(part.rows for part in parts):,} | {len(parts)} | {table.description} |"
        for table, parts in of.tables
    )
    sections = [
        f"# {of.dataset.title}: the data card",
        "\n".join(facts(of)),
        "## What it is",
        f"| table | rows | files | one row |\n|---|---|---|---|\n{tables}",
        f"Each file is Parquet and holds one UTC {of.file} of one table (`event_date=whole`: all of it); a {of.file} "
        "without rows has a file, too. "
        "`datapackage.json` describes every column and lists every file, `croissant.json` says the same for programs "
        "that train models, and `sha256sum -c SHA256SUMS` proves that no file is missing or altered.",
        "## How it was made",
        f"{FROM_SAMPLE if of.sample else 'The rows are those that an app wrote to PostgreSQL.'} They were read in one "
        "transaction, compared with what the database counted and hashed day by day, checked against the contract "
        "(types, ranges, lists of values, unique ids), and written as they were: nothing is rounded, filled in or "
        f"corrected{'; ids were then replaced by pseudonyms' if of.pseudonyms else ''}. All times are UTC.",
        "## What it is not",
        "\n".join(f"- {limit}" for limit in limits(of)),
        "## Licence, and whom to ask",
        f"Licence: {of.dataset.licence_words}. Contact: {of.dataset.contact or 'none given'}. "
        f"Authors: {'; '.join(of.dataset.authors) or 'none given'}.",
    ]
    return "\n\n".join(sections) + "\n"


def facts(of: Described) -> list[str]:
    found = ["| | |", "|---|---|"]
    if of.version is not None:
        found += [
            f"| version | {of.version.name} |",
            f"| commit | {of.version.commit} of {of.version.committed} |",
            f"| quality | {of.version.verdict}: {of.version.sentence} |",
        ]
    users = "everybody" if of.users is None else f"only {count(of.users, 'user')}, chosen by id"
    return [
        *found,
        *(["| source | the sample that comes with the pipeline: made-up rows |"] if of.sample else []),
        f"| window | {of.window}, {count(len(of.days), 'day')} |",
        f"| rows | {of.rows:,} |",
        f"| users | {users} |",
        f"| ids of users | {of.ids} |",
        f"| licence | {of.dataset.licence or NO_LICENCE} |",
    ]


def limits(of: Described) -> list[str]:
    """What somebody who uses the data has to know of it."""
    ids = [f"{table.name}.{column.name}" for table, _ in of.tables for column in table.columns if column.pseudonym]
    free = [f"{table.name}.{column.name}" for table, _ in of.tables for column in table.columns if column.free]
    bodies = [
        f"{table.name}.{column.name}" for table, _ in of.tables for column in table.columns if column.kind == "json"
    ]
    found = []
    if of.pseudonyms and ids:
        found.append(
            f"Not anonymous. {', '.join(ids)} hold keyed pseudonyms, the same for the same id in every version made "
            "with that key; who has the key, or the app's database, can tell who is who."
        )
    elif ids:
        found.append(f"Not pseudonymised: {', '.join(ids)} hold the app's own ids.")
    if own := of.own_ids:
        found.append(f"Not pseudonymised: {', '.join(own)} hold the app's own ids of users.")
    if free or bodies:
        found.append(
            f"{', '.join([*free, *bodies])} hold what the app or its users wrote, as it is: it may name people."
        )
    found += [f"{table.name}: {table.caution}" for table, _ in of.tables if table.caution]
    for name, rows in of.set_aside.items():
        if rows:
            found.append(
                f"{count(rows, 'row')} of {name} broke the contract and {'is' if rows == 1 else 'are'} left out."
            )
    if of.users is not None:
        found.append("Counts and means are those of the users that were chosen, not of the app.")
    found += [
        f"{table.name}.{column} may point to a row of {to} that is not there: before the window, or left out."
        for table, _ in of.tables
        for column, to in table.references
    ]
    found.append(
        "The window cuts: what began before it or ended after it is there in part. What the app adds or deletes later, "
        "with a time in the window, is told by later versions only."
    )
    return found
