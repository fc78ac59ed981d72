"""A table as a value: its columns with their rules, and all that other modules derive from them.

Nothing heavy is imported here, because every stage reads the contract.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from schemas.rules import Rule, finite
from schemas.types import INSTANTS, SORTED_AS_TEXT, TYPES, Kind, Type, decimal

if TYPE_CHECKING:
    import pyarrow as pa

Layer = Literal["raw", "export"]


class Column(NamedTuple):
    """One column: what it is called, what it holds, what must be true of it."""

    name: str
    kind: Kind
    description: str
    nullable: bool = True
    rules: tuple[Rule, ...] = ()
    enum: str | None = None  # PostgreSQL's name of the type, of a column of kind enum
    native: str | None = None  # PostgreSQL's name of the type, where the kind does not say it, as character varying(9)
    digits: tuple[int, int] | None = None  # precision and scale of numeric, of a column of kind decimal
    # A pseudonym takes its place in an export with pseudonyms. Columns that hold the same ids have the same word here.
    pseudonym: str | None = None
    unit: str = ""
    free: bool = False  # what people type; the data dictionary shows no value of it

    @property
    def quoted(self) -> str:
        """The name as SQL, in PostgreSQL and DuckDB alike."""
        return '"' + self.name.replace('"', '""') + '"'

    @property
    def type(self) -> Type:
        return decimal(*self.digits) if self.digits else TYPES[self.kind]

    @property
    def postgres(self) -> str:
        return f'enum "{self.enum}"' if self.kind == "enum" else self.native or self.type.postgres

    @property
    def sent(self) -> str:
        """SQL of PostgreSQL for what COPY sends."""
        return self.type.sent.format(self.quoted)

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules, and what the type itself asks for: DECIMAL holds no NaN and no infinity, numeric does."""
        return (*self.rules, finite()) if self.type.export.startswith("decimal") else self.rules

    @property
    def values(self) -> tuple[str, ...]:
        """What the rules let the column hold, where they list it."""
        return next((rule.values for rule in self.rules if rule.values), ())


class Table(NamedTuple):
    """One table of the app. `description` says what one row is.

    `time` is the column by whose UTC day rows are filed; None: the table is one part, with one pin and one file. `user`
    names the person, if a column does; `schema` is PostgreSQL's, where it is not the one of DATABASE_URL;
    `key` names a row in reports. `type` says of what kind an event is, `phase` in which phase of an experiment and
    `score` its outcome, where columns do. Rows stand in the order of `order` in every file, total where the key is
    unique.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    key: str
    time: str | None
    user: str | None = None
    type: str | None = None
    phase: str | None = None
    score: str | None = None
    daily: bool = True  # whether a day without rows is a sign of something wrong
    schema: str | None = None
    caution: str = ""  # what whoever gets the rows has to know of them
    rules: tuple[Rule, ...] = ()  # over several columns of a row
    references: tuple[tuple[str, str], ...] = ()  # columns that hold keys of another table, and its name
    counted: tuple[str, ...] = ()  # columns of which quality.json counts each value
    indexes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # name and columns, in a DuckDB file with the rows

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def instant(self) -> str | None:
        """SQL of DuckDB for when a row was, UTC without a zone; None for a table that is one part."""
        if self.time is None:
            return None
        column = self.column(self.time)
        return INSTANTS[column.kind].format(column.quoted)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns by which a row is the same row in two snapshots: the key, or all of `order` where it is not
        unique."""
        return (self.key,) if self.key in self.unique else self.order

    @property
    def unique(self) -> tuple[str, ...]:
        """Columns whose value stands on one row of the window only."""
        return tuple(column.name for column in self.columns if any(rule.needs_window for rule in column.rules))

    @property
    def distinct(self) -> tuple[str, ...]:
        """Columns in which hardly a value stands twice."""
        names = {*self.unique, self.key, self.time}
        return tuple(c.name for c in self.columns if c.name in names or c.kind in ("json", "bytes"))

    def arrow_schema(self, layer: Layer) -> pa.Schema:
        """The Arrow schema of one file of data/raw or data/export.

        Every field is nullable, also those that the contract forbids to be NULL: a NULL that the database holds has to
        arrive at `validate`, which counts it.
        """
        import pyarrow as pa

        fixed = {
            "string": pa.string(),
            "json": pa.json_(),
            "binary": pa.binary(),
            "timestamp[ms]": pa.timestamp("ms"),
            "timestamp[us]": pa.timestamp("us"),
            "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
            "date32": pa.date32(),
            "time64[us]": pa.time64("us"),
            "int16": pa.int16(),
            "int32": pa.int32(),
            "int64": pa.int64(),
            "double": pa.float64(),
            "float": pa.float32(),
            "bool": pa.bool_(),
        }

        def arrow(column: Column) -> pa.DataType:
            name = getattr(column.type, layer)
            return fixed[name] if name in fixed else pa.decimal128(*(column.digits or ()))

        return pa.schema([pa.field(column.name, arrow(column)) for column in self.columns])

    def fingerprint(self, layer: Layer) -> str:
        """Tells whether two versions of the contract make the same file of the same rows."""
        columns = [(c.name, c.kind, getattr(c.type, layer), *((c.native,) if c.native else ())) for c in self.columns]
        parts = (self.name, columns, self.order, self.time, self.distinct)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def other_time_rules(self) -> bool:
        """Whether what passed may fail when `until` moves, in another column than that by whose day rows are filed."""
        others = (column for column in self.columns if column.name != self.time)
        return any(rule.needs_until for column in others for rule in column.rules)


