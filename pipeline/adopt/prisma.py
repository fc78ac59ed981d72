"""What schema.prisma says of a table and the database does not: words above fields, and what an update moves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

# A block ends with a brace at the begin of a line, which is how `prisma format` writes it.
_BLOCK = re.compile(r"((?:^[ \t]*///[^\n]*\n)*)^(?:model|view)\s+(\w+)\s*\{[ \t]*\n(.*?)^\}", re.S | re.M)
_FIELD = re.compile(r"^\s*(\w+)\s+\w+")
_WORDS = re.compile(r"///[ \t]?(.*)")
# Of a field, among the words above its model; and the name of a TypeScript type, which is no words.
_PROPERTY = re.compile(r"^\s*@property\s+(\w+)\s+-?\s*(.*)$")
_TYPE = re.compile(r"^\s*!?\[[\w.<>\[\] ]*\]\s*$")
_NAME = r'\(\s*(?:name:\s*)?"([^"]+)"'


class Model(NamedTuple):
    """One model. Columns go by the names that they have in the database."""

    name: str
    table: str
    schema: str | None
    words: str
    columns: Mapping[str, str]  # the words above each
    updated: frozenset[str]  # columns that Prisma sets to the present with each update


def read_models(folder: Path) -> list[Model]:
    """The models of all schema files in a folder: the one of the app may be split in several."""
    return [model for path in sorted(folder.rglob("*.prisma")) for model in parse(path.read_text(encoding="utf-8"))]


def parse(text: str) -> list[Model]:
    return [_model(words, name, body) for words, name, body in _BLOCK.findall(text)]


def _model(words: str, name: str, body: str) -> Model:
    said_above = _WORDS.findall(words)
    properties = {match[1]: match[2] for match in map(_PROPERTY.match, said_above) if match}
    above: list[str] = []
    columns, updated = {}, set()
    for line in body.splitlines():
        said = _WORDS.search(line)
        code = line.partition("//")[0] if '"' not in line else line[: said.start()] if said else line
        field = _FIELD.match(code)
        if field is None:
            above = [*above, said[1]] if said else []
            continue
        column = _found(rf"\s@map{_NAME}", code) or field[1]
        columns[column] = _joined([*above, said[1]] if said else above) or properties.get(field[1], "")
        if "@updatedAt" in code:
            updated.add(column)
        above = []
    return Model(
        name,
        _found(rf"^\s*@@map{_NAME}", body) or name,
        _found(rf"^\s*@@schema{_NAME}", body),
        _joined(line for line in said_above if not _PROPERTY.match(line)),
        columns,
        frozenset(updated),
    )


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.M)
    return match[1] if match else None


def _joined(lines: Iterable[str]) -> str:
    return " ".join(" ".join(line for line in lines if not _TYPE.match(line)).split())
