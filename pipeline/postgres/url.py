"""DATABASE_URL, in the form in which Prisma writes it: where it stands, and what it means to libpq."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import psycopg2
from psycopg2.extensions import parse_dsn

from pipeline.core.errors import ParamsError

# Arguments of a Prisma URL that speak to Prisma's own pool or driver; libpq knows none of them.
PRISMA_ONLY = {
    "connection_limit",
    "pool_timeout",
    "pgbouncer",
    "socket_timeout",
    "statement_cache_size",
    "single_use_connections",
    "sslpassword",
    "sslaccept",
}

# How other drivers, or a slip of the hand, would say what is read. Prisma takes the database and the server from the
# part before the ? and the schema from `schema`.
CHOOSING = {
    "schema",
    "currentschema",
    "current_schema",
    "search_path",
    "searchpath",
    "db",
    "database",
    "databasename",
    "dbname",
    "hostaddr",
    "port",
    "server",
    "service",
    "servicefile",
    "user",
    "username",
    "role",
}

# What libpq understands and a URL may set (PostgreSQL documentation, "Parameter Key Words").
# Not where it connects to but for the host, which may be the folder of a socket: Prisma drops the others, too.
LIBPQ = {
    "host",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslnegotiation",
    "sslcompression",
    "ssl_min_protocol_version",
    "connect_timeout",
    "application_name",
    "options",
    "channel_binding",
    "gssencmode",
    "krbsrvname",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "target_session_attrs",
    "passfile",
}

# Seconds to wait for a server that does not answer; libpq alone waits for ever.
CONNECT_TIMEOUT = "10"


def database_url() -> str | None:
    """DATABASE_URL from the environment, else from .env, as Prisma looks it up. Empty counts as unset.

    An experiment in a temporary copy (dvc exp run --temp) has no .env, which Git ignores; DVC_ROOT then names the
    checkout it was started from.
    """
    url = os.environ.get("DATABASE_URL")
    if url is not None:
        return url or None
    for folder in (Path(), Path(os.environ.get("DVC_ROOT", ""))):
        if (folder / ".env").is_file():
            return _from_file(folder / ".env")
    return None


def _from_file(file: Path) -> str | None:
    """DATABASE_URL in an .env file. ParamsError when it has none, and a line that may have been meant to be it."""
    from dotenv.main import DotEnv
    from dotenv.parser import parse_stream

    try:
        # As in Prisma, ${NAME} is first that of the environment.
        values = DotEnv(file, override=False, encoding="utf-8").dict()
        if "DATABASE_URL" not in values:
            for line in parse_stream(io.StringIO(file.read_text(encoding="utf-8"))):
                if line.error or (line.key or "").upper() == "DATABASE_URL":
                    raise _bad_url(f"is not in .env, whose line {line.original.line} can't be understood")
    except UnicodeDecodeError:
        raise _bad_url("can't be read: .env is not UTF-8") from None
    return values.get("DATABASE_URL") or None


def _bad_url(problem: str) -> ParamsError:
    return ParamsError(
        f"DATABASE_URL {problem}",
        where="the environment or .env",
        expected="postgresql://USER:PASSWORD@HOST:5432/DATABASE?schema=public, special characters percent-encoded",
        next_step="correct DATABASE_URL, or unset it to use the embedded sample",
    )


def _arguments(query: str) -> dict[str, str]:
    """What stands after the ?. Raises ParamsError for what must not be dropped: what is read, and encryption."""
    pairs = parse_qsl(query)
    arguments = dict(pairs)
    if len(arguments) != len(pairs):
        raise _bad_url("has an argument twice")
    for name in list(arguments):
        lower = name.lower()
        if lower in CHOOSING and name != "schema":
            raise _bad_url(f"has an argument {name!r}, which chooses nothing; the schema is chosen by ?schema=")
        if name not in LIBPQ | PRISMA_ONLY and re.search("ssl|tls|encrypt|secure", lower):
            value = arguments.pop(name).lower()
            if lower == "sslidentity":
                raise _bad_url("has sslidentity, which libpq has not; write sslmode=require, sslcert and sslkey (PEM)")
            if lower != "ssl" or value not in ("true", "1", "false", "0"):
                raise _bad_url(f"has an argument {name!r}, by which nothing would be encrypted; write sslmode=require")
            if value in ("true", "1"):
                arguments.setdefault("sslmode", "require")
    return arguments


def parse_url(text: str, application_name: str) -> tuple[dict[str, str], str]:
    """A Prisma URL as libpq's arguments, and the schema it names. Raises ParamsError, never with the URL in it."""
    text = text.strip()
    scheme, _, rest = text.partition("://")
    if text[:1] in "\"'`" and text:
        raise _bad_url("is in quotes, which belong to it: a shell or .env takes them off, Docker's --env-file does not")
    if scheme in ("prisma", "prisma+postgres"):
        raise _bad_url(f"begins with {scheme}://, which is Prisma Accelerate's; the direct URL (directUrl) is wanted")
    if scheme not in ("postgres", "postgresql") or not rest:
        raise _bad_url("does not begin with postgresql:// or postgres://")
    place, _, query = rest.partition("?")
    if "\0" in text or "%00" in text:
        raise _bad_url("holds a NUL")
    if place.count("@") > 1 or "@" in place.partition("/")[2] or "@" in query or "#" in rest:
        raise _bad_url("holds an unencoded @, /, # or ? (write %40, %2F, %23, %3F)")
    if "," in place.rpartition("@")[2].partition("/")[0]:
        raise _bad_url("has several hosts; one is wanted, that of the primary or of one standby")
    if not re.fullmatch(r"[\w.:%\-\[\]]*", re.split("[@/]", place.rpartition("@")[2])[0]):
        raise _bad_url("has a host with strange characters; encode those of the password")
    try:
        # To Prisma a % that begins no code is a %; libpq would refuse it.
        server = parse_dsn("postgresql://" + re.sub("%(?![0-9A-Fa-f]{2})", "%25", place))
    except (psycopg2.Error, UnicodeDecodeError):
        raise _bad_url("is no URL") from None
    arguments = _arguments(query)
    if re.search("search_path|role", arguments.get("options", "")):
        raise _bad_url("has options that choose what is read; the schema is chosen by ?schema=")
    schema = arguments.pop("schema", "public")
    if not (server | arguments).get("port", "0").isdecimal():
        raise _bad_url("has a port that is no number")
    # Prisma's sslcert is the certificate of the authority, which libpq calls sslrootcert.
    if "sslcert" in arguments and "sslkey" not in arguments:
        arguments.setdefault("sslrootcert", arguments.pop("sslcert"))
    if arguments.pop("sslaccept", None) == "strict":
        arguments["sslmode"] = "verify-full"
    dropped = sorted(set(arguments) - LIBPQ - PRISMA_ONLY)
    if dropped:
        print(f"notice: DATABASE_URL has arguments that are not used: {', '.join(dropped)}", file=sys.stderr)
    if arguments.get("pgbouncer") == "true":
        print(
            "notice: DATABASE_URL says pgbouncer=true; the direct URL is safer for a long transaction", file=sys.stderr
        )
    kept = {key: value for key, value in arguments.items() if key in LIBPQ}
    return {"connect_timeout": CONNECT_TIMEOUT, "application_name": application_name, **server, **kept}, schema
