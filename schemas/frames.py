"""An ordinary pandas frame against the contract of a table, for notebooks and other people's code."""

from __future__ import annotations

import json
import warnings

import pandas as pd
import pyarrow
from pandera.errors import SchemaErrors, SchemaWarning

from schemas.rules import Settings, build_schema
from schemas.table import Table
from schemas.types import Kind


def validate_frame(table: Table, df: pd.DataFrame, settings: Settings, strict: bool, raise_on_error: bool) -> None:
    """Raise `pandera.errors.SchemaErrors` that names every failing column and check of `df`, or warn of it.

    Any pandas dtypes that convert exactly will do. `strict` refuses columns that the contract does not know.
    """
    schema = build_schema(table, settings, strict=strict)
    try:
        schema.validate(_with_arrow_dtypes(table, df), lazy=True)
    except SchemaErrors as error:
        if raise_on_error:
            raise
        warnings.warn(str(error), SchemaWarning, stacklevel=3)


def _with_arrow_dtypes(table: Table, df: pd.DataFrame) -> pd.DataFrame:
    """`df` with the contract's Arrow dtypes. A column that does not convert stays as it is, for the dtype check.

    Fractions of a millisecond, which the database can't hold, are cut off for checking.
    """
    arrow = table.arrow_schema("raw")
    converted = dict(df.items())
    for column in table.columns:
        if column.name not in converted:
            continue
        series = converted[column.name]
        if column.kind == "json":
            series = series.map(lambda v: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v)
        try:
            array = pyarrow.array(series, from_pandas=True)
            if _converts(array.type, column.kind):
                array = array.cast(arrow.field(column.name).type, safe=column.kind != "timestamp")
                converted[column.name] = pd.Series(pd.arrays.ArrowExtensionArray(array), index=series.index)
        except (pyarrow.ArrowException, TypeError, ValueError):
            continue
    return pd.DataFrame(converted, index=df.index)


def _converts(found: pyarrow.DataType, kind: Kind) -> bool:
    """Whether a pandas column that Arrow reads as `found` can stand for a column of `kind` without guessing."""
    types = pyarrow.types
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found):
        return True
    match kind:
        case "int" | "bigint" | "float":
            return bool(types.is_integer(found) or types.is_floating(found))
        case "bool":
            return bool(types.is_boolean(found))
        case "timestamp":
            return types.is_timestamp(found) and found.tz is None
        case "decimal":
            return bool(types.is_string(found) or types.is_large_string(found) or types.is_decimal(found))
        case _:
            return bool(types.is_string(found) or types.is_large_string(found))
