"""The certificates by which this process speaks TLS to a Dask cluster: Dask's own variables name their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ParamsError

VARIABLES = "DASK_DISTRIBUTED__COMM__TLS__"

CA, CERT, KEY = f"{VARIABLES}CA_FILE", f"{VARIABLES}CLIENT__CERT", f"{VARIABLES}CLIENT__KEY"


def check(named: Mapping[str, str | None]) -> None:
    """Raises ParamsError unless the file of each of CA, CERT and KEY is named and can be read."""
    content: dict[str, bytes] = {}
    for variable in (CA, CERT, KEY):
        if name := named[variable]:
            content[variable] = _read(variable, name)
        elif variable != KEY or b"PRIVATE KEY" not in content[CERT]:  # one file may hold both
            raise _wrong(f"{variable} is not set")


def _read(variable: str, name: str) -> bytes:
    if "\n" in name:  # the certificate itself
        return name.encode()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise _wrong(f"{variable} names {name}, which can't be read: {error.strerror}") from None


def _wrong(what: str) -> ParamsError:
    return ParamsError(
        what,
        where="the environment, for PIPELINE_ENGINE with tls:// (Dask reads no .env)",
        expected=f"{VARIABLES}CA_FILE, ...CLIENT__CERT and ...CLIENT__KEY, each the name of a file",
        next_step="export them (docs/scale.md says how certificates are made); then dvc repro",
    )
