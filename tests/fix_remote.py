"""A remote: an S3 API over HTTP (moto_server), and a clone on a database of its own that pushes to it."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest

from benchmarks.s3 import KEYS, Served, serving
from tests.fix_clone import copy_tree, new_clone
from tests.fix_postgres import new_database
from tests.helpers import UNTIL, Clone, Database, event


class S3(Served):
    """With the client of a user."""

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )


@contextmanager
def serve(folder: Path, **env: str) -> Iterator[S3]:
    with serving(folder, **env) as running:
        yield S3(running.url, running.log)


@pytest.fixture(scope="session")
def s3(scratch: Path) -> Iterator[S3]:
    with serve(scratch) as running:
        yield running


_buckets = itertools.count()


@pytest.fixture
def bucket(s3: S3) -> str:
    name = f"bucket-{next(_buckets)}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def first_night(scratch: Path, server: dict[str, str]) -> Clone:
    """A clone with the first night of a database of its own. Read only."""
    db = new_database(server, "nights")
    fill(db)
    clone = new_clone(scratch, "nights")
    clone.env |= {"DATABASE_URL": db.url(), **KEYS}
    clone.change(("days: 90", "days: 5"))
    night(clone, UNTIL, "first night")
    return clone


@pytest.fixture
def own(first_night: Clone, db: Database, scratch: Path) -> Iterator[Clone]:
    """A clone after its first night, on a database with the same rows."""
    fill(db)
    path = Path(tempfile.mkdtemp(prefix="own ", dir=scratch))
    copy_tree(first_night.path, path)
    yield Clone(path, first_night.env | {"DATABASE_URL": db.url()})
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def pushing(own: Clone, s3: S3, bucket: str) -> Clone:
    """The same with a remote, to which nothing was pushed yet."""
    with_remote(own, s3, bucket)
    return own


def with_remote(clone: Clone, s3: S3, bucket: str) -> None:
    """What `make remote` and a commit do, without two seconds of DVC."""
    config = clone.path / ".dvc" / "config"
    text = config.read_text().replace("[core]\n", "[core]\n    remote = storage\n")
    storage = f"['remote \"storage\"']\n    url = s3://{bucket}/events\n    verify = true\n    endpointurl = {s3.url}\n"
    config.write_text(text + storage)
    clone.commit("a remote")


def object_in(s3: S3, bucket: str, content: bytes) -> dict[str, str]:
    """The object that `content` is kept as."""
    md5 = hashlib.md5(content).hexdigest()
    keys = [one["Key"] for one in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    (key,) = [key for key in keys if key.endswith(f"{md5[:2]}/{md5[2:]}")]
    return {"Bucket": bucket, "Key": key}


def fill(db: Database) -> None:
    """Five days with two rows each, the same in every database."""
    stamps = [f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00" for n in range(10)]
    db.insert(*(event(id=f"cproject{n:017d}", timestamp=stamp) for n, stamp in enumerate(stamps)))


def night(clone: Clone, until: date, message: str) -> str:
    """Refresh, run, commit; returns the commit."""
    clone.run("python", "-m", "commands.refresh", "--until", str(until), "--accept")
    clone.run("dvc", "repro")
    return clone.commit(message)


def answers(clone: Clone) -> list[tuple[Any, ...]]:
    """Rows a day as DuckDB answers in the clone."""
    with duckdb.connect(config={"file_search_path": str(clone.path)}) as connection:
        connection.execute(f"ATTACH '{clone.path}/data/analytics.duckdb' AS a (READ_ONLY)")
        return connection.execute(
            "SELECT timestamp::DATE::VARCHAR, count(*) FROM a.behavioral_events GROUP BY 1 ORDER BY 1"
        ).fetchall()


def bytes_of(clone: Clone) -> dict[str, bytes]:
    folders = [clone.path / "data" / name for name in ("raw", "export", "quarantine")]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(clone.path)): path.read_bytes() for path in found}


def copy_of(clone: Clone, name: str) -> Clone:
    """A fresh clone of the repository: no data, no cache, no DATABASE_URL."""
    path = clone.path.parent / f"{clone.path.name} {name}"
    clone.run("git", "clone", "-q", str(clone.path), str(path))
    env = {key: value for key, value in clone.env.items() if key != "DATABASE_URL"}
    return Clone(path, env)


def configure(clone: Clone, key: str, value: str) -> None:
    """What `dvc remote modify --local storage KEY VALUE` does, without a second of DVC."""
    local = clone.path / ".dvc" / "config.local"
    text = local.read_text() if local.exists() else "['remote \"storage\"']\n"
    kept = [line for line in text.splitlines() if not line.strip().startswith(f"{key} =")]
    local.write_text("\n".join([*kept, f"    {key} = {value}", ""]))
