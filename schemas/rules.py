"""The rules of the contract: each one's name, words and Pandera check in one place, and the schema built of them.

Pandera is imported inside the functions. It adds a second to a start, and most stages only need the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.types import Kind

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pandera.pandas as pa

    from schemas.table import Table

# Failing cases that Pandera keeps for each check. Without a bound it builds a table of every failing row.
FAILURE_CASES = 100

CUID = r"^c[a-z0-9]{24}$"

# What can name a user: a cuid, a cuid2 of the usual length, a uuid as PostgreSQL writes it.
ID = rf"{CUID}|^[a-z][a-z0-9]{{23}}$|^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$"

_NO_LABELS: Mapping[str, tuple[str, ...]] = {}


class Settings(NamedTuple):
    """What rules know beside the values.

    `until` is the end of the window, UTC without a zone. `labels` replace the values of a rule that has a `param`, by
    the name of that param.
    """

    until: datetime
    labels: Mapping[str, tuple[str, ...]] = _NO_LABELS


class Rule(NamedTuple):
    """One check on a column, or on several columns of a row. A NULL passes every rule."""

    name: str  # what reports print
    words: str  # what the docs say
    # Called with Settings and the keywords that all checks have in common.
    check: Callable[..., pa.Check]
    columns: tuple[str, ...] = ()  # of a rule over several columns
    values: tuple[str, ...] = ()  # what a column may hold, where that is a list
    needs_window: bool = False  # no batch alone can decide it
    needs_until: bool = False  # what passed once may fail when `until` has moved
    kinds: tuple[Kind, ...] = ()  # of columns that it can check; any where there are none
    # What metadata tells other programs, where the rule is of that kind.
    param: str = ""  # whose labels in params.yaml replace `values`
    pattern: str = ""
    limits: tuple[float, float] | None = None  # both included


def matches(pattern: str) -> Rule:
    return Rule(
        "str_matches", f"matches `{pattern}`", partial(_matches, pattern), kinds=("text", "enum"), pattern=pattern
    )


def _matches(pattern: str, _: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check.str_matches(pattern, **common)


def one_of(*values: str, param: str = "") -> Rule:
    """One of these values, or of those that params.yaml has under `validate.PARAM`."""
    words = "one of " + ", ".join(f"`{value}`" for value in values)
    kinds: tuple[Kind, ...] = ("text", "enum")
    return Rule("isin", words, partial(_one_of, values, param), values=values, kinds=kinds, param=param)


def _one_of(values: tuple[str, ...], param: str, settings: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check.isin(list(settings.labels.get(param, values)), **common)


def between(low: float, high: float) -> Rule:
    kinds: tuple[Kind, ...] = ("int", "smallint", "bigint", "float", "real")
    return Rule("in_range", f"{low} to {high}", partial(_between, low, high), kinds=kinds, limits=(low, high))


def _between(low: float, high: float, _: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check.in_range(low, high, **common)


def unique() -> Rule:
    # Not for floats: whether NaN is NaN, and 0.0 is -0.0, DuckDB and pandas answer differently.
    kinds: tuple[Kind, ...] = (
        *("text", "enum", "uuid", "other", "int", "smallint", "bigint", "decimal"),
        *("timestamp", "timestamp_us", "timestamptz", "date"),
    )
    return Rule("unique", "unique over the window", _unique, needs_window=True, kinds=kinds)


def _unique(_: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda series: ~series.duplicated(keep=False), error="unique", **common)


def valid_json() -> Rule:
    return Rule("json_valid", "valid JSON", _valid_json, kinds=("json", "list", "text"))


def _valid_json(_: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(json_valid, error="json_valid", **common)


def not_future() -> Rule:
    return Rule("timestamp_not_future", "not after `until`", _not_future, needs_until=True, kinds=("timestamp",))


def _not_future(settings: Settings, **common: Any) -> pa.Check:
    import pandas as pd
    import pandera.pandas as pa

    end = pd.Timestamp(settings.until)
    return pa.Check(lambda series: series <= end, error=f"timestamp_not_future (until {end})", **common)


def not_older_than(years: int) -> Rule:
    words = f"at most {years} years before `until`"
    return Rule("timestamp_not_old", words, partial(_not_older_than, years), needs_until=True, kinds=("timestamp",))


def _not_older_than(years: int, settings: Settings, **common: Any) -> pa.Check:
    import pandas as pd
    import pandera.pandas as pa

    oldest = pd.Timestamp(settings.until) - pd.DateOffset(years=years)
    return pa.Check(lambda series: series >= oldest, error=f"timestamp_not_old (since {oldest})", **common)


def finite() -> Rule:
    """For numbers that may be NaN or infinite in PostgreSQL, but not in what reads the export."""
    return Rule("finite", "a finite number", _finite, kinds=("float", "real", "decimal"))


def _finite(_: Settings, **common: Any) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda series: _is_finite(series), error="finite", **common)


def _is_finite(series: pd.Series[Any]) -> pd.Series[Any]:
    if series.dtype in ("double[pyarrow]", "float[pyarrow]"):
        return series.abs() < float("inf")
    return series.str.match(r"^-?\d")  # a decimal, as PostgreSQL writes it: NaN, Infinity or digits


def of_row(name: str, words: str, columns: tuple[str, ...], passes: Callable[[pd.DataFrame], pd.Series[Any]]) -> Rule:
    """A rule over several columns of a row. `passes` gets the rows in which none of `columns` is NULL.

    It is a function of a module, not a lambda, because tables are handed on to other processes.
    """
    return Rule(name, words, partial(_of_row, columns, passes), columns=columns)


def _of_row(
    columns: tuple[str, ...], passes: Callable[[pd.DataFrame], pd.Series[Any]], _: Settings, **common: Any
) -> pa.Check:
    import pandera.pandas as pa

    def check(frame: pd.DataFrame) -> pd.Series[Any]:
        some = frame.loc[:, list(columns)].dropna()
        passed: pd.Series[Any] = passes(some).reindex(frame.index, fill_value=True).astype(bool)
        return passed

    return pa.Check(check, **common)


def build_schema(table: Table, settings: Settings, *, window: bool = True, strict: bool = True) -> pa.DataFrameSchema:
    """The contract of `table` as a Pandera schema over a frame whose columns have Arrow dtypes.

    `window=False` leaves out the rules that no batch can decide. `strict` refuses columns that the contract does not
    know.
    """
    import pandas as pd
    import pandera.pandas as pa

    def checks(rules: Sequence[Rule]) -> list[pa.Check]:
        return [
            rule.check(settings, name=rule.name, n_failure_cases=FAILURE_CASES)
            for rule in rules
            if window or not rule.needs_window
        ]

    arrow = table.arrow_schema("raw")
    columns = {
        column.name: pa.Column(
            pd.ArrowDtype(arrow.field(column.name).type),
            checks(column.all_rules),
            nullable=column.nullable,
            required=not column.nullable,
            description=column.description,
        )
        for column in table.columns
    }
    return pa.DataFrameSchema(columns, checks(table.rules), strict=strict, name=table.name, coerce=False)


# What DuckDB's parser lets pass although RFC 8259 does not: NaN, Infinity and a comma before a closing bracket. Inside
# a string they are legal, so what comes before is read as strings and what is between them. By RE2, whose memory and
# time do not grow with such words; Python's re takes 2.4 GB for a string of 20 MB.
_LENIENT = r'(?is)^(?:[^"]|"(?:[^"\\]|\\.)*")*?(?:nan|inf|,\s*[\]}])'


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    import duckdb

    # One thread: a batch is small, and the memory of the stage should not depend on the machine's cores.
    return duckdb.connect(config={"threads": 1})


def json_valid(values: pd.Series[Any]) -> pd.Series[Any]:
    """Whether each string of `values` is JSON (RFC 8259), by DuckDB's parser, the one that will read it."""
    import numpy as np
    import pandas as pd
    import pyarrow
    import pyarrow.compute as pc

    texts = pyarrow.array(values, type=pyarrow.string(), from_pandas=True)
    if isinstance(texts, pyarrow.ChunkedArray):
        texts = texts.combine_chunks()
    lenient = pc.match_substring_regex(texts, _LENIENT).to_numpy(zero_copy_only=False).astype(bool)
    with _duckdb().cursor() as cursor:
        batch = cursor.from_arrow(pyarrow.table({"value": texts}))
        if batch.aggregate("coalesce(bool_and(json_valid(value)), true)").fetchall() == [(True,)]:
            valid = np.ones(len(values), bool)
        else:
            valid = batch.project("json_valid(value) AS valid").fetchnumpy()["valid"].astype(bool)
    return pd.Series(valid & ~lenient, index=values.index)
