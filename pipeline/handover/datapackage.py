"""datapackage.json: the tables and their files as a Data Package, version 2 (https://datapackage.org)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.dataset import LICENCES, Dataset
from pipeline.handover.described import Described, Part, meaning
from schemas.table import Column, Table
from schemas.types import Kind

PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"

# Of Parquet, by IANA.
MEDIA_TYPE = "application/vnd.apache.parquet"

# "any" for JSON: an event's details may be a list or a text, too, and `object` would promise more. And for bytes.
TYPES: dict[Kind, str] = {
    "text": "string",
    "enum": "string",
    "json": "any",
    "timestamp": "datetime",
    "timestamp_us": "datetime",
    "timestamptz": "datetime",
    "date": "date",
    "time": "time",
    "int": "integer",
    "smallint": "integer",
    "bigint": "integer",
    "float": "number",
    "real": "number",
    "bool": "boolean",
    "decimal": "number",
    "uuid": "string",
    "bytes": "any",
    "list": "any",
    "other": "string",
}


def datapackage(of: Described) -> dict[str, Any]:
    """The descriptor. `window`, `pseudonyms`, a field's `unit` and a table's `files` and `rows` are our own."""
    found: dict[str, Any] = {
        "$schema": PROFILE,
        "name": of.dataset.slug,
        "title": of.dataset.title,
        "description": of.holds,
    }
    if of.version is not None:
        found |= {
            "version": of.version.name,
            "commit": of.version.commit,
            "committed": str(of.version.committed),
            "citation": of.version.citation,
            "sha256": of.version.sha256,
            "quality": {"verdict": of.version.verdict, "sentence": of.version.sentence},
        }
    if of.dataset.licence is not None:
        named = {"name": of.dataset.licence} if of.dataset.licence in LICENCES else {}
        found["licenses"] = [{**named, "path": of.dataset.licence_url}]
    if people := contributors(of.dataset):
        found["contributors"] = people
    if of.ends is not None:
        found["window"] = {**dict(zip(("first", "until"), map(str, of.ends), strict=True)), "timezone": "UTC"}
    return {
        **found,
        "pseudonyms": of.pseudonyms,
        "resources": [resource(of, table, parts) for table, parts in of.tables],
    }


def contributors(dataset: Dataset) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"title": name, "roles": ["author"]} for name in dataset.authors]
    if dataset.contact is not None:
        key = "path" if dataset.contact.startswith("https://") else "email"
        found.append({key: dataset.contact, "roles": ["contact"]})
    return found


def resource(of: Described, table: Table, parts: Sequence[Part]) -> dict[str, Any]:
    """A table. Its days are files of their own, so their SHA-256 stand in `files`: `hash` is of a single file."""
    return {
        "name": table.name,
        "type": "table",
        "description": table.description,
        "path": [part.path for part in parts],
        "format": "parquet",
        "mediatype": MEDIA_TYPE,
        "bytes": sum(part.bytes for part in parts),
        "rows": sum(part.rows for part in parts),
        "schema": {
            "fields": [field(of, table, column) for column in table.columns],
            # No foreignKeys: the row that is pointed to may have been before the window.
            **({"primaryKey": [table.key]} if table.key in table.unique else {}),
        },
        "files": [
            {"path": part.path, "rows": part.rows, "bytes": part.bytes, "hash": f"sha256:{part.sha256}"}
            for part in parts
        ],
    }


def field(of: Described, table: Table, column: Column) -> dict[str, Any]:
    constraints: dict[str, Any] = {} if column.nullable else {"required": True}
    if column.name in table.unique:
        constraints["unique"] = True
    if values := of.values(column):
        constraints["enum"] = list(values)
    for rule in column.rules:
        if rule.pattern:
            constraints["pattern"] = rule.pattern
        if rule.limits is not None:
            constraints |= dict(zip(("minimum", "maximum"), rule.limits, strict=True))
    return {
        "name": column.name,
        "type": "string" if column.kind == "decimal" and column.type.duckdb == "VARCHAR" else TYPES[column.kind],
        "description": meaning(column, of.pseudonyms),
        **({"unit": column.unit} if column.unit else {}),
        **({"constraints": constraints} if constraints else {}),
    }
