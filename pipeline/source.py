"""Which database is read: the one that DATABASE_URL names, or the embedded sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.core.params import Source
from pipeline.core.progress import printable
from pipeline.postgres.target import Relation, Target, dsn, secrets
from pipeline.postgres.url import database_url, parse_url
from schemas.table import Table


@contextmanager
def connect(settings: Source, tables: Sequence[Table]) -> Iterator[Target]:
    """The source that DATABASE_URL names, or the embedded sample, for the length of the block."""
    text = database_url()
    if text is None:
        from pipeline.sample import embedded

        with embedded.server() as where:
            yield Target(dsn(where), _relations("public", tables), "the embedded sample", True, (), settings)
    else:
        arguments, schema = parse_url(text, settings.application_name)
        host, port = arguments.get("host", "the local socket"), arguments.get("port", 5432)
        user = arguments.get("user")
        name = printable(f"database {arguments.get('dbname', user)} on {host}:{port} as {user}")
        yield Target(dsn(arguments), _relations(schema, tables), name, False, secrets(arguments), settings, schema)


def _relations(schema: str, tables: Sequence[Table]) -> tuple[Relation, ...]:
    return tuple(Relation(table.schema or schema, table) for table in tables)
