"""The checks of the Pandera schema, put to one chunk of rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors

from pipeline.checks.chunks import Piece
from pipeline.checks.findings import Findings
from pipeline.core import watermark
from schemas.contract import COLUMNS

# From a column's values to a mask that is true where they fail.
FailingMask = Callable[["pd.Series[Any]"], pyarrow.BooleanArray]


def within_time_rules(days: Sequence[date], schema: pa.DataFrameSchema) -> list[date]:
    """The days of which every instant passes the rules that speak of `until`, which moves while files stay."""
    if not days:
        return []
    begins = [watermark.midnight(day) for day in days]
    ends = [watermark.midnight(day + timedelta(days=1)) - timedelta(milliseconds=1) for day in days]
    instants = pyarrow.array(begins + ends, pyarrow.timestamp("ms"))
    series = pyarrow.table({"timestamp": instants}).to_pandas(types_mapper=pd.ArrowDtype)["timestamp"]
    passed = [True] * len(series)
    for check in schema.columns["timestamp"].checks:
        passed = [a and bool(b) for a, b in zip(passed, check(series).check_output, strict=True)]
    return [day for day, begin, end in zip(days, passed, passed[len(days) :], strict=False) if begin and end]


def names(schema: pa.DataFrameSchema) -> list[tuple[str, str]]:
    """Column and name of every check, in order."""
    return [(column, check) for column, check, _ in every_check(schema, [])]


def every_check(schema: pa.DataFrameSchema, duplicates: Sequence[str]) -> Iterator[tuple[str, str, FailingMask]]:
    """Column, name and function of every check: those of the Pandera schema, and what it keeps to itself."""
    for column in COLUMNS:
        if not column.nullable:
            yield column.name, "not_nullable", lambda series: mask(series.isna())
        for check in schema.columns[column.name].checks:
            yield column.name, check.name, partial(_failing, check)
        if column.name == "id":
            yield "id", "unique", lambda series: mask(series.isin(duplicates) & series.notna())


def _failing(check: pa.Check, series: pd.Series[Any]) -> pyarrow.BooleanArray:
    # Pandera leaves NULLs out of what it checks; they pass.
    passed = check(series).check_output.reindex(series.index, fill_value=True)
    return mask(~passed.astype(bool))


def mask(series: pd.Series[Any]) -> pyarrow.BooleanArray:
    return pyarrow.array(series.to_numpy(bool))


def check_chunk(
    pieces: Sequence[Piece], schema: pa.DataFrameSchema, duplicates: Sequence[str], findings: Findings
) -> list[pyarrow.Array]:
    """Why rows fail, for each piece one text a row (NULL: it passes); an empty list when all rows pass."""
    table = pyarrow.Table.from_batches([piece.batch for piece in pieces])
    findings.rows += table.num_rows
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(frame, lazy=True)  # whatever Pandera's variables in the environment say
        if not duplicates:
            return []
    except SchemaErrors:
        pass  # Pandera says that rows fail; which and how many is counted below, without its bound
    reasons: list[list[str]] = [[] for _ in range(table.num_rows)]
    for column, check, find in every_check(schema, duplicates):
        failing = find(frame[column])
        for row in pc.indices_nonzero(failing).to_pylist():
            reasons[row].append(f"{column}.{check}")
        begin = 0
        for piece in pieces:
            findings.add(piece, column, check, failing.slice(begin, piece.batch.num_rows))
            begin += piece.batch.num_rows
    findings.failed_rows += sum(map(bool, reasons))
    texts = pyarrow.array([", ".join(reason) or None for reason in reasons], pyarrow.string())
    begins = itertools.accumulate((piece.batch.num_rows for piece in pieces), initial=0)
    return [texts.slice(begin, piece.batch.num_rows) for begin, piece in zip(begins, pieces, strict=False)]
