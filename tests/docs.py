"""README and docs as they are read: pages and their blocks, which are run as they are written.

As a program it writes the generated parts anew.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT, Clone

PAGES = {path.stem: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
FENCE = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.S | re.M)
GENERATED = re.compile(
    r"^(?P<head><!-- generated: (?P<command>python -c [^\n]*) -->\n\n)(?P<text>(?:\|[^\n]*\n)+)", re.M
)


class Block(NamedTuple):
    """A block of code on a page; `note` is the comment that stands directly above it, which readers don't see."""

    page: str
    number: int
    language: str
    text: str
    note: str

    @property
    def id(self) -> str:
        return f"{self.page} {self.number} {self.language}"

    @property
    def not_run(self) -> bool:
        return self.note.startswith("not run: ")


def text(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(*pages: str, language: str = "") -> list[Block]:
    """The blocks of pages, all by default, in the order in which they are written."""
    found = [
        Block(page, number, match["language"], match["text"], match["note"] or "")
        for page in pages or PAGES
        for number, match in enumerate(FENCE.finditer(text(page)), 1)
    ]
    return [block for block in found if language in ("", block.language)]


def with_venv(clone: Clone) -> Clone:
    """A clone whose .venv is the tests' own, as if `make setup` and `make lint` had made it."""
    folder, own = clone.path / ".venv", Path(sys.executable).parent.parent
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for program in (own / "bin").iterdir():
        if not program.name.startswith(".ready"):
            (folder / "bin" / program.name).symlink_to(program)
    for name in ("lib", "lib64", "include", "dask"):
        (folder / name).symlink_to(own / name)
    if (own / "pyvenv.cfg").exists():
        shutil.copy(own / "pyvenv.cfg", folder)
    for ready in (".ready", ".ready-dev", ".ready-dask"):
        (folder / "bin" / ready).touch()
    return clone


def fill_in(command: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        command = re.sub(rf"\b{word}\b", lambda _, value=value: value, command)  # type: ignore[misc]
    return command


def run_shell(clone: Clone, block: Block, words: Mapping[str, str], **env: str) -> str:
    """Run a block of commands as one script that ends at the first failure; returns what it printed."""
    path = f"{clone.path / '.venv' / 'bin'}{os.pathsep}{clone.env['PATH']}"
    done = clone.run("sh", "-ec", fill_in(block.text, words), PATH=path, **env)
    return done.stdout


def run_console(clone: Clone, block: Block) -> None:
    """Run the command after `$ `, and find the lines below it in what it prints, in order; `...` stands for any."""
    command = block.text.removeprefix("$ ").splitlines()[0]
    done = subprocess.run(
        shlex.split(command),
        cwd=clone.path,
        env={**clone.env, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    shows(block, done.stdout + done.stderr)


def shows(block: Block, said: str) -> None:
    """The lines below the command are among those that it printed."""
    command, *expected = block.text.removeprefix("$ ").splitlines()
    printed = said.splitlines()
    position = 0
    for line in expected:
        if line != "...":
            assert line in printed, f"{line!r} is not in\n{said}"
            assert command.startswith("make") or line in printed[position:]
            position = printed.index(line)


def generate(written: str) -> str:
    """A page with each table that has its command in a comment above it made anew."""

    def anew(match: re.Match[str]) -> str:
        command = [sys.executable, *shlex.split(match["command"])[1:]]
        return match["head"] + subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    return GENERATED.sub(anew, written)


if __name__ == "__main__":
    for path in PAGES.values():
        path.write_text(generate(path.read_text(encoding="utf-8")), encoding="utf-8")
