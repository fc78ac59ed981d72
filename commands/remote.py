"""Make a place the project's remote: s3://BUCKET/FOLDER, gs://, azure://, ssh:// or a folder. Writes .dvc/config.

Asks no place whether it is there: dvc push and python -m commands.check do.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.core.errors import ParamsError, PipelineError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import printable
from pipeline.versions import store
from pipeline.versions.place import PACKAGES

# DVC's name for the project's remote.
NAME = "storage"

# What an address of each kind looks like; a folder is a path.
FORMS = {
    "s3": "s3://BUCKET/FOLDER",
    "gs": "gs://BUCKET/FOLDER",
    "azure": "azure://CONTAINER/FOLDER",
    "ssh": "ssh://USER@HOST/FOLDER",
    "": "/FOLDER",
}

# Kinds of which another server than the usual one speaks the language.
WITH_ENDPOINT = ("s3", "gs")


def checked(paths: Paths, url: str) -> tuple[str, str]:
    """The kind and the address as DVC takes it. Raises ParamsError where it can't be one."""
    if "%" in url or any(character in url for character in "\r\n\t"):
        raise wrong("URL", url, "an address without % and control characters, which DVC's config can't hold", NEXT)
    kind, scheme, _ = url.partition("://")
    if not scheme:
        return "", str(folder(paths, url))
    if kind not in PACKAGES:
        raise wrong("URL", url, f"one of {', '.join(FORMS.values())}", NEXT)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError:
        host = None
    if not host or any(c.isspace() for c in parts.netloc) or parts.query or parts.fragment:
        raise wrong("URL", url, FORMS[kind], f"make remote URL={FORMS[kind]}")
    if kind == "ssh" and not parts.path.strip("/"):
        raise wrong("URL", url, f"{FORMS[kind]}, from the root of the disk on", f"make remote URL={FORMS[kind]}")
    if parts.password:
        raise wrong("URL", f"{kind}://...", "an address without a password: .dvc/config is in Git", NEXT_SSH)
    return kind, url


NEXT = "make remote URL=s3://BUCKET/FOLDER"
NEXT_SSH = f"make remote URL={FORMS['ssh']}, with a key of ~/.ssh"


def folder(paths: Paths, url: str) -> Path:
    """A folder as an absolute path. Raises ParamsError where it can't be one, or lies in the project."""
    if not url:
        raise wrong("URL", url, f"one of {', '.join(FORMS.values())}", NEXT)
    path = Path(url).expanduser().absolute()
    root = paths.root.absolute()
    if "\n" in url or (":" in url.split("/")[0]):
        raise wrong("URL", url, f"one of {', '.join(FORMS.values())}", NEXT)
    if path.resolve() == root.resolve() or root.resolve() in path.resolve().parents:
        raise wrong("URL", url, "a folder outside of the project, best on another disk", "make remote URL=/FOLDER")
    if path.exists() and not path.is_dir():
        raise wrong("URL", url, "a folder; this is a file", "make remote URL=/FOLDER")
    if not path.parent.is_dir():
        made = shlex.quote(str(path))
        raise wrong(
            "URL", url, f"a folder in one that is there; {path.parent} is not", f"mkdir -p {made}, then the same"
        )
    return path


def wrong(name: str, given: str, expected: str, next_step: str) -> ParamsError:
    return ParamsError(
        f"{name} is {printable(given)!r}", where="the command line", expected=expected, next_step=next_step
    )


def check_package(kind: str) -> None:
    """Raise PipelineError where what DVC needs for this kind of place is not installed."""
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package.replace("-", "_")) is None:
        raise PipelineError(
            f"{kind}:// needs the package {package}, which is not installed",
            where=f"{sys.prefix}, where Python's packages are",
            expected=package,
            next_step=f"{shlex.quote(sys.executable)} -m pip install {package}, then the same command again",
        )


def remote(paths: Paths, url: str, endpoint: str) -> None:
    kind, address = checked(paths, url)
    if endpoint and kind not in WITH_ENDPOINT:
        raise wrong(
            "ENDPOINT", endpoint, f"none: {FORMS[kind]} says where it is", f"make remote URL={shlex.quote(url)}"
        )
    if endpoint and not (endpoint.startswith(("http://", "https://")) and urlsplit(endpoint).hostname):
        example = f"make remote URL={shlex.quote(url)} ENDPOINT=https://{endpoint.rpartition('/')[2]}"
        raise wrong("ENDPOINT", endpoint, "http(s)://HOST", example)
    check_package(kind)
    with store.project() as repo, repo.config.edit("repo") as config:
        config.setdefault("remote", {})[NAME] = {"url": address, "verify": True}
        if endpoint:
            config["remote"][NAME]["endpointurl"] = endpoint
        config.setdefault("core", {})["remote"] = NAME
    print(f"remote: versions are kept in {address}; next: git commit -m 'A remote' .dvc/config, then dvc push")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.remote", description=__doc__)
    parser.add_argument("url", metavar="URL", help=", ".join(FORMS.values()))
    parser.add_argument(
        "endpoint", metavar="ENDPOINT", nargs="?", default="", help="http(s)://HOST that is not Amazon's"
    )
    args = parser.parse_args()
    remote(project(), args.url, args.endpoint)


if __name__ == "__main__":
    run("remote", main)
