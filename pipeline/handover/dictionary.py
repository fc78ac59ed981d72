"""The data dictionary: each column and each key within JSON, what it must be and what it holds. A page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.handover.described import Described, meaning
from pipeline.handover.looked import FEW, ID_KEY, SEVERAL, Dictionary, Key, Keys, Looked, Texts, is_id
from schemas.table import Column, Table

JSON = {
    "VARCHAR": "text",
    "BIGINT": "whole number",
    "UBIGINT": "whole number",
    "HUGEINT": "whole number",
    "DOUBLE": "number",
    "BOOLEAN": "true or false",
    "OBJECT": "object",
    "ARRAY": "list",
    "NULL": "null",
}


def dictionary(of: Described, looked: Mapping[str, Dictionary]) -> str:
    """The page; `looked` has what each table holds."""
    sections = [
        f"# {of.dataset.title}: the data dictionary",
        f"{of.holds} No id and no free text is shown, and of other texts only those of which there are at most {FEW} "
        f"different ones and that {SEVERAL} users or more have, or that the contract lists.",
    ]
    for table, _ in of.tables:
        found = looked[table.name]
        sections += [f"## {table.name}", table.description, columns(of, table, found)]
        for name, each in found.json.items():
            sections.append(f"### {table.name}.{name}")
            sections += [part for one in each for part in keys(table, one)]
    return "\n\n".join(sections) + "\n"


def columns(of: Described, table: Table, found: Dictionary) -> str:
    lines = ["| column | Parquet | DuckDB | NULL | must be | holds | meaning |", "|---|---|---|---|---|---|---|"]
    for column in table.columns:
        looked = found.columns[column.name]
        null = f"{percent(looked.nulls, looked.rows)} of rows" if column.nullable else "never"
        lines.append(
            f"| `{column.name}` | {column.type.export} | {column.type.duckdb} | {null} | {must(of, column)} | "
            f"{holds(table, column, looked)} | {meaning(column, of.pseudonyms)} |"
        )
    return "\n".join(lines)


def must(of: Described, column: Column) -> str:
    words = []
    for rule in column.all_rules:
        values = of.values(column) if rule.values else ()
        words.append(f"one of {', '.join(f'`{value}`' for value in values)}" if values else rule.words)
    return "; ".join(words)


def holds(table: Table, column: Column, looked: Looked) -> str:
    if is_id(table, column):
        return "an id, not shown"
    if column.free:
        return "free text, not shown"
    if column.kind == "json":
        return f"see {table.name}.{column.name} below"
    unit = f" {column.unit}" if column.unit else ""
    if looked.least is not None:
        return f"{plain(looked.least)} to {plain(looked.most)}{unit}"
    return texts(looked.texts) if looked.texts is not None else ""


def keys(table: Table, of: Keys) -> list[str]:
    """A heading and a table for one type."""
    found = [f"#### {of.type if of.type is not None else table.name}", f"{of.rows:,} rows."]
    if of.keys:
        lines = ["| key | type | in rows | holds |", "|---|---|---|---|"]
        lines += [
            f"| `{escaped(key.path)}` | {types(key)} | {often(key, of.rows)} | {inside(key)} |" for key in of.keys
        ]
        found.append("\n".join(lines))
    if of.hidden:
        more = "key is" if of.hidden == 1 else "keys are"
        found.append(f"{of.hidden:,} more {more} not shown: fewer than {SEVERAL} users have it.")
    return found


def types(key: Key) -> str:
    return " or ".join(dict.fromkeys(JSON.get(json, json.lower()) for json in key.found))


def often(key: Key, rows: int) -> str:
    number = sum(key.found.values())
    return f"{number:,} elements" if "[]" in key.path else percent(number, rows)


def inside(key: Key) -> str:
    if ID_KEY.search(key.path):
        return "ids, not shown"
    words = [f"{plain(key.least)} to {plain(key.most)}"] if key.least is not None else []
    return "; ".join(words + ([texts(key.texts)] if key.texts is not None else []))


def texts(of: Texts) -> str:
    if not of.told:
        return f"{of.different:,} different, not shown" if of.different else ""
    rest = of.different - len(of.told)
    said = ", ".join(f"`{escaped(text)}` {rows:,}" for text, rows in of.told)
    return said + (f", and {rest} not shown" if rest else "")


def percent(part: int, whole: int) -> str:
    """A share that says 0% and 100% only of none and of all."""
    if not part or part == whole:
        return "100%" if part else "0%"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f}%"


def plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def escaped(text: str) -> str:
    """For a cell of a table."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
