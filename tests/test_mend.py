"""Damaged objects in the cache and in the remote: found, named, and mended by what the message says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import with_venv
from tests.fix_remote import S3, bytes_of, copy_of, object_in, with_remote
from tests.helpers import USER_C, Clone

pytestmark = pytest.mark.xdist_group("remote")

FILE = "data/export/behavioral_events/event_date=2025-10-26/part-0.parquet"


def object_of(clone: Clone, path: str) -> Path:
    """The object in the cache of a file of the workspace."""
    content = (clone.path / path).read_bytes()
    objects = (clone.path / ".dvc/cache/files").rglob("*")
    return next(file for file in objects if file.is_file() and file.read_bytes() == content)


def flip(file: Path) -> None:
    """As chmod +w and an editor: the same file, another byte."""
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with open(file, "r+b") as opened:
        opened.write(content)


def empty(file: Path) -> None:
    file.chmod(0o644)
    file.write_bytes(b"")


def zero(file: Path) -> None:
    """As a file system that lost the content and not the size."""
    file.chmod(0o644)
    file.write_bytes(bytes(file.stat().st_size))


Damage = Callable[[Path], None]


def by_the_disk(damage: Damage) -> Damage:
    """The file keeps its rights, by which DVC takes it for whole. At one that can be written to it looks."""

    def change(file: Path) -> None:
        damage(file)
        file.chmod(0o444)

    return change


def link(clone: Clone, kind: str) -> None:
    clone.run("dvc", "config", "cache.type", kind)
    clone.run("dvc", "checkout", "--relink")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        pytest.param("hardlink", flip, id="hardlink, by chmod +w", marks=pytest.mark.long),
        pytest.param("symlink", by_the_disk(flip), id="symlink, by the disk", marks=pytest.mark.long),
    ],
)
def test_the_advice_leads_out_where_the_cache_is_damaged(own: Clone, kind: str, damage: Damage) -> None:
    """No remote: the file is made anew. What is printed is typed."""
    link(own, kind)
    before = bytes_of(own)
    damage(object_of(own, FILE))
    said = own.fails("python", "-m", "commands.query", "SELECT count(*) FROM behavioral_events")
    advice = re.search(r"next: +(.*); where that fails, (dvc repro --force)", said)
    assert advice is not None
    own.run("sh", "-c", f"{advice[1]} || {advice[2]}")
    own.run("dvc", "repro")
    own.run("python", "-m", "commands.query", "SELECT count(*) FROM behavioral_events")
    assert bytes_of(own) == before
    assert "nothing is damaged" in own.run("python", "-m", "commands.mend").stdout
    assert "up to date" in own.run("dvc", "repro").stdout


@pytest.mark.long
def test_damaged_files_are_replaced_from_where_they_are_whole(own: Clone, s3: S3, bucket: str) -> None:
    """DVC pushes what is in the cache, whole or not, and takes a folder for pushed by its list."""
    with_remote(own, s3, bucket)
    before = bytes_of(own)
    by_the_disk(flip)(object_of(own, FILE))
    own.run("dvc", "push")
    said = own.run("python", "-m", "commands.check", ok=False).stdout
    assert f"remote: 1 file damaged ({FILE} as " in said
    own.run("python", "-m", "commands.mend")  # the workspace has it whole
    own.run("python", "-m", "commands.check")
    for file, damage in ((FILE, empty), ("data/raw" + FILE.removeprefix("data/export"), zero)):
        by_the_disk(damage)(object_of(own, file))
    said = own.run("python", "-m", "commands.check", ok=False).stdout
    assert f"{FILE} as " in said
    assert "cache: 2 files damaged" in said
    own.run(*shlex.split(said.rpartition("next: ")[2]))
    own.run("python", "-m", "commands.check")
    other = copy_of(own, "other")
    other.run("dvc", "pull")
    assert bytes_of(other) == bytes_of(own) == before
    # S3 has no checksum of what was sent in parts: then the sizes of an output's files have to add up.
    content = (own.path / FILE).read_bytes()
    in_parts(s3, bucket, content, content)
    own.run("python", "-m", "commands.check")
    in_parts(s3, bucket, content, content[:-1])
    assert f"{FILE} as " in own.run("python", "-m", "commands.check", ok=False).stdout
    own.run("python", "-m", "commands.mend")
    own.run("python", "-m", "commands.check")
    # What is gone from the remote, DVC takes for pushed as long as the folder's list is there.
    s3.client().delete_object(**object_in(s3, bucket, content))
    said = own.run("python", "-m", "commands.check", ok=False).stdout
    assert f"remote: 1 file not there ({FILE}); next: dvc push" in said
    own.run("dvc", "push")
    assert own.run(*shlex.split(said.rpartition("nothing to send, ")[2])).stdout.count("replaced") == 2
    own.run("python", "-m", "commands.check")
    # The same without a whole copy: nothing is claimed to be mended.
    s3.client().delete_object(**object_in(s3, bucket, content))
    for file in (object_of(own, FILE), own.path / FILE):
        by_the_disk(flip)(file)
    assert "whole in no place" in own.run("python", "-m", "commands.mend", ok=False).stderr
    own.run("dvc", "repro")
    own.run("dvc", "push")
    own.run("python", "-m", "commands.check")
    assert bytes_of(own) == before


def in_parts(s3: S3, bucket: str, named: bytes, content: bytes) -> None:
    """Replace the object that `named` is kept as by `content`, sent as large files are."""
    client, place = s3.client(), object_in(s3, bucket, named)
    upload = client.create_multipart_upload(**place)["UploadId"]
    etag = client.upload_part(**place, UploadId=upload, PartNumber=1, Body=content)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    assert "-1" in client.head_object(**place)["ETag"]


@pytest.mark.long
def test_a_file_that_is_whole_nowhere_is_removed_and_made_anew(own: Clone, s3: S3, bucket: str) -> None:
    with_remote(own, s3, bucket)
    link(own, "hardlink")
    before = bytes_of(own)
    by_the_disk(flip)(own.path / FILE)
    own.run("dvc", "push")
    said = own.run("python", "-m", "commands.mend", ok=False)
    assert said.returncode == 6
    assert "1 file of the snapshot whole in no place, the damaged removed" in said.stderr
    own.run("dvc", "repro")
    own.run("dvc", "push")
    own.run("python", "-m", "commands.check")
    other = copy_of(own, "other")
    other.run("dvc", "pull")
    assert bytes_of(other) == before


@pytest.mark.long
def test_links_to_files_that_the_cache_has_no_longer(own: Clone) -> None:
    """With symlinks the workspace has no file of its own; DVC ends at a link that leads nowhere."""
    link(with_venv(own), "symlink")
    before = bytes_of(own)
    for mend in ("python -m commands.mend && dvc repro", "make repro"):
        object_of(own, FILE).unlink()
        assert "No such file" in own.fails("dvc", "repro", "--force")
        check = own.run("python", "-m", "commands.check", ok=False).stdout
        assert f"cache: 1 link to no file ({FILE}); next: python -m commands.mend" in check
        assert "1 link" in own.run("sh", "-c", mend).stdout
        assert bytes_of(own) == before


@pytest.mark.long
def test_days_that_share_an_object_are_mended_once(own: Clone, s3: S3, bucket: str) -> None:
    """Days without rows are one file for the cache. A whole copy of any of them is enough, and is not lost."""
    with_remote(own, s3, bucket)
    own.change(("days: 5", "days: 3"), ("user_id: null", f"user_id: {USER_C}"))
    own.run("dvc", "repro")
    own.run("dvc", "push")
    before = bytes_of(own)
    days = sorted(file for file in before if file.startswith("data/export/behavioral_events"))
    shared = [file for file in days if before[file] == before[days[0]]]
    assert len(shared) > 1
    cached = object_of(own, shared[0])
    by_the_disk(flip)(cached)
    for file in shared[1:]:
        (own.path / file).unlink()
    assert "cache: 1 file damaged" in own.run("python", "-m", "commands.check", ok=False).stdout
    assert own.run("python", "-m", "commands.mend").stdout.count("replaced data/") == 1
    own.run("dvc", "checkout", "--force")
    assert bytes_of(own) == before


def test_a_damaged_file_and_a_damaged_list_of_a_folder(own: Clone, s3: S3, bucket: str) -> None:
    with_remote(own, s3, bucket)
    own.run("dvc", "push")
    raw = own.hashes()["data/raw"]
    both = [own.path / ".dvc/cache/files/md5" / raw[:2] / raw[2:], object_of(own, FILE)]
    before = [file.read_bytes() for file in both]
    for file in both:
        by_the_disk(flip)(file)
    assert "cache: 2 files damaged" in own.run("python", "-m", "commands.check", ok=False).stdout
    own.run("python", "-m", "commands.mend")
    assert [file.read_bytes() for file in both] == before
    own.run("python", "-m", "commands.check")


@pytest.mark.long
def test_a_linked_file_that_was_written_to_is_brought_back(own: Clone, s3: S3, bucket: str) -> None:
    """DVC removes a damaged object that can be written to when it looks at it. So the check looks first."""
    with_remote(own, s3, bucket)
    own.run("dvc", "push")
    link(own, "hardlink")
    before = bytes_of(own)
    flip(own.path / FILE)
    assert "cache: 1 file damaged" in own.run("python", "-m", "commands.check", ok=False).stdout
    own.run("python", "-m", "commands.mend")
    own.run("dvc", "checkout", "--force")
    assert bytes_of(own) == before
