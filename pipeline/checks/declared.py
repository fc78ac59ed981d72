"""The declarations in schemas/, before anything is built from them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.errors import ContractError
from schemas.table import Table, problems


def check_declared(tables: Sequence[Table]) -> None:
    """Raise ContractError that lists what is wrong with the declarations."""
    found = problems(tables)
    if found:
        raise ContractError(
            "tables are declared that can't be exported" + "".join(f"\n    {problem}" for problem in found),
            where="schemas/",
            expected="columns, rules and names that PostgreSQL, Parquet and DuckDB all take",
            next_step="correct the file of the table in schemas/, then the same command again",
        )
