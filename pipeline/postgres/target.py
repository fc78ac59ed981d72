"""The database that is read: what libpq needs to reach it, where its tables are, and how a message names it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from psycopg2.extensions import make_dsn
from psycopg2.sql import Identifier

from pipeline.core.params import Source
from schemas.table import Table

# Shorter passwords are not hidden: they are part of too many ordinary words.
MIN_SECRET = 4


class Slice(NamedTuple):
    """Rows of some days that come one after the other: `begin` <= time < `end`, the first `skip` of them left out, and
    then at most `rows`. None: without this end."""

    begin: datetime | None
    end: datetime | None
    skip: int
    rows: int | None


class Relation(NamedTuple):
    """A table of the contract where the database has it. COPY reads a slice of the days that are asked for, if any."""

    schema: str
    table: Table
    slice: Slice | None = None

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.schema, self.table.name)


class Target(NamedTuple):
    """What libpq connects to, the tables that are read there, and how to name the place in a message."""

    dsn: str  # holds the password
    relations: tuple[Relation, ...]
    name: str
    is_sample: bool
    secrets: tuple[str, ...]
    settings: Source
    schema: str = "public"  # the one that DATABASE_URL names

    def __repr__(self) -> str:
        return self.name

    def redact(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def dsn(arguments: Mapping[str, str]) -> str:
    """libpq's arguments as one text. Nothing else says where to connect, not the environment either."""
    # What libpq takes from the environment would lead elsewhere than the URL says; "" is as good as unset, and final.
    for variable in ("PGSERVICE", "PGUSER", "PGDATABASE"):
        os.environ.pop(variable, None)
    place = {"host": "", "hostaddr": "", "port": "5432"} | dict(arguments)
    return str(make_dsn(**place))


def secrets(arguments: Mapping[str, str]) -> tuple[str, ...]:
    """What no message may hold: the password, in every spelling."""
    password = arguments.get("password", "")
    return tuple({word for word in (password, quote(password), quote(password, safe="")) if len(word) >= MIN_SECRET})
