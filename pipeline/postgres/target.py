"""The database that is read: what libpq needs to reach it, and how a message names it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from psycopg2.extensions import make_dsn

from pipeline.core import params


class Target(NamedTuple):
    """What libpq connects to, the schema that holds the table, and how to name the place in a message."""

    dsn: str  # holds the password
    schema: str
    name: str
    embedded: bool
    secrets: tuple[str, ...]
    settings: params.Source

    def __repr__(self) -> str:
        return self.name

    def redact(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def target(arguments: Mapping[str, str], schema: str, name: str, embedded: bool, settings: params.Source) -> Target:
    password = arguments.get("password", "")
    secrets = tuple({password, quote(password), quote(password, safe="")} - {""})
    # One that is so short stands in half of all words.
    secrets = tuple(secret for secret in secrets if len(secret) > 3)
    # What libpq takes from the environment would lead elsewhere than the URL says; "" is as good as unset, and final.
    for variable in ("PGSERVICE", "PGUSER", "PGDATABASE"):
        os.environ.pop(variable, None)
    place = {"host": "", "hostaddr": "", "port": "5432"} | dict(arguments)
    return Target(make_dsn(**place), schema, name, embedded, secrets, settings)
