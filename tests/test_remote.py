"""Snapshots in a remote and in time: pushed, pulled, brought back, merged, forgotten. The S3 API is moto's."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest

from tests.conftest import UNTIL, USER_A, USER_B, USER_C, Clone, Database, event, new_clone

pytestmark = pytest.mark.xdist_group("remote")  # one S3 server, one first night

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}


@dataclass
class S3:
    """An S3 API at `url`, and what it was asked."""

    url: str
    log: Path

    def requests(self, method: str) -> list[str]:
        """The paths of all requests with this method so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return re.findall(rf'"{method} (/[^ ]*) HTTP', text)

    def forget_requests(self) -> None:
        self.log.write_text("")

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"s3-{port}.log"
    with open(log, "a") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, **env},
        )
    made = S3(f"http://127.0.0.1:{port}", log)
    while process.poll() is None:
        try:
            urllib.request.urlopen(made.url).close()
            break
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.05)  # until it answers
    try:
        yield made
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def s3(scratch: Path) -> Iterator[S3]:
    with serve(scratch) as running:
        yield running


_buckets = iter(range(1000))


@pytest.fixture
def bucket(s3: S3) -> str:
    name = f"bucket-{next(_buckets)}"
    s3.client().create_bucket(Bucket=name)
    return name


def commit(clone: Clone, message: str) -> str:
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", message)
    return clone.run("git", "rev-parse", "HEAD").stdout.strip()


def night(clone: Clone, until: date, message: str) -> str:
    """Refresh, run, commit; returns the commit."""
    clone.run("python", "-m", "commands.refresh", "--until", str(until))
    clone.run("dvc", "repro")
    return commit(clone, message)


def answers(clone: Clone) -> list[tuple[Any, ...]]:
    """Rows a day as DuckDB answers in the clone."""
    with duckdb.connect(config={"file_search_path": str(clone.path)}) as connection:
        connection.execute(f"ATTACH '{clone.path}/data/analytics.duckdb' AS a (READ_ONLY)")
        return connection.execute(
            "SELECT timestamp::DATE::VARCHAR, count(*) FROM a.behavioral_events GROUP BY 1 ORDER BY 1"
        ).fetchall()


def bytes_of(clone: Clone) -> dict[str, bytes]:
    files = [p for name in ("raw", "export", "quarantine") for p in sorted((clone.path / "data" / name).rglob("*"))]
    return {str(p.relative_to(clone.path)): p.read_bytes() for p in files if p.is_file()}


def fill(db: Database) -> None:
    """Five days with two rows each, the same in every database."""
    stamps = [f"{UNTIL - timedelta(days=n % 5 + 1)} 10:00:00" for n in range(10)]
    db.insert(*(event(id=f"cproject{n:017d}", timestamp=stamp) for n, stamp in enumerate(stamps)))


@pytest.fixture(scope="module")
def first_night(scratch: Path, server: dict[str, str]) -> Clone:
    """A clone with the first night of a database of its own. Read only."""
    Database(server, "postgres").run("CREATE DATABASE nights TEMPLATE prisma")
    db = Database(server, "nights")
    fill(db)
    clone = new_clone(scratch, "nights")
    clone.env |= {"DATABASE_URL": db.url(), **KEYS}
    clone.change(("days: 90", "days: 5"))
    night(clone, UNTIL, "first night")
    return clone


@pytest.fixture
def project(first_night: Clone, db: Database, scratch: Path) -> Iterator[Clone]:
    """A copy of it, on a database with the same rows."""
    fill(db)
    path = Path(tempfile.mkdtemp(prefix="project ", dir=scratch))
    shutil.copytree(first_night.path, path, dirs_exist_ok=True, symlinks=True)
    yield Clone(path, first_night.env | {"DATABASE_URL": db.url()})
    shutil.rmtree(path, ignore_errors=True)