def file_of(table: Table) -> str:
    """The file that declares a table."""
    modules = [module for name, module in sys.modules.items() if name.startswith("schemas.")]
    found = [module for module in modules if table in vars(module).values() and module.__name__ != "schemas.tables"]
    return f"schemas/{found[0].__name__.partition('.')[2]}.py" if found else f"schemas/{table.name}.py"


# Names that the pipeline or DuckDB itself gives to columns of files.
RESERVED = ("event_date", "event_month", "row_number", "failed_checks", "filename")

# Kinds of columns whose values quality.json can count.
COUNTABLE = ("text", "enum", "int", "smallint", "bigint", "bool")

# Kinds that are texts in the files, so that a pseudonym can take the place of a value.
PSEUDONYMOUS = ("text", "uuid")

# What one SELECT of PostgreSQL may list. A text takes two, because it is sorted in another collation than its own.
MAX_TARGETS = 1664


def problems(tables: Sequence[Table]) -> list[str]:
    """What is wrong with declarations of tables: what no pipeline can be built from, a sentence each."""
    found = [f"{name} is declared twice" for name in _twice(table.name for table in tables)]
    found += [f"an index {name} is declared twice" for name in _twice(name for t in tables for name, _ in t.indexes)]
    for table in tables:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", table.name):  # it names folders and files, and stands in patterns
            found.append(f"{table.name} has other characters than letters, digits, _ and -")
        found += [f"{table.name}: {problem}" for problem in _problems(table)]
    return found


def _problems(table: Table) -> Iterator[str]:
    yield from (f"a column {name} is declared twice" for name in _twice(table.names))
    yield from (f"{name} is a name that the files need for themselves" for name in table.names if name in RESERVED)
    targets = len(table.columns) + sum(column.kind in SORTED_AS_TEXT for column in table.columns)
    if targets > MAX_TARGETS:
        yield f"too many columns: with texts counted twice {targets}, PostgreSQL sends {MAX_TARGETS}"
    used = {*table.order, table.key, *filter(None, [table.time, table.user]), *table.counted}
    used |= {name for _, names in table.indexes for name in names} | {n for r in table.rules for n in r.columns}
    unknown = sorted(used - set(table.names))
    if unknown:
        yield f"there is no column {', '.join(unknown)}"
        return
    if table.time is not None and table.column(table.time).kind not in INSTANTS:
        yield f"{table.time}, by whose day rows are filed, is no timestamp and no date"
    for name in table.counted:
        if table.column(name).kind not in COUNTABLE:
            yield f"values of {name}, a {table.column(name).kind}, can't be counted"
    for column in table.columns:
        if column.pseudonym and column.kind not in PSEUDONYMOUS:
            yield f"{column.name}: a pseudonym is a text and the column is not"
        yield from (f"{column.name}: two rules {name}" for name in _twice(rule.name for rule in column.all_rules))
        for rule in column.rules:
            if rule.kinds and column.kind not in rule.kinds:
                yield f"{column.name}: the rule {rule.name} is not for a column of kind {column.kind}"


def _twice(names: Iterable[str]) -> list[str]:
    """Names that stand there more than once. DuckDB does not tell upper from lower case."""
    counts = Counter(name.lower() for name in names)
    return [name for name, n in counts.items() if n > 1]


def markdown(table: Table) -> str:
    """The columns of `table`, with their rules and those over several columns, as a table for the docs."""
    lines = ["| column | PostgreSQL | Parquet | DuckDB | NULL | must be | meaning |", "|---|---|---|---|---|---|---|"]
    for c in table.columns:
        must = "; ".join(map(_words, c.all_rules))
        null = "yes" if c.nullable else "no"
        lines.append(
            f"| `{c.name}` | {c.postgres} | {c.type.export} | {c.type.duckdb} | {null} | {must} | {c.description} |"
        )
    lines += [f"| {', '.join(f'`{c}`' for c in r.columns)} | | | | | {_words(r)} | |" for r in table.rules]
    return "\n".join(lines)


def _words(rule: Rule) -> str:
    return f"{rule.words} (`{rule.name}`)"
