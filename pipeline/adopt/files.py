"""The files that adopting a table writes: its own in schemas/, its line in tables.py, its name in params.yaml."""

from __future__ import annotations

import ast
import keyword
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from pipeline.adopt.code import Call, lines
from pipeline.core.errors import ContractError
from pipeline.core.params import load_yaml

# Of a table, which names folders and files, and stands in patterns.
NAMES = re.compile(r"[A-Za-z0-9_-]+")


class Declared(NamedTuple):
    """Where a table is declared."""

    file: Path
    constant: str


def declared(folder: Path) -> dict[str, Declared]:
    """The tables of the modules of a folder, by their names."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            match node:
                case ast.Assign(targets=[ast.Name(constant)], value=ast.Call(func=ast.Name("Table"), keywords=words)):
                    for word in words:
                        if word.arg == "name" and isinstance(word.value, ast.Constant):
                            found[str(word.value.value)] = Declared(file, constant)
    return found


def snake(name: str) -> str:
    """A name for a module: DocumentAuditLog is document_audit_log."""
    words = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", name)
    text = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if not text or text[0].isdigit() or keyword.iskeyword(text) or keyword.issoftkeyword(text):
        text = f"table_{text}".rstrip("_")
    return text


def place_for(folder: Path, name: str) -> Declared:
    """A file that no other table and no other module of the folder has. An own one is found again."""
    known = declared(folder)
    if name in known:
        return known[name]
    taken = {path.stem for path in folder.iterdir()} | {one.constant.lower() for one in known.values()}
    stem = snake(name)
    names = [stem, *(f"{stem}_{number}" for number in range(2, len(taken) + 3))]
    free = next(one for one in names if one not in taken)
    return Declared(folder / f"{free}.py", free.upper())


def with_table(path: Path, module: str, constant: str) -> str:
    """tables.py with one table more. Raises ContractError where it is not written as it was."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    listed = [node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TABLES"]
    imported = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("schemas.")
    ]
    if len(listed) != 1 or not isinstance(listed[0].value, ast.Tuple) or not imported:
        raise ContractError(
            f"{path.name} has no line TABLES: tuple[Table, ...] = (...) to add the table to",
            where=str(path),
            expected="a tuple of the tables, each imported from its own file",
            next_step=f"git checkout -- {path}, then the same command again",
        )
    names = [ast.unparse(element) for element in listed[0].value.elts]
    if constant in names:
        return text
    tables = lines(Call("", (*names, constant)), "", start="TABLES: tuple[Table, ...] = ")
    line = f"from schemas.{module} import {constant}"
    before = next((node for node in imported if _natural(node.module) > _natural(f"schemas.{module}")), None)
    at = (before.lineno if before else (imported[-1].end_lineno or 0) + 1) - 1
    old = text.splitlines()
    new = [*old[: listed[0].lineno - 1], *tables, *old[listed[0].end_lineno :]]
    return "\n".join([*new[:at], line, *new[at:], ""])


def _natural(name: str | None) -> list[object]:
    """How ruff sorts imports: numbers by their value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name or "")]


def with_name(path: Path, name: str, drop: Collection[str]) -> str:
    """params.yaml whose `tables` has one name more and those of `drop` less, all else as it is."""
    text = path.read_text(encoding="utf-8")
    old = load_yaml(path, text)["tables"]
    new = [*(one for one in old if one not in drop and one != name), name]
    if new == old:
        return text
    root = yaml.compose(text, yaml.SafeLoader)
    assert root is not None  # it was loaded and has the key
    value = next(value for key, value in root.value if key.value == "tables")
    if value.flow_style:
        return f"{text[: value.start_mark.index]}[{', '.join(map(_scalar, new))}]{text[value.end_mark.index :]}"
    rows = text.splitlines(keepends=True)
    gone = {item.start_mark.line for item in value.value if item.value not in new[:-1]}
    last = value.value[-1].start_mark.line
    item = f"{' ' * value.start_mark.column}- {_scalar(name)}\n"
    return "".join(
        ("" if number in gone else row) + (item if number == last else "") for number, row in enumerate(rows)
    )


def _scalar(name: str) -> str:
    return name if yaml.safe_load(name) == name else f"'{name}'"


def write_all(contents: Mapping[Path, str]) -> None:
    """Replace or make these files, all of them or, after an error, none."""
    before = {path: path.read_bytes() if path.exists() else None for path in contents}
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    try:
        for path, text in contents.items():
            beside[path].write_text(text, encoding="utf-8")
        for path in contents:
            os.replace(beside[path], path)
    except BaseException:
        for path, content in before.items():
            beside[path].unlink(missing_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                path.write_bytes(content)
        raise
