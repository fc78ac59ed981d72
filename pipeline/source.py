"""Which database is read: the one that DATABASE_URL names, or the embedded sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipeline.core.params import Source
from pipeline.core.progress import printable
from pipeline.postgres.target import Relation, Target, dsn, secrets
from pipeline.postgres.url import database_url, parse_url
from schemas.table import Table

SAMPLE = "the embedded sample"


def told() -> dict[str, str]:
    """Which database is read, without secrets: what two environments are compared by."""
    text = database_url()
    if text is None:
        return {"DATABASE_URL": SAMPLE}
    arguments, schema = parse_url(text, "")
    return {"DATABASE_URL": f"{_name(arguments)}, schema {schema}"}


def _name(arguments: Mapping[str, str]) -> str:
    host, port = arguments.get("host", "the local socket"), arguments.get("port", 5432)
    user = arguments.get("user")
    return printable(f"database {arguments.get('dbname', user)} on {host}:{port} as {user}")


@contextmanager
def connect(settings: Source, tables: Sequence[Table]) -> Iterator[Target]:
    """The source that DATABASE_URL names, or the embedded sample, for the length of the block."""
    text = database_url()
    if text is None:
        from pipeline.sample import embedded

        with embedded.server() as where:
            yield Target(dsn(where), _relations("public", tables), SAMPLE, True, (), settings)
    else:
        arguments, schema = parse_url(text, settings.application_name)
        yield Target(
            dsn(arguments), _relations(schema, tables), _name(arguments), False, secrets(arguments), settings, schema
        )


def _relations(schema: str, tables: Sequence[Table]) -> tuple[Relation, ...]:
    return tuple(Relation(table.schema or schema, table) for table in tables)
