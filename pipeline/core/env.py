"""Settings of a machine: from the environment, else from .env."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def setting(name: str) -> str | None:
    """The value of a setting; None where it is not set, or empty."""
    value = os.environ.get(name)
    if value is None and Path(".env").is_file():
        from dotenv import dotenv_values

        with suppress(UnicodeDecodeError):  # said where DATABASE_URL is read
            value = dotenv_values(".env").get(name)
    return value or None
