"""A place where DVC keeps the files of versions, as objects named by their MD5: a cache, or a remote of any kind."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.files.layout import md5

# What DVC writes below a cache or remote: objects, and the cache of runs. Anything else there is not ours.
FOLDERS = ("files", "runs")

# For each kind of remote, by the begin of its URL, the package that DVC needs for it, and where credentials come from.
PACKAGES = {"s3": "dvc-s3", "gs": "dvc-gs", "azure": "dvc-azure", "ssh": "dvc-ssh"}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (or gcloud auth application-default login)",
    "azure": "AZURE_STORAGE_CONNECTION_STRING (or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY)",
    "ssh": "the keys of ~/.ssh (ssh HOST has to work without a question)",
}


@dataclass(frozen=True)
class Place:
    """A cache or a remote: files below `root` of `fs`, a DVC file system."""

    name: str
    fs: Any
    root: str
    local: bool

    def files(self) -> list[str]:
        """Every file that DVC keeps here, sorted. Raises PipelineError when the place can't be reached."""
        with explained(self.name):
            self.fs.fs.invalidate_cache()  # others write here, too
            found: list[str] = []
            for folder in FOLDERS:
                # Not asked before whether it exists: some stores say no of what is only the begin of names.
                with suppress(FileNotFoundError):
                    found += self.fs.find(self.fs.join(self.root, folder))
            if not found and not self.root.startswith("/"):
                self.fs.ls(self.root.split("/")[0])  # an empty bucket is no error, one that does not exist is
            return sorted(found)

    def objects(self) -> dict[str, str]:
        """For each object its MD5 (with .dir for the list of a folder) and the file that holds it."""
        parts = {file: file.split("/")[-3:] for file in self.files()}
        return {a + b: file for file, (kind, a, b) in parts.items() if kind == "md5" and len(a) == 2}

    @contextmanager
    def opened(self, file: str) -> Iterator[Path]:
        """The file as one on this machine: itself, or a copy for the length of the block."""
        if self.local:
            yield Path(file)
            return
        with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder:
            copy = Path(folder) / "object"
            with explained(self.name):
                self.fs.get_file(file, str(copy))
            yield copy

    def delete(self, file: str) -> None:
        """One that is gone already is no error: two remotes may be the same folder."""
        with explained(self.name), suppress(FileNotFoundError):
            self.fs.remove(file)

    def put(self, file: Path, to: str) -> None:
        with explained(self.name):
            self.fs.put_file(str(file), to)

    def told(self) -> dict[str, tuple[int, str]]:
        """What the store says of each object without its being read: its size, and its MD5 where it has that.

        Of a folder on this machine the MD5 is that of the content, which is read.
        """
        if self.fs.protocol == "local":
            return {file: (Path(file).stat().st_size, md5(Path(file))) for file in self.files()}
        return {file: (int(known["size"]), _checksum(known)) for file, known in self._listed().items()}

    def sizes(self) -> dict[str, int]:
        """The bytes of each object, by its file."""
        if self.fs.protocol != "local":
            return {file: int(known["size"]) for file, known in self._listed().items()}
        found = {}
        for file in self.objects().values():
            with suppress(FileNotFoundError):  # which another command may have deleted by now
                found[file] = Path(file).stat().st_size
        return found

    def _listed(self) -> dict[str, Mapping[str, Any]]:
        with explained(self.name), suppress(FileNotFoundError):
            self.fs.fs.invalidate_cache()
            listed: dict[str, Mapping[str, Any]] = self.fs.fs.find(self.fs.join(self.root, "files"), detail=True)
            return listed
        return {}

    def unfinished(self) -> list[tuple[str, str]]:
        """Uploads to S3 that were broken off in a large file: its name, and what S3 calls the upload.

        Their parts stay until somebody aborts them, and are in no list of files.
        """
        if self.fs.protocol != "s3":
            return []
        bucket, _, prefix = self.root.partition("/")
        below = f"{prefix}/files/".lstrip("/")
        with explained(self.name):
            listed = self.fs.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=below)
        return [(upload["Key"], upload["UploadId"]) for upload in listed.get("Uploads", [])]

    def abort(self, key: str, upload: str) -> None:
        bucket = self.root.partition("/")[0]
        with explained(self.name):
            self.fs.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)


def _checksum(known: Mapping[str, Any]) -> str:
    """The MD5 that a store says a file has, in hexadecimal; "" where it says none."""
    of_azure = (known.get("content_settings") or {}).get("content_md5")
    if of_azure:
        return bytes(of_azure).hex()
    if of_google := known.get("md5Hash"):
        with suppress(binascii.Error):
            return base64.b64decode(of_google).hex()
    return str(known.get("ETag", "")).strip('"')


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the way to a place raises into a PipelineError. `name` holds the URL of a remote."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # botocore's, aiohttp's, the system's: no common base
        said = " ".join(str(error).split())[:300] or type(error).__name__
        kind, scheme, _ = name.partition(" ")[2].partition("://")
        again = "nothing was lost, the same command goes on where this one stopped"
        if scheme and kind in CREDENTIALS:
            where = ".dvc/config; credentials from the environment or the home folder"
            expected = "a place that exists, that answers, and whose credentials may list, read and write it"
            command = "make remote URL=... ENDPOINT=..." if kind == "s3" else "make remote URL=..."
            next_step = f"check the address (dvc remote list, {command}) and {CREDENTIALS[kind]}; {again}"
        else:
            where, expected = ".dvc/config", "a folder that this user may list, read and write"
            next_step = f"check the folder, its rights and the disk (dvc remote list); {again}"
        raise PipelineError(
            f"can't read or write the {name}: {said}", where=where, expected=expected, next_step=next_step
        ) from None
