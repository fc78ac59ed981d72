"""The rules of a table, put to one chunk of rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors

from pipeline.checks.chunks import Piece
from pipeline.checks.findings import Findings
from pipeline.core import watermark
from pipeline.core.days import ends
from schemas.rules import Settings, build_schema
from schemas.table import Table


class Check(NamedTuple):
    """One check on rows: the columns that it speaks of, its name, and the mask that is true where rows fail."""

    columns: tuple[str, ...]
    name: str
    failing: Callable[[pd.DataFrame], pyarrow.BooleanArray]

    @property
    def column(self) -> str:
        return ", ".join(self.columns)


class Checks(NamedTuple):
    """All checks of a table: the Pandera schema that finds out whether rows fail, and each check on its own."""

    schema: pa.DataFrameSchema
    each: Sequence[Check]
    duplicates: Mapping[str, Collection[object]]  # values that stand on more than one row of the window, by column


def all_checks(table: Table, settings: Settings, duplicates: Mapping[str, Collection[object]]) -> Checks:
    schema = build_schema(table, settings, window=False)
    return Checks(schema, list(_each(table, schema, duplicates)), duplicates)


def _each(table: Table, schema: pa.DataFrameSchema, duplicates: Mapping[str, Collection[object]]) -> Iterator[Check]:
    """The checks of the Pandera schema, NOT NULL, which it has no check object for, and uniqueness over the window."""
    for column in table.columns:
        name = column.name
        if not column.nullable:
            yield Check((name,), "not_nullable", partial(_null, name))
        for check in schema.columns[name].checks:
            yield Check((name,), check.name, partial(_failing_in, check, name))
        if name in table.unique:
            yield Check((name,), "unique", partial(_duplicate, name, duplicates.get(name, ())))
    for rule, check in zip(table.rules, schema.checks, strict=True):
        yield Check(rule.columns, rule.name, partial(_failing, check))


def _null(name: str, frame: pd.DataFrame) -> pyarrow.BooleanArray:
    return mask(frame[name].isna())


def _duplicate(name: str, values: Collection[object], frame: pd.DataFrame) -> pyarrow.BooleanArray:
    return mask(frame[name].isin(list(values)) & frame[name].notna())


def _failing_in(check: pa.Check, name: str, frame: pd.DataFrame) -> pyarrow.BooleanArray:
    return _failing(check, frame[name])


def _failing(check: pa.Check, rows: pd.Series[Any] | pd.DataFrame) -> pyarrow.BooleanArray:
    # Pandera leaves NULLs out of what it checks; they pass.
    passed = check(rows).check_output.reindex(rows.index, fill_value=True)
    return mask(~passed.astype(bool))


def mask(series: pd.Series[Any]) -> pyarrow.BooleanArray:
    return pyarrow.array(series.to_numpy(bool))


def within_time_rules(table: Table, days: Sequence[date], settings: Settings) -> list[date]:
    """Days, or months, whose whole range passes the time rules. Needed because `until` moves and the files do not."""
    rules = [] if table.time is None else [rule for rule in table.column(table.time).rules if rule.needs_until]
    if not days or not rules:
        return list(days)
    begins = [watermark.midnight(begin) for begin, _ in map(ends, days)]
    lasts = [watermark.midnight(end) - timedelta(milliseconds=1) for _, end in map(ends, days)]
    instants = pyarrow.array(begins + lasts, pyarrow.timestamp("ms"))
    series = pyarrow.table({"time": instants}).to_pandas(types_mapper=pd.ArrowDtype)["time"]
    passed = [True] * len(series)
    for rule in rules:
        check = rule.check(settings, name=rule.name)
        passed = [a and bool(b) for a, b in zip(passed, check(series).check_output, strict=True)]
    return [day for day, begin, end in zip(days, passed, passed[len(days) :], strict=False) if begin and end]


def check_chunk(pieces: Sequence[Piece], checks: Checks, findings: Findings) -> list[pyarrow.Array]:
    """Why rows fail, for each piece one text a row (NULL: it passes); an empty list when all rows pass."""
    rows = pyarrow.Table.from_batches([piece.batch for piece in pieces])
    findings.rows += rows.num_rows
    frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            checks.schema.validate(frame, lazy=True)  # whatever Pandera's variables in the environment say
        if not any(checks.duplicates.values()):
            return []
    except SchemaErrors:
        pass  # Pandera says that rows fail; which and how many is counted below, without its bound
    reasons: list[list[str]] = [[] for _ in range(rows.num_rows)]
    for check in checks.each:
        failing = check.failing(frame)
        for row in pc.indices_nonzero(failing).to_pylist():
            reasons[row].append(f"{check.column}.{check.name}")
        begin = 0
        for piece in pieces:
            findings.add(piece, check.columns, check.name, failing.slice(begin, piece.batch.num_rows))
            begin += piece.batch.num_rows
    findings.failed_rows += sum(map(bool, reasons))
    texts = pyarrow.array([", ".join(reason) or None for reason in reasons], pyarrow.string())
    begins = itertools.accumulate((piece.batch.num_rows for piece in pieces), initial=0)
    return [texts.slice(begin, piece.batch.num_rows) for begin, piece in zip(begins, pieces, strict=False)]
