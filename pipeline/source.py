"""Which database is read: the one that DATABASE_URL names, or the embedded sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core import params
from pipeline.postgres.target import Target, target
from pipeline.postgres.url import database_url, parse_url


@contextmanager
def connect(settings: params.Source) -> Iterator[Target]:
    """The source that DATABASE_URL names, or the embedded default, for the length of the block."""
    text = database_url()
    if text is None:
        from pipeline.sample import embedded

        with embedded.server() as where:
            yield target(where, "public", "the embedded sample", True, settings)
    else:
        arguments, schema = parse_url(text, settings.application_name)
        host, port = arguments.get("host", "the local socket"), arguments.get("port", 5432)
        user = arguments.get("user")
        name = f"database {arguments.get('dbname', user)} on {host}:{port} as {user}"
        yield target(arguments, schema, name, False, settings)