def make(clone: Clone, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """make, as if its .venv were there: the tests' own is found on the PATH."""
    ready = clone.path / ".venv" / "bin" / ".ready"
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.touch()
    return clone.run("make", *arguments, ok=ok)


def with_remote(clone: Clone, s3: S3, bucket: str) -> None:
    make(clone, "remote", f"URL=s3://{bucket}/events", f"ENDPOINT={s3.url}")
    commit(clone, "a remote")


def copy_of(clone: Clone, name: str) -> Clone:
    """A fresh clone of the repository: no data, no cache, no DATABASE_URL."""
    path = clone.path.parent / f"{clone.path.name} {name}"
    clone.run("git", "clone", "-q", str(clone.path), str(path))
    env = {key: value for key, value in clone.env.items() if key != "DATABASE_URL"}
    return Clone(path, env)


def test_push_and_pull_and_a_clone_without_a_database(project: Clone, s3: S3, bucket: str) -> None:
    with_remote(project, s3, bucket)
    assert "key" not in project.text(".dvc/config").replace("hashkey", "")
    project.run("dvc", "push")
    other = copy_of(project, "pulled")
    before = other.run("python", "-m", "commands.check")
    assert before.stdout.splitlines() == [
        "check: pipeline and dvc.lock agree",
        # ten days' files, two lists, the quarantine and the database
        "check: remote holds all 14 files",
    ]
    # To DVC data/raw is no dep of validate; validate knows it by extract's report.
    params = other.text("params.yaml")
    (other.path / "params.yaml").write_text(params.replace("failure_cases: 100", "failure_cases: 99"))
    said = failing(other, "dvc", "repro", "--allow-missing", "--pull")
    assert "is not what extract wrote" in said
    assert "dvc pull, where it never was" in said
    (other.path / "params.yaml").write_text(params)
    other.run("dvc", "pull")
    assert "up to date" in other.run("dvc", "repro").stdout
    assert bytes_of(other) == bytes_of(project)
    assert answers(other) == answers(project)
    assert "events_per_day" in other.run("python", "-m", "commands.query").stdout
    assert other.run("git", "status", "--porcelain").stdout == ""


def test_a_night_for_cron(project: Clone, db: Database, s3: S3, bucket: str) -> None:
    """make night: what changed is committed and pushed, also what a night before could not push."""
    with_remote(project, s3, bucket)
    hub = f"{project.path} hub.git"
    project.run("git", "clone", "-q", "--bare", str(project.path), hub)
    project.run("git", "remote", "add", "origin", hub)
    project.run("git", "push", "-qu", "origin", "HEAD")
    make(project, "night", f"UNTIL={UNTIL}")
    here = project.run("git", "rev-parse", "HEAD").stdout
    assert "a remote" in project.run("git", "log", "-1", "--format=%s").stdout  # nothing changed
    for hour, url in ((1, "http://127.0.0.1:1"), (2, s3.url)):
        db.insert(event(timestamp=f"2025-10-27 0{hour}:00:00"))
        configure(project, "endpointurl", url)
        done = make(project, "night", f"UNTIL={UNTIL}", ok=False)
        assert (done.returncode == 0) == (url == s3.url)
    assert project.run("git", "log", "--format=%s", f"{here.strip()}..").stdout == "Snapshot\nSnapshot\n"
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert project.run("git", "rev-parse", "HEAD", "@{push}").stdout.split().count(here.strip()) == 0
    for rev in ("HEAD~1", "HEAD"):
        other = copy_of(project, rev)
        configure(other, "endpointurl", s3.url)
        other.run("git", "checkout", "-q", project.run("git", "rev-parse", rev).stdout.strip())
        other.run("dvc", "pull")


def failing(clone: Clone, *command: str) -> str:
    """What a failing command says: no traceback, no secret."""
    done = clone.run(*command, ok=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said
    assert "secret-key" not in said
    return said


def configure(clone: Clone, key: str, value: str) -> None:
    """What `dvc remote modify --local storage KEY VALUE` does, without a second of DVC."""
    local = clone.path / ".dvc" / "config.local"
    text = local.read_text() if local.exists() else "['remote \"storage\"']\n"
    kept = [line for line in text.splitlines() if not line.strip().startswith(f"{key} =")]
    local.write_text("\n".join([*kept, f"    {key} = {value}", ""]))


def test_a_remote_that_does_not_work(project: Clone, s3: S3, bucket: str, scratch: Path) -> None:
    """What one sees, that nothing is lost, and that the next push completes."""
    before = bytes_of(project)
    said = failing(project, "python", "-m", "commands.check")
    assert "no remote" in said.lower()
    assert "make remote URL=" in said
    with_remote(project, s3, bucket)

    configure(project, "url", "s3://no-such-bucket/events")
    assert "bucket does not exist" in failing(project, "dvc", "push")
    said = failing(project, "python", "-m", "commands.check")
    assert "can't read or write the remote s3://no-such-bucket/events" in said
    configure(project, "url", f"s3://{bucket}/events")

    configure(project, "endpointurl", "http://127.0.0.1:1")
    said = failing(project, "dvc", "push")
    assert "Could not connect" in said

    with serve(scratch, INITIAL_NO_AUTH_ACTION_COUNT="0") as guarded:  # knows no keys
        configure(project, "endpointurl", guarded.url)
        assert "Forbidden" in failing(project, "dvc", "push")
        said = failing(project, "python", "-m", "commands.check")
        assert said.count("check: ") == 2
        assert "can't read or write the remote s3://" in said
        assert "AWS_ACCESS_KEY_ID" in said

    configure(project, "endpointurl", s3.url)
    # A push that dies in its middle.
    process = subprocess.Popen(
        ["dvc", "push", "-j", "1"],
        cwd=project.path,
        env=project.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not s3.requests("PUT") and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bytes_of(project) == before
    project.run("dvc", "push")
    assert project.run("python", "-m", "commands.check").returncode == 0
    other = copy_of(project, "after trouble")
    configure(other, "endpointurl", s3.url)
    other.run("dvc", "pull")
    assert bytes_of(other) == before


def test_check_sees_what_is_missing_and_what_would_run(project: Clone, s3: S3, bucket: str) -> None:
    with_remote(project, s3, bucket)
    project.run("dvc", "push")
    other = copy_of(project, "gate")
    lock = json.dumps(other.hashes())
    day = project.path / "data/export/behavioral_events/event_date=2025-10-25/part-0.parquet"
    md5 = subprocess.run(["md5sum", day], capture_output=True, text=True, check=True).stdout.split()[0]
    s3.client().delete_object(Bucket=bucket, Key=f"events/files/md5/{md5[:2]}/{md5[2:]}")
    said = failing(other, "python", "-m", "commands.check")
    assert "1 file not there (data/export/behavioral_events/event_date=2025-10-25/part-0.parquet)" in said
    assert "pipeline and dvc.lock agree" in said
    other.change(("attempts: 6", "attempts: 6  # enough"))
    said = failing(other, "python", "-m", "commands.check")
    assert "pipeline and dvc.lock agree, but not with the commit: params.yaml; next: git commit" in said
    other.change(("strategy: view", "strategy: table"))
    done = make(other, "check", ok=False)
    assert done.returncode != 0
    assert "check: pipeline and dvc.lock: load would run; next: dvc repro" in done.stdout
    assert json.dumps(other.hashes()) == lock


def test_a_night_pushes_its_day_and_an_old_snapshot_comes_back(
    project: Clone, db: Database, s3: S3, bucket: str
) -> None:
    """In the same clone, in another one, and read without being checked out; a night pushes the new day only."""
    first = project.run("git", "rev-parse", "HEAD").stdout.strip()
    old, old_answers = bytes_of(project), answers(project)
    with_remote(project, s3, bucket)
    project.run("dvc", "push")
    db.insert(event(timestamp=f"{UNTIL} 10:00:00"))
    second = night(project, UNTIL + timedelta(days=1), "second night")
    s3.forget_requests()
    project.run("dvc", "push", "--all-commits")
    puts = s3.requests("PUT")
    lists = [path for path in puts if path.endswith(".dir")]
    assert (len(puts), len(lists)) == (4, 2)  # the new day in raw and in export, and their lists
    assert s3.requests("POST") == []  # no upload in parts
    new, new_answers = bytes_of(project), answers(project)
    assert new_answers != old_answers
    assert "extract.json" in project.run("dvc", "metrics", "diff", first, second).stdout.replace("\n", "")
    other = copy_of(project, "another machine")
    other.run("dvc", "pull")
    assert bytes_of(other) == new
    for clone in (project, other):
        clone.run("git", "checkout", "-q", first, "--", "watermark.yaml", "params.yaml", "dvc.lock", "data/reports")
        if clone is other:
            clone.run("dvc", "fetch")
        clone.run("dvc", "checkout")
        assert bytes_of(clone) == old
        assert answers(clone) == old_answers
        assert "up to date" in clone.run("dvc", "repro").stdout
    code = (
        "import duckdb\n"
        "from dvc.api import DVCFileSystem\n"
        f"DVCFileSystem(rev='{first}').get('data/export/behavioral_events', 'old', recursive=True)\n"
        "print(len(duckdb.sql(\"FROM read_parquet('old/*/*.parquet', hive_partitioning = false)\").fetchall()))"
    )
    assert other.run("python", "-c", code).stdout.strip() == str(sum(n for _, n in old_answers))


def test_rolling_back_and_forward_again(project: Clone, db: Database) -> None:
    """The procedure of the README, after a night that should not have been published."""
    good = project.run("git", "rev-parse", "HEAD").stdout.strip()
    before = bytes_of(project)
    db.insert(event(timestamp="2025-10-27 23:00:00"))
    bad = night(project, UNTIL, "a bad night")
    for command in commands_of_readme("Roll back"):
        project.run("sh", "-ec", command.replace("REV", good))
    assert bytes_of(project) == before
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in project.run("dvc", "repro").stdout
    project.run("git", "checkout", "-q", bad)
    project.run("dvc", "checkout")
    assert dict(answers(project))["2025-10-27"] == 3


def commands_of_readme(heading: str) -> list[str]:
    """The commands of the first shell block after a line that begins with `heading`."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    after = text[re.search(rf"^{heading}", text, re.MULTILINE).start() :]  # type: ignore[union-attr]
    block = re.search(r"```sh\n(.*?)```", after, re.DOTALL)
    assert block
    return [re.sub(r"\s+#.*", "", line) for line in block[1].splitlines() if line.strip()]


def test_there_and_back_gives_the_new_data(project: Clone, db: Database) -> None:
    """90, 30 and 90 days with the database changed and refreshed in between: never the first from a cache."""

    def days(n: int) -> None:
        text = re.sub(r"(?m)^  days: \d+$", f"  days: {n}", project.text("params.yaml"))
        (project.path / "params.yaml").write_text(text)

    first = bytes_of(project)
    days(2)
    project.run("dvc", "repro")
    db.insert(event(timestamp="2025-10-23 12:00:00"))
    days(5)
    project.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    project.run("dvc", "repro")
    assert bytes_of(project) != first
    assert dict(answers(project))["2025-10-23"] == 3
    db.run("DELETE FROM behavioral_events WHERE timestamp = '2025-10-23 12:00:00'")
    project.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    project.run("dvc", "repro")
    assert bytes_of(project) == first


def test_two_branches_that_both_refreshed(project: Clone, db: Database) -> None:
    project.run("git", "checkout", "-qb", "theirs")
    db.insert(event(timestamp="2025-10-27 21:00:00"))
    night(project, UNTIL, "their night")
    project.run("git", "checkout", "-q", "main")
    project.run("dvc", "checkout")
    db.insert(event(timestamp="2025-10-27 22:00:00"))
    night(project, UNTIL, "our night")
    merge = project.run("git", "merge", "theirs", ok=False)
    assert merge.returncode != 0
    conflicts = set(project.run("git", "diff", "--name-only", "--diff-filter=U").stdout.split())
    assert {"dvc.lock", "watermark.yaml"} <= conflicts
    assert conflicts <= {"dvc.lock", "watermark.yaml", *(f"data/reports/{n}.json" for n in REPORTS)}
    said = failing(project, "python", "-m", "stages.extract")
    assert "watermark.yaml is no YAML" in said or "watermark.yaml:" in said
    settle = commands_of_readme("Two people refreshed")
    assert len(settle) == 2
    for command in settle:
        as_module = command.replace("make refresh repro", f"python -m commands.refresh --until {UNTIL} && dvc repro")
        project.run("sh", "-ec", as_module)
    commit(project, "merged")
    assert dict(answers(project))["2025-10-27"] == 4
    assert "up to date" in project.run("dvc", "repro").stdout


REPORTS = ("extract", "validation", "quality", "load")


def test_a_user_is_forgotten(project: Clone, db: Database, s3: S3, bucket: str) -> None:
    """Three versions: without the user, with, and without again. Cache, remote and history are looked at."""
    before, without = project.run("git", "rev-parse", "HEAD").stdout.strip(), bytes_of(project)
    with_remote(project, s3, bucket)
    project.run("dvc", "push")
    db.insert(
        event(userId=USER_B, timestamp="2025-10-26 09:00:00"),
        event(userId=USER_C, timestamp="2025-10-25 09:00:00", eventData=f'{{"friend": "{USER_B}"}}'),
    )
    text = project.text("params.yaml")
    (project.path / "params.yaml").write_text(text.replace("strategy: view", "strategy: table"))
    holding = night(project, UNTIL, "with the user")
    project.run("dvc", "push")
    second = project.path.parent / "second remote"
    project.run("dvc", "remote", "add", "second", str(second))
    project.run("dvc", "push", "-r", "second")

    said = failing(project, "python", "-m", "commands.erase", USER_B, "--yes")
    assert f"the current snapshot still holds {USER_B}" in said
    assert "make refresh repro" in said

    db.run('DELETE FROM behavioral_events WHERE "userId" = %s OR "eventData"::text LIKE %s', [USER_B, f"%{USER_B}%"])
    (project.path / "params.yaml").write_text(text)
    after = night(project, UNTIL, "without the user")
    project.run("dvc", "push")
    current = bytes_of(project)

    failures, remembered = project.path / "data/reports/validation_failures.csv", project.path / ".dvc/tmp/exps/cache/b"
    for scratch in (failures, remembered):
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(f"{scratch.name} {USER_B}")
    copied = project.path / ".dvc/tmp/exps/standalone/params.yaml"
    copied.parent.mkdir(parents=True)
    copied.write_text(USER_B)
    said = failing(project, "python", "-m", "commands.erase", USER_B, "--yes")
    assert "copies of experiments still hold" in said
    assert failures.exists()
    copied.unlink()

    s3.forget_requests()
    dry = project.run("python", "-m", "commands.erase", USER_B).stdout
    assert f"version {holding[:10]}" in dry
    assert before[:10] not in dry
    assert after[:10] not in dry
    # Two days in raw and in export, and the table
    assert "5 files with 6 rows in 1 version" in dry
    assert "dry run, nothing was deleted" in dry
    assert s3.requests("DELETE") + s3.requests("POST") == []

    done = project.run("python", "-m", "commands.erase", USER_B, "--yes").stdout
    assert f"proof: {USER_B} is in none of" in done
    assert "5 files with 6 rows" in done
    assert not failures.exists()
    assert not remembered.exists()
    again = project.run("python", "-m", "commands.erase", USER_B, "--yes").stdout
    assert "0 files with 0 rows in 0 versions" in again

    folders = [project.path / "data", project.path / ".dvc", second]
    assert list(second.rglob("*.dir"))
    everywhere = subprocess.run(["grep", "-rl", USER_B, *folders], check=False)
    assert everywhere.returncode == 1
    assert bytes_of(project) == current
    other = copy_of(project, "elsewhere")
    other.run("dvc", "pull")
    assert bytes_of(other) == current
    other.run("git", "checkout", "-q", before)
    other.run("dvc", "remote", "add", "-f", "-d", "storage", f"s3://{bucket}/events")
    other.run("dvc", "remote", "modify", "storage", "endpointurl", s3.url)
    other.run("dvc", "pull")
    assert bytes_of(other) == without
    other.run("git", "checkout", "-qf", holding)
    spared = "data/export/behavioral_events/event_date=2025-10-24/part-0.parquet"
    read = f"from dvc.api import DVCFileSystem; DVCFileSystem(rev='{holding}').get('{spared}', '../spared')"
    other.run("python", "-c", read)
    assert (other.path.parent / "spared").read_bytes() == current[spared]
    lost = failing(other, "dvc", "pull")
    assert "missing" in lost.lower()


def test_what_erase_can_not_search_is_no_proof(project: Clone, scratch: Path) -> None:
    """A remote that is gone, and a damaged file in the cache."""
    erase = ["python", "-m", "commands.erase", USER_C, "--yes"]
    project.run("dvc", "remote", "add", "-d", "storage", str(scratch / "gone"))
    for command in (erase, erase[:-1]):
        said = failing(project, *command)
        assert f"the remote {scratch / 'gone'} holds no file at all" in said
        assert "--local-only" in said
    project.run("dvc", "push")
    cached = next(
        file
        for file in (project.path / ".dvc/cache/files").rglob("*")
        if file.is_file() and file.read_bytes()[:4] == b"PAR1"
    )
    whole = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(whole[:100])
    assert "proof: " in project.run(*erase).stdout  # the remote has it whole
    said = failing(project, *erase, "--local-only")
    assert "1 damaged file, not searched" in said
    assert f"1 damaged file may still hold {USER_C}" in said
    assert cached.name in said


def test_versions_of_every_stash_and_of_the_reflog_are_known(project: Clone) -> None:
    def versions() -> int:
        return int(
            project.run("python", "-c", "from pipeline.versions import store; print(len(store.history()))").stdout
        )

    before, lock = versions(), project.path / "dvc.lock"
    for n in range(2):
        lock.write_text(f"{project.text('dvc.lock')}# {n}\n")
        project.run("git", "stash")
    lock.write_text(f"{project.text('dvc.lock')}# amended away\n")
    commit(project, "to be lost")
    project.run("git", "reset", "--hard", "HEAD~1")
    assert versions() == before + 3


@pytest.mark.parametrize("user", ["x", "c" * 25 + "'; DROP TABLE x", "$(touch pwned)", USER_A + "\n"])
def test_only_a_cuid_can_be_erased(project: Clone, user: str) -> None:
    done = project.run("python", "-m", "commands.erase", user, ok=False)
    assert done.returncode == 2
    assert "is no user id" in done.stderr
    assert not (project.path / "pwned").exists()
