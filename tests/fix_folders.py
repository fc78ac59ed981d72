"""Where tests write: in memory where there is enough of it, since hundreds of projects and databases wait for disks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ENOUGH = 4 * 2**30  # bytes; three workers use a half of it


def place() -> str:
    """A folder with a short name, because the embedded server's socket has to stand in what is made below it."""
    return str(MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH else Path("/tmp"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """`tmp_path` stands there, too, unless --basetemp says where. xdist tells its workers."""
    if not config.option.basetemp:
        config.option.basetemp = tempfile.mkdtemp(prefix="be-test-", dir=place())
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder, of the same name in each test: so a copy of a project names its files rightly."""
    path = tmp_path_factory.getbasetemp() / "here"
    path.mkdir()
    yield path
    # Away as a whole, whatever in it can't be removed or is still written to.
    path.rename(left := tmp_path_factory.mktemp("left") / "here")
    shutil.rmtree(left.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short folder that every user may pass, so that the embedded server of a clone can stand in it."""
    with tempfile.TemporaryDirectory(prefix="be-test-", dir=place()) as name:
        Path(name).chmod(0o755)
        yield Path(name)
