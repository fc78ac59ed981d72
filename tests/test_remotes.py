"""make remote: which addresses it takes, and what it says of others. What a folder is like as a remote."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from commands.remote import checked, remote
from pipeline.core.errors import PipelineError
from pipeline.core.paths import Paths
from tests.fix_remote import bytes_of, copy_of
from tests.helpers import Clone

pytestmark = pytest.mark.xdist_group("remote")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        pytest.param("s3://bucket/folder", "s3", id="S3"),
        pytest.param("s3://bucket", "s3", id="a bucket alone"),
        pytest.param("gs://bucket/a folder", "gs", id="Google"),
        pytest.param("azure://container/folder", "azure", id="Azure"),
        pytest.param("ssh://me@host:22/folder", "ssh", id="SSH"),
        pytest.param("/no such folder", "", id="a folder that is not there yet"),
        pytest.param('/a "folder"', "", id="with quotes"),
    ],
)
def test_addresses(url: str, kind: str) -> None:
    assert checked(Paths(), url) == (kind, url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("", "one of s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, azure://", id="nothing"),
        pytest.param("hdfs://host/x", "one of s3://BUCKET/FOLDER", id="another kind"),
        pytest.param("file:///x", "one of s3://BUCKET/FOLDER", id="file"),
        pytest.param("s3:/bucket/x", "one of s3://BUCKET/FOLDER", id="one slash"),
        pytest.param("s3://", "s3://BUCKET/FOLDER", id="no bucket"),
        pytest.param("azure:///x", "azure://CONTAINER/FOLDER", id="no container"),
        pytest.param("gs://a bucket/x", "gs://BUCKET/FOLDER", id="a blank in a bucket"),
        pytest.param("s3://bucket/x?y=1", "s3://BUCKET/FOLDER", id="a query"),
        pytest.param("ssh://host", "from the root of the disk on", id="no folder"),
        pytest.param("ssh://host:x/folder", "ssh://USER@HOST/FOLDER", id="no port"),
        pytest.param("ssh://me:secret-key@host/x", "without a password", id="a password"),
        pytest.param("data/x", "a folder outside of the project", id="in the project"),
        pytest.param(".", "a folder outside of the project", id="the project"),
        pytest.param("/no/such/folder", "a folder in one that is there; /no/such is not", id="no parent"),
        pytest.param("/etc/hostname", "this is a file", id="a file"),
    ],
)
def test_what_is_no_address(url: str, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        checked(Paths(), url)
    assert said in caught.value.expected
    assert caught.value.exit_code == 2
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "url", "said"),
    [
        pytest.param("host:9000", "s3://b/x", "make remote URL=s3://b/x ENDPOINT=https://host:9000", id="no scheme"),
        pytest.param("https://", "s3://b/x", "http(s)://HOST", id="no host"),
        pytest.param("https://host", "/a folder", "make remote URL='/a folder'", id="of a folder"),
    ],
)
def test_what_is_no_endpoint(endpoint: str, url: str, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        remote(Paths(), url, endpoint)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [pytest.param("gs", id="gs"), *(pytest.param(kind, id=kind, marks=pytest.mark.long) for kind in ("azure", "ssh"))],
)
def test_a_package_that_is_missing_is_named(own: Clone, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """When the remote is made, and where somebody else made it."""
    if importlib.util.find_spec(f"dvc_{kind}"):
        pytest.skip(f"dvc-{kind} is installed")
    monkeypatch.chdir(own.path)
    with pytest.raises(PipelineError, match=f"{kind}:// needs the package dvc-{kind}, which is not installed"):
        remote(Paths(), f"{kind}://there/x", "")
    assert "remote" not in own.text(".dvc/config")
    with open(".dvc/config", "a", encoding="utf-8") as config:
        config.write(f"    remote = storage\n['remote \"storage\"']\n    url = {kind}://there/x\n")
    said = own.fails("python", "-m", "commands.check")
    assert f"-m pip install dvc-{kind}" in said


def test_a_folder_with_a_blank(own: Clone, tmp_path: Path) -> None:
    place = tmp_path / "a place"
    said = own.make("remote", f"URL={place}").stdout
    assert f"remote: versions are kept in {place}; next: git commit" in said
    own.commit("a remote")
    own.run("dvc", "push", "-q")
    assert list(place.rglob("*.dir"))
    other = copy_of(own, "elsewhere")
    other.run("dvc", "pull", "-q")
    assert bytes_of(other) == bytes_of(own)
    assert "check: remote holds all 37 files" in other.run("python", "-m", "commands.check").stdout
    failed = own.make("remote", "URL=s3://", ok=False)
    assert failed.returncode == 2
    assert "next:     make remote URL=s3://BUCKET/FOLDER" in failed.stderr
