"""The Pandera schema of `behavioral_events`, built from the declarations in `contract.py`.

`validate_behavioral_events` checks an ordinary pandas frame; `build_schema` is what the validate stage runs over
batches with Arrow dtypes.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc
from pandera.errors import SchemaErrors, SchemaWarning

from schemas.contract import COLUMNS, EXPERIMENT_PHASES, Kind, Rule, arrow_schema

# Failing cases that Pandera keeps per check; without a bound it builds a table of every failing row.
FAILURE_CASES = 100

# What DuckDB's parser lets pass although RFC 8259 does not: NaN, Infinity and a comma before a closing bracket. Inside
# a string they are legal, so a match is only a reason to look again.
_LENIENT = r"(?i)nan|inf|,\s*[\]}]"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    # One thread: a batch is small, and the memory of the stage should not depend on the machine's cores.
    return duckdb.connect(config={"threads": 1})


def _strict_json(text: str) -> bool:
    """Whether JSON that DuckDB accepts is so without its leniency, too: it holds no such thing outside of strings."""
    return not re.search(_LENIENT, _STRING.sub('""', text))


def json_valid(values: pd.Series[Any]) -> pd.Series[Any]:
    """Whether each string of `values` is JSON (RFC 8259), by DuckDB's parser, the one that will read it."""
    texts = pyarrow.array(values, type=pyarrow.string(), from_pandas=True)
    if isinstance(texts, pyarrow.ChunkedArray):
        texts = texts.combine_chunks()
    look_again = pc.match_substring_regex(texts, _LENIENT).to_numpy(zero_copy_only=False)
    with _duckdb().cursor() as cursor:
        batch = cursor.from_arrow(pyarrow.table({"value": texts}))
        if batch.aggregate("coalesce(bool_and(json_valid(value)), true)").fetchall() == [(True,)]:
            valid = np.ones(len(values), bool)
        else:
            valid = batch.project("json_valid(value) AS valid").fetchnumpy()["valid"].astype(bool)
    for position in (valid & look_again.astype(bool)).nonzero()[0]:
        valid[position] = _strict_json(values.iloc[position])
    return pd.Series(valid, index=values.index)


def _check(rule: Rule, until: pd.Timestamp, phases: Sequence[str] | None) -> pa.Check:
    common: dict[str, Any] = {"name": rule.name, "n_failure_cases": FAILURE_CASES}
    match rule.name:
        case "str_matches":
            return pa.Check.str_matches(rule.args[0], **common)
        case "isin":
            return pa.Check.isin(list(phases or rule.args), **common)
        case "in_range":
            return pa.Check.in_range(*rule.args, **common)
        case "json_valid":
            return pa.Check(json_valid, error="json_valid", **common)
        case "unique":
            return pa.Check(lambda s: ~s.duplicated(keep=False), error="unique", **common)
        case "timestamp_not_future":
            return pa.Check(lambda s: s <= until, error=f"timestamp_not_future (until {until})", **common)
        case "timestamp_not_old":
            oldest = until - pd.DateOffset(years=rule.args[0])
            return pa.Check(lambda s: s >= oldest, error=f"timestamp_not_old (since {oldest})", **common)


def build_schema(
    until: datetime,
    *,
    phases: Sequence[str] = EXPERIMENT_PHASES,
    unique: bool = True,
    strict: bool = True,
) -> pa.DataFrameSchema:
    """The contract as a Pandera schema over a frame whose columns have Arrow dtypes.

    `until` is UTC without a zone. `unique=False` leaves out the check that a batch can't decide, because it speaks
    of the whole window. `strict` refuses columns that the contract does not know.
    """
    arrow = arrow_schema("raw")
    columns = {}
    for column in COLUMNS:
        allowed = phases if column.name == "experimentPhase" else None
        rules = [rule for rule in column.rules if unique or rule.name != "unique"]
        columns[column.name] = pa.Column(
            pd.ArrowDtype(arrow.field(column.name).type),
            [_check(rule, pd.Timestamp(until), allowed) for rule in rules],
            nullable=column.nullable,
            required=not column.nullable,
            description=column.description,
        )
    return pa.DataFrameSchema(columns, strict=strict, name="behavioral_events", coerce=False)


def _converts(found: pyarrow.DataType, kind: Kind) -> bool:
    """Whether a pandas column that Arrow reads as `found` can stand for a column of `kind` without guessing."""
    if pyarrow.types.is_dictionary(found):
        found = found.value_type
    if pyarrow.types.is_null(found):
        return True
    match kind:
        case "int":
            return bool(pyarrow.types.is_integer(found) or pyarrow.types.is_floating(found))
        case "timestamp":
            return pyarrow.types.is_timestamp(found) and found.tz is None
        case _:
            return bool(pyarrow.types.is_string(found) or pyarrow.types.is_large_string(found))


def _with_arrow_dtypes(df: pd.DataFrame) -> pd.DataFrame:
    """`df` with the contract's Arrow dtypes; a column that does not convert stays as it is, for the dtype check.

    Fractions of a millisecond, which the database can't hold, are cut off for checking.
    """
    kinds = {column.name: column.kind for column in COLUMNS}
    arrow = arrow_schema("raw")
    converted = dict(df.items())
    for name in kinds.keys() & converted.keys():
        series = converted[name]
        if kinds[name] == "json":
            series = series.map(lambda v: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v)
        try:
            array = pyarrow.array(series, from_pandas=True)
            if _converts(array.type, kinds[name]):
                array = array.cast(arrow.field(name).type, safe=kinds[name] != "timestamp")
                converted[name] = pd.Series(pd.arrays.ArrowExtensionArray(array), index=series.index)
        except (pyarrow.ArrowException, TypeError, ValueError):
            continue
    return pd.DataFrame(converted, index=df.index)


def validate_behavioral_events(
    df: pd.DataFrame,
    strict: bool = True,
    raise_on_error: bool = True,
    *,
    until: datetime | None = None,
    phases: Sequence[str] = EXPERIMENT_PHASES,
) -> pd.DataFrame:
    """Check a pandas frame against the contract and return it as it was given.

    One row is one event. Any pandas dtypes that convert exactly will do; `eventData` holds dicts, lists or JSON
    text. Columns that may be NULL may also be absent.

    strict: columns that the contract does not know are an error; False lets them pass.
    raise_on_error: raise `pandera.errors.SchemaErrors`, which names every failing column and check; False
        issues it as a `pandera.errors.SchemaWarning` instead.
    until: the end of the window, UTC; the present by default. A timestamp after it is `timestamp_not_future`.
    phases: the labels that `experimentPhase` may hold.
    """
    end = until or datetime.now(UTC)
    if end.tzinfo is not None:
        end = end.astimezone(UTC).replace(tzinfo=None)
    schema = build_schema(end, phases=phases, strict=strict)
    try:
        schema.validate(_with_arrow_dtypes(df), lazy=True)
    except SchemaErrors as error:
        if raise_on_error:
            raise
        warnings.warn(str(error), SchemaWarning, stacklevel=2)
    return df
