"""Working copies of windows of different length, one remote for all, and what they push to it.

The remote is an S3 API over HTTP on this machine, so that a request costs something, if less than on a network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.measuring import (
    DAY_BEFORE,
    PYTHON_M,
    ROOT,
    UNTIL,
    Filling,
    commit,
    forget,
    git,
    measure,
    set_param,
    working_copy,
)
from benchmarks.report import Run
from benchmarks.s3 import KEYS, Served, serving

DAY, MONTH = "day", "month"


class Window(NamedTuple):
    """So many days, and what a file holds: "" where params.yaml does not say."""

    days: int
    files: str = ""

    @property
    def title(self) -> str:
        return f"{self.days:,} days" + f", a file a {self.files}" * bool(self.files)

    @property
    def schema(self) -> str:
        return f"over_{self.days}"


class Pushed(NamedTuple):
    """What a night sent: requests of push, bytes of all objects and of DVC's lists of folders among them.

    `files` are the bytes of its new data files.
    """

    requests: int
    objects: int
    lists: int
    files: int


def windows(few: int, many: int) -> list[Window]:
    """The first is what the others are held against; of the others the last is held against the limits."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if "files" not in params["extract"]:
        return [Window(few), Window(many)]
    return [Window(few, DAY), Window(many, DAY), Window(many, MONTH)]


def fillings(rows: int, wanted: list[Window]) -> dict[str, Filling]:
    """A day more than the window, so that the night finds another one."""
    return {window.schema: Filling(rows, window.days + 1) for window in wanted}


class Copy(NamedTuple):
    """A working copy of the window, its environment, and where it pushes to."""

    folder: Path
    env: dict[str, str]
    window: Window
    remote: Served

    def refresh(self, until: str) -> Run:
        command = [*PYTHON_M, "commands.refresh", "--until", until, "--days", str(self.window.days)]
        return measure(command, self.folder, self.env)[0]

    def dvc(self, *arguments: str, expect: str = "") -> Run:
        return measure([*PYTHON_M, "dvc", *arguments], self.folder, self.env, expect=expect)[0]

    def begin(self) -> None:
        """Nothing made or pushed yet, the day before pinned."""
        forget(self.folder)
        self.remote.make_bucket(self.folder.name)
        self.refresh(DAY_BEFORE)

    def pull(self) -> Run:
        """Into a fresh clone of the commit that was pushed."""
        commit(self.folder)
        clone = self.folder.with_name("clone")
        try:
            git(self.folder.parent, "clone", "-q", str(self.folder), str(clone))
            run, _ = measure([*PYTHON_M, "dvc", "pull"], clone, self.env)
            if contents(clone) != contents(self.folder):
                raise SystemExit("bench: dvc pull did not bring the files that were pushed")
        finally:
            shutil.rmtree(clone, ignore_errors=True)
        return run

    def night(self) -> tuple[Run, Pushed]:
        """Refresh and dvc repro a night on; then push, unmeasured but for its bytes."""
        before = contents(self.folder)
        run = self.refresh(UNTIL).then(self.dvc("repro", expect="Running stage 'report'"))
        asked = len(self.remote.requests())
        put = len(self.remote.requests("PUT"))
        self.dvc("push")
        sizes = self.sizes(self.remote.requests("PUT")[put:])
        new = {digest: size for digest, size in contents(self.folder).items() if digest not in before}
        lists = sum(size for name, size in sizes.items() if name.endswith(".dir"))
        return run, Pushed(len(self.remote.requests()) - asked, sum(sizes.values()), lists, sum(new.values()))

    def sizes(self, requests: list[str]) -> dict[str, int]:
        """The bytes of each object that requests put, which has the name and the content of a file in DVC's cache."""
        found = (re.search(r"files/md5/../[0-9a-f]{30}(\.dir)?", path) for path in requests)
        names = {match[0] for match in found if match}
        return {name: (self.folder / ".dvc" / "cache" / name).stat().st_size for name in names}


def contents(folder: Path) -> dict[str, int]:
    """The size of each data file by the hash of its content, so that equal ones, as those without rows, count once."""
    files = [file for name in ("raw", "export") for file in (folder / "data" / name).rglob("*.parquet")]
    return {hashlib.md5(file.read_bytes()).hexdigest(): file.stat().st_size for file in files}


@contextmanager
def copies(folder: Path, env: Mapping[str, str], wanted: list[Window]) -> Iterator[list[Copy]]:
    """A working copy of each window, with a remote for all."""
    with serving(folder) as remote:
        found = []
        for window in wanted:
            url = f"{env['DATABASE_URL']}&schema={window.schema}"
            copy = Copy(
                folder / f"{window.schema.replace('_', '-')}{window.files}",
                {**env, **KEYS, "DATABASE_URL": url},
                window,
                remote,
            )
            working_copy(copy.folder, window.days)
            if window.files:
                set_param(copy.folder, "files", window.files)
            command = [*PYTHON_M, "commands.remote", f"s3://{copy.folder.name}/events", remote.url]
            measure(command, copy.folder, copy.env)
            commit(copy.folder)
            found.append(copy)
        yield found
