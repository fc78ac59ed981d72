"""views.sql of a bundle: its tables and the views for research, over files that are named by relative paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb

from pipeline.core.errors import DataError
from pipeline.files.sql import literal, quoted, with_memory
from pipeline.handover.described import Described
from pipeline.views import views

HEAD = """-- The tables and the views for research, for DuckDB 1.2 or later, in the folder of this file:
--   duckdb -cmd '.read views.sql'
-- or in Python: duckdb.connect().execute(open("views.sql").read())
"""

MEMORY_LIMIT = "192MB"


def views_sql(of: Described, folder: Path) -> str:
    """The statements; each was run in `folder`, where the files are.

    Views that ask for columns which the files do not have, as those of long ago, are left out. Raises DataError when a
    table has not the rows that it should have.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        connection.execute(f"SET file_search_path = {literal(str(folder))}")
        kept = []
        for statement in _statements(of):
            with suppress(duckdb.BinderException, duckdb.CatalogException):
                connection.execute(statement)
                kept.append(f"{statement.strip()};\n".replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
        for table, parts in of.tables:
            found = connection.execute(f"SELECT count(*) FROM {quoted(table.name)}").fetchall()[0][0]
            if found != sum(part.rows for part in parts):
                raise DataError(
                    f"{table.name} has {found:,} rows in its files",
                    where=table.name,
                    expected=f"the {sum(part.rows for part in parts):,} rows that its manifest lists",
                    next_step="python -m commands.mend, then the same command again",
                )
        zoned = any(column.kind == "timestamptz" for table, _ in of.tables for column in table.columns)
        return HEAD + ("SET TimeZone = 'UTC';\n" if zoned else "") + "".join(kept)

    return with_memory(MEMORY_LIMIT, work)


def _statements(of: Described) -> Iterator[str]:
    for table, parts in of.tables:
        columns = ", ".join(column.quoted for column in table.columns)
        # By their names, so that a file which somebody adds is in no answer.
        files = f"read_parquet([{', '.join(literal(part.path) for part in parts)}], hive_partitioning = false)"
        yield f"CREATE VIEW {quoted(table.name)} AS SELECT {columns} FROM {files}"
        yield from views.commented(table)
    names = [table.name for table, _ in of.tables]
    if views.OF in names and of.days:
        yield from views.create(views.days_between(of.days[0], of.days[-1]), names)
