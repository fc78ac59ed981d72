"""Pseudonyms: a keyed HMAC-SHA-256 of an id, in the shape of a cuid so that the contract still holds.

The same key gives the same pseudonym in every snapshot; who has the key can tell whose it is. So the data is
pseudonymised, not anonymous.
"""

from __future__ import annotations

import hmac
import os
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.core.errors import ParamsError
from schemas.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "PSEUDONYM_KEY"
# RFC 2104 wants a key as long as the hash's output, 32 bytes for SHA-256; shorter ones weaken it.
MIN_KEY_BYTES = 32


_DIGITS = string.digits + string.ascii_lowercase


def key(why: str = "export.pseudonymize is true", instead: str = "set export.pseudonymize: false") -> bytes:
    """The key, from the environment and nowhere else. Raises ParamsError when it is missing or too short.

    `why` it is needed, and what to do `instead`, are for the message.
    """
    found = os.environb.get(KEY.encode(), b"")
    if len(found) < MIN_KEY_BYTES:
        raise ParamsError(
            f"{KEY} is {f'too short: {len(found)} bytes' if found else 'not set'}",
            where="the environment",
            expected=f"at least {MIN_KEY_BYTES} bytes, since {why}",
            next_step=f"export {KEY}=... (openssl rand -hex 32 makes one), or {instead}",
        )
    return found


def check(tables: Sequence[Table], next_step: str = "leave it out of `tables` in params.yaml, then dvc repro") -> None:
    """Raise ParamsError where the ids of users in a table would stay as they are."""
    for table in tables:
        if table.user is not None and not table.column(table.user).pseudonym:
            raise ParamsError(
                f"{table.name}.{table.user} names users and can have no pseudonyms",
                where=f"the declaration of {table.name} in schemas/",
                expected='pseudonym="userId" at each column with ids of users; for numbers there are none',
                next_step=next_step,
            )


def pseudonym(key: bytes, kind: str, value: str) -> str:
    """`c` and 24 digits of base 36: the first 124 bits or so of the HMAC of the kind of id and its value."""
    number = int.from_bytes(hmac.digest(key, f"{kind}:{value}".encode(), "sha256"))
    digits = []
    for _ in range(24):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "c" + "".join(digits)


def told(wanted: bool) -> dict[str, str]:
    """Which key is used, if pseudonyms are wanted, without the key: what two environments are compared by."""
    return {KEY: fingerprint(key())} if wanted else {}


def fingerprint(key: bytes) -> str:
    """Tells two keys apart and says nothing of either."""
    return hmac.digest(key, b"fingerprint", "sha256").hex()[:16]


def replace(key: bytes, kind: str, values: pa.Array) -> pa.Array:
    """The values' pseudonyms; NULL stays NULL. Each different value is computed once."""
    import pyarrow as pa  # a tenth of a second for those who only need the key

    encoded = values.dictionary_encode()
    names = [pseudonym(key, kind, value.as_py()) for value in encoded.dictionary]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(names, pa.string())).cast(pa.string())
