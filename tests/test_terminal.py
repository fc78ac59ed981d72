"""What one sees: lines that fit the terminal, and a progress bar that never sticks to the next line."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from contextlib import closing, suppress

import pytest

from tests.helpers import Clone, Database, Project, environment

WIDTH = 70
ERASE = "\x1b[K"


class Terminal:
    """A terminal of WIDTH columns and the process that runs in it."""

    def __init__(self, project: Project, module: str) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=project.root, env=environment(), stdin=other, stdout=other, stderr=other
        )
        os.close(other)
        self._text = ""

    def read(self) -> bool:
        """Read what has come; False at the end."""
        with suppress(OSError):  # EIO: the process has ended
            if data := os.read(self._main, 65536):
                self._text += data.decode()
                return True
        return False

    def has(self, text: str) -> bool:
        return text in self._text

    def lines(self) -> list[str]:
        """What stands on the screen in the end: a carriage return begins a line anew and overwrites it."""
        found = []
        for line in self._text.replace("\r\n", "\n").split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part.removeprefix(ERASE) + ("" if part.startswith(ERASE) else shown[len(part) :])
            found.append(shown.rstrip())
        return found


@pytest.mark.parametrize("module", ["stages.extract", "stages.validate", "stages.export"])
def test_a_bar_leaves_nothing_behind(db: Database, project: Project, module: str) -> None:
    db.generate(20_000)
    project.refresh()
    project.extract()
    project.validate()
    if module == "stages.extract":
        shutil.rmtree(project.raw)
    elif module == "stages.validate":
        project.paths.verified("validate").unlink()
    terminal = Terminal(project, module)
    while terminal.read():
        pass
    assert terminal.process.wait() == 0
    assert terminal.has("rows/s]")
    assert all(line.startswith(f"{module.split('.')[1]}: ") for line in terminal.lines() if line)


def test_a_signal_s_words_stand_on_a_line_of_their_own(db: Database, large: Project) -> None:
    with closing(db.connect()):
        terminal = Terminal(large, "stages.extract")
        while not terminal.has(" rows/s]") and not terminal.has("0.00/"):
            assert terminal.read()
        terminal.process.send_signal(signal.SIGTERM)
        while terminal.read():
            pass
    assert terminal.process.wait() == 143, terminal.lines()
    assert "stopped by SIGTERM; nothing was published" in terminal.lines()


@pytest.mark.xdist_group("clones")
def test_lines_fit_the_terminal(reproduced: Clone) -> None:
    for width in (60, 100):
        for command in (
            ["python", "-m", "commands.summary"],
            ["python", "-m", "commands.query"],
            ["make", "help"],
        ):
            said = reproduced.run(*command, COLUMNS=str(width)).stdout.split("Next, for example:")[0]
            assert said
            assert max(map(len, said.splitlines())) <= width, command
