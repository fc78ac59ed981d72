"""README.md of a bundle: how somebody without this project verifies it, opens it and cites it."""

from __future__ import annotations

from pipeline.core.verdict import SIGNS, WARNED
from pipeline.files.sql import quoted
from pipeline.handover.card import FROM_SAMPLE
from pipeline.handover.described import Described, Version
from pipeline.views import views

FILES = {
    "data/": "the files, one a table and UTC day or month, as Parquet",
    "DATACARD.md": "what the data is, how it was made, what it is not",
    "DICTIONARY.md": "each column, and each key within JSON: what it must be and what it holds",
    "views.sql": "the tables and views for DuckDB",
    "quality/": "what the quality checks found: `quality.html` for people, `checks.json` for programs",
    "datapackage.json": "all of this for programs, as a Data Package (version 2)",
    "croissant.json": "the same as Croissant (1.0)",
    "CITATION.cff": "how to cite it, for programs",
    "SHA256SUMS": "the SHA-256 of every other file",
}

VERIFY = """```sh
sha256sum -c --quiet SHA256SUMS && echo whole      # macOS: shasum -a 256 -c --quiet SHA256SUMS
```"""

# What the citation names: as the pipeline has it, over the files of the tables.
SNAPSHOT = (
    "sed -nE 's#^([0-9a-f]{64})  data/([^/]+)/event_(date|month)=([0-9a-z-]+)/.*#\\2 \\4 \\1#p' SHA256SUMS | sha256sum"
    "      # macOS: | shasum -a 256"
)


def readme(of: Described, version: Version, sql: str, files: int) -> str:
    """Markdown. `sql` is the content of views.sql, `files` how many files there are with this one."""
    names = [table.name for table, _ in of.tables]
    there = [view for view in (views.DAYS, *views.VIEWS) if f'VIEW "{view.name}" AS' in sql]
    tables = [f"| `{table.name}` | {table.description} |" for table, _ in of.tables]
    tables += [f"| `{view.name}` | {view.description} |" for view in there]
    sections = [
        f"# {of.dataset.title}",
        f"{of.holds} Licence: {of.dataset.licence_words}.",
        f"{SIGNS[version.verdict]} {version.sentence}."
        + (" `quality/quality.html` says what to look at." if version.verdict == WARNED else ""),
        *([FROM_SAMPLE] if of.sample else []),
        *replaced(of, version),
        *(f"{table.name}: {table.caution}" for table, _ in of.tables if table.caution),
        "\n".join(["| here | what |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in FILES.items())]),
        "## Is it whole?",
        "In this folder:",
        VERIFY,
        f"A file that was altered or is missing is named. None was added where `find . -type f | wc -l` says {files}. "
        "(`views.sql` reads its files by their names and no other.)",
        f"Where all are whole, they are those of the citation if this prints its SHA-256, `{version.sha256}`:",
        f"```sh\n{SNAPSHOT}\n```",
        "## Open it",
        "All of these in this folder, which the paths in `views.sql` are relative to.",
        *examples(names[0], of.file),
        *json(of),
        "## Tables and views",
        "\n".join(["| name | what |", "|---|---|", *tables]),
        "Views are made by `views.sql`, for DuckDB only. Every column has a comment: "
        "`SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal`. All times are UTC.",
        "## Cite it",
        version.citation,
        f"Whom to ask: {of.dataset.contact or 'whoever gave it to you'}.",
    ]
    return "\n\n".join(sections) + "\n"


def json(of: Described) -> list[str]:
    names = [column.name for table, _ in of.tables for column in table.columns if column.kind == "json"]
    return [
        f"`{name}` is JSON; `DICTIONARY.md` lists its keys. In DuckDB `{name} ->> '$.KEY'` is a text; in pandas "
        f"`[json.loads(text) for text in frame['{name}']]` are its values."
        for name in names
    ]


def replaced(of: Described, version: Version) -> list[str]:
    if version.replaced is None:
        return [] if of.pseudonyms else ["It holds the ids of users as the app has them: it is NOT pseudonymised."]
    return [
        "The ids of users and check-ins were replaced by pseudonyms when this archive was made. `quality/` speaks of "
        f"the snapshot before that, whose rows and counts are the same and whose SHA-256 is `{version.replaced}`."
    ]


def examples(table: str, file: str) -> list[str]:
    """How to read a table in each language. A file holds a `file`."""
    added = f"event_{'date' if file == 'day' else file}"
    return [
        "DuckDB, 1.2 or later:",
        f"```sh\nduckdb -cmd '.read views.sql' -c 'SELECT count(*) FROM {quoted(table)}'\n```",
        "DuckDB in Python:",
        "```python\nimport duckdb\n\nconnection = duckdb.connect()\n"
        'connection.execute(open("views.sql", encoding="utf-8").read())\n'
        f"connection.sql('SELECT count(*) FROM {quoted(table)}').show()\n```",
        f"pandas (with pyarrow), which adds `{added}` from the folders' names; with `dtype_backend` whole numbers "
        "that may be NULL stay whole; a column of JSON becomes text by `.astype(str)`:",
        f'```python\nimport pandas as pd\n\nframe = pd.read_parquet("data/{table}", dtype_backend="pyarrow")\n```',
        f"polars, without `{added}`; a column of JSON is an extension type, whose text `.ext.storage()` gives:",
        f'```python\nimport polars as pl\n\nframe = pl.read_parquet("data/{table}/*/*.parquet", '
        "hive_partitioning=False)\n```",
        "R:",
        f'```r\nlibrary(arrow)\nlibrary(dplyr)\nopen_dataset("data/{table}") |> count() |> collect()\n```',
    ]
