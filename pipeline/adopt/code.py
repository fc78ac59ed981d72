"""Python as ruff formats it: ruff is no part of what the pipeline runs on, so what is written is formatted here."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

WIDTH = 120
INDENT = "    "


class Call(NamedTuple):
    """name(part, part) or, without a name, a tuple. A part is code or a call; `key` stands before it with a =."""

    name: str
    parts: tuple[Part, ...]
    key: str = ""

    def flat(self) -> str:
        inner = ", ".join(part if isinstance(part, str) else part.flat() for part in self.parts)
        comma = "," if not self.name and len(self.parts) == 1 else ""
        return f"{self.opening}{inner}{comma})"

    @property
    def opening(self) -> str:
        return f"{self.key}={self.name}(" if self.key else f"{self.name}("


Part = str | Call


def lines(part: Part, indent: str, end: str = "", start: str = "") -> list[str]:
    """`part` on one line where it fits and is one, else opened, each of its parts on lines of their own.

    `start` and `end` are code before and after it.
    """
    flat = part if isinstance(part, str) else part.flat()
    if isinstance(part, str) or ("\n" not in flat and width(indent + start + flat + end) <= WIDTH):
        return [indent + line for line in f"{start}{flat}{end}".split("\n")]
    inner = [line for one in part.parts for line in lines(one, indent + INDENT, ",")]
    return [f"{indent}{start}{part.opening}", *inner, f"{indent}){end}"]


def string(text: str) -> str:
    """A literal, with the quotes that need fewer backslashes; what a terminal or an editor might obey as its code."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(character, quote) for character in text) + quote


def _escaped(character: str, quote: str) -> str:
    if character in ("\\", quote):
        return f"\\{character}"
    if character.isprintable():
        return character
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, character.encode("unicode-escape").decode())


def width(text: str) -> int:
    """The columns that it takes: two for a character such as the Chinese, none for an accent of its own."""
    if text.isascii():
        return len(text)
    narrow = {"Mn": 0, "Me": 0, "Cf": 0}
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else narrow.get(unicodedata.category(c), 1) for c in text)


def long_string(text: str, most: int) -> str:
    """A literal on as many lines of at most `most` columns as it takes, cut after spaces where there are some."""
    pieces, rest = [], text
    while width(string(rest)) > most:
        end = next(n for n in range(min(len(rest), most), 0, -1) if width(string(rest[:n])) <= most)
        space = rest.rfind(" ", 1, end)
        end = space + 1 if space > 0 else end
        pieces.append(string(rest[:end]))
        rest = rest[end:]
    return "\n".join([*pieces, string(rest)])
