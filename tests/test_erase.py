"""A user is forgotten in all versions, in the cache, the remotes and the workspace."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.docs import blocks, run_shell
from tests.fix_prune import in_bucket
from tests.fix_remote import S3, bytes_of, copy_of, night, with_remote
from tests.helpers import UNTIL, USER_A, USER_B, USER_C, Clone, Database, cuid, event

pytestmark = pytest.mark.xdist_group("remote")


# Two versions more, pushed: with another content of a file, and with the first again. In one process, because DVC takes
# longer to start than to work.
MAKE = """
import subprocess, sys
from pathlib import Path
from dvc.repo import Repo
file, other = map(Path, sys.argv[1:])
first = file.read_bytes()
for content in (other.read_bytes(), first):
    file.unlink()
    file.write_bytes(content)
    with Repo(".") as repo:
        repo.commit("export", force=True)
    subprocess.run(["git", "commit", "-qam", "another"], check=True)
with Repo(".") as repo:
    repo.push(all_commits=True)
"""


def test_a_user_is_forgotten(pushing: Clone, s3: S3, bucket: str, tmp_path: Path) -> None:
    """The version between two others loses the file that holds the user, in cache and remote, and nothing else goes."""
    before, day = bytes_of(pushing), "data/export/behavioral_events/event_date=2025-10-26/part-0.parquet"
    rows = pq.read_table(pushing.path / day)
    place = rows.column_names.index("userId")
    pq.write_table(rows.set_column(place, rows.field(place), pa.array([USER_B] * len(rows))), tmp_path / "other")
    pushing.run("python", "-c", MAKE, day, str(tmp_path / "other"))
    (holding,) = cached(pushing, USER_B)
    pushed, md5 = in_bucket(s3, bucket), "".join(holding.parts[-2:])
    assert md5 in pushed
    only_look, for_good = blocks("erase", language="sh")[0].text.splitlines()
    s3.forget_requests()
    said = say(pushing, only_look)
    commit = pushing.run("git", "rev-parse", "HEAD~1").stdout
    assert re.findall(r"version (\w+) of", said) == [commit[:10]]
    assert "1 file with 2 rows in 1 version" in said
    assert s3.requests("DELETE") + s3.requests("POST") == []
    assert holding.exists()
    assert f"proof: {USER_B} is in none of" in say(pushing, for_good)
    assert cached(pushing, USER_B) == []
    assert in_bucket(s3, bucket) == pushed - {md5}
    assert bytes_of(pushing) == before


def say(clone: Clone, command: str) -> str:
    """What a command of the page prints."""
    page = blocks("erase", language="sh")[0]
    return run_shell(clone, page._replace(text=command), {"USER_ID": USER_B})


@pytest.mark.long
def test_a_user_is_forgotten_wherever_the_id_is(own: Clone, db: Database, s3: S3, bucket: str) -> None:
    """Three versions: without the user, with, and without again. Cache, remotes, history, copies are looked at."""
    before, without = own.run("git", "rev-parse", "HEAD").stdout.strip(), bytes_of(own)
    with_remote(own, s3, bucket)
    own.run("dvc", "push")
    db.insert(
        event(userId=USER_B, timestamp="2025-10-26 09:00:00"),
        event(userId=USER_C, timestamp="2025-10-25 09:00:00", eventData=f'{{"friend": "{USER_B}"}}'),
    )
    db.run(
        'INSERT INTO context_metadata (id, "userId", timestamp) VALUES (%s, %s, %s)',
        [cuid(), USER_B, "2025-10-26 08:00:00"],
    )
    text = own.text("params.yaml")
    (own.path / "params.yaml").write_text(text.replace("strategy: view", "strategy: table"))
    holding = night(own, UNTIL, "with the user")
    own.run("dvc", "push")
    second = own.path.parent / "second remote"
    own.run("dvc", "remote", "add", "second", str(second))
    own.run("dvc", "push", "-r", "second")

    said = own.fails("python", "-m", "commands.erase", USER_B, "--yes")
    assert f"the current snapshot still holds {USER_B}" in said
    assert "make refresh repro" in said

    db.run('DELETE FROM behavioral_events WHERE "userId" = %s OR "eventData"::text LIKE %s', [USER_B, f"%{USER_B}%"])
    db.run('DELETE FROM context_metadata WHERE "userId" = %s', [USER_B])
    (own.path / "params.yaml").write_text(text)
    after = night(own, UNTIL, "without the user")
    own.run("dvc", "push")
    current = bytes_of(own)

    failures, remembered = own.path / "data/reports/validation_failures.csv", own.path / ".dvc/tmp/exps/cache/b"
    for scratch in (failures, remembered):
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(f"{scratch.name} {USER_B}")
    copied = own.path / ".dvc/tmp/exps/standalone/params.yaml"
    copied.parent.mkdir(parents=True)
    copied.write_text(USER_B)
    said = own.fails("python", "-m", "commands.erase", USER_B, "--yes")
    assert "copies of experiments still hold" in said
    assert failures.exists()
    copied.unlink()

    s3.forget_requests()
    here, elsewhere = blocks("erase", language="sh")  # the page's own commands
    only_look, for_good = here.text.splitlines()
    dry = say(own, only_look)
    assert f"version {holding[:10]}" in dry
    assert before[:10] not in dry
    assert after[:10] not in dry
    # Two days of events in raw and in export; one of check-ins, the same file in both; the tables, with a session, too
    assert "6 files with 9 rows in 1 version" in dry
    assert "dry run, nothing was deleted" in dry
    local = own.run("python", "-m", "commands.erase", USER_B, "--local-only").stdout
    assert f"next: python -m commands.erase {USER_B} --local-only --yes" in local
    assert s3.requests("DELETE") + s3.requests("POST") == []

    # A damaged copy does not vouch for the others: the remote has these two whole.
    holding_files = cached(own, USER_B)
    other = next(file for file in (own.path / ".dvc/cache/files").rglob("*") if file.is_file())
    for file, content in zip(holding_files[:2], (b"", other.read_bytes()), strict=True):
        file.chmod(0o644)
        file.write_bytes(content)
    done = say(own, for_good)
    assert not any(file.exists() for file in holding_files)
    assert f"proof: {USER_B} is in none of" in done
    assert "6 files with 9 rows" in done
    assert not failures.exists()
    assert not remembered.exists()
    again = own.run("python", "-m", "commands.erase", USER_B, "--yes").stdout
    assert "0 files with 0 rows in 0 versions" in again

    folders = [own.path / "data", own.path / ".dvc", second]
    assert list(second.rglob("*.dir"))
    everywhere = subprocess.run(["grep", "-rl", USER_B, *folders], check=False)
    assert everywhere.returncode == 1
    assert bytes_of(own) == current
    other = copy_of(own, "elsewhere")
    assert f"proof: {USER_B} is in none of" in run_shell(other, elsewhere, {"USER_ID": USER_B})
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
    lost = other.fails("dvc", "pull")
    assert "missing" in lost.lower()


@pytest.mark.long
def test_what_erase_can_not_search_is_no_proof(own: Clone, scratch: Path) -> None:
    """A remote that is gone, and a damaged file in the cache."""
    erase = ["python", "-m", "commands.erase", USER_C, "--yes"]
    said = own.fails(*erase[:-1])
    assert "no remote is configured" in said
    assert f"python -m commands.erase {USER_C} --local-only" in said
    assert "no file holds this user" in own.run(*erase[:-1], "--local-only").stdout
    own.run("dvc", "remote", "add", "-d", "storage", str(scratch / "gone"))
    for command in (erase, erase[:-1]):
        said = own.fails(*command)
        assert f"the remote {scratch / 'gone'} holds no file at all" in said
        assert "--local-only" in said
    own.run("dvc", "push")
    cached = next(
        file
        for file in (own.path / ".dvc/cache/files").rglob("*")
        if file.is_file() and file.read_bytes()[:4] == b"PAR1"
    )
    whole = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(whole[:100])
    assert "proof: " in own.run(*erase).stdout  # the remote has it whole
    said = own.fails(*erase, "--local-only")
    assert "1 damaged file, not searched" in said
    assert f"1 damaged file may still hold {USER_C}" in said
    assert cached.name in said


@pytest.mark.parametrize(
    "user",
    [
        pytest.param("x", id="a letter"),
        pytest.param("c" * 25 + "'; DROP TABLE x", id="SQL"),
        pytest.param("$(touch pwned)", id="shell"),
        pytest.param(USER_A + "\n", id="a newline"),
    ],
)
def test_only_a_cuid_can_be_erased(own: Clone, user: str) -> None:
    done = own.run("python", "-m", "commands.erase", user, ok=False)
    assert done.returncode == 2
    assert "is no user id" in done.stderr
    assert not (own.path / "pwned").exists()


def with_user(own: Clone, db: Database) -> None:
    """A version that holds USER_B, and one after it that does not."""
    db.insert(event(userId=USER_B, timestamp="2025-10-26 09:00:00"))
    night(own, UNTIL, "with the user")
    db.run('DELETE FROM behavioral_events WHERE "userId" = %s', [USER_B])
    night(own, UNTIL, "without the user")


def erase(clone: Clone, *more: str, ok: bool = True) -> str:
    done = clone.run("python", "-m", "commands.erase", USER_B, "--yes", *more, ok=ok)
    return done.stdout + done.stderr


def cached(clone: Clone, user: str) -> list[Path]:
    """The objects of the cache that hold a user."""
    found = subprocess.run(
        ["grep", "-rl", user, clone.path / ".dvc/cache"], capture_output=True, text=True, check=False
    )
    return [Path(line) for line in found.stdout.splitlines()]


@pytest.mark.long
def test_erase_waits_for_nobody_and_works_beside_nobody(own: Clone, db: Database) -> None:
    with_user(own, db)
    shutil.rmtree(own.path / "data/raw")
    with closing(db.connect()) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("LOCK TABLE behavioral_events IN ACCESS EXCLUSIVE MODE")
        running = subprocess.Popen(["dvc", "repro"], cwd=own.path, env=own.env, stdout=subprocess.DEVNULL)
        db.wait_for_lock()
        said = erase(own, "--local-only", ok=False)
        assert "another command of DVC works in this project" in said
        assert cached(own, USER_B)
    running.wait(60)
    assert "proof:" in erase(own, "--local-only")


@pytest.mark.long
def test_files_of_no_version_are_spared(own: Clone, db: Database) -> None:
    """As those of another project that uses the same cache."""
    db.insert(event(userId=USER_B, timestamp="2025-10-26 09:00:00"))
    own.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    own.run("dvc", "repro")  # and no commit
    db.run('DELETE FROM behavioral_events WHERE "userId" = %s', [USER_B])
    own.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    own.run("dvc", "repro")
    holding = cached(own, USER_B)
    said = erase(own, "--local-only", ok=False)
    assert "of no version that Git knows" in said
    assert cached(own, USER_B) == holding
    assert "proof:" in erase(own, "--local-only", "--also-unknown")
    assert cached(own, USER_B) == []


@pytest.mark.long
def test_in_a_subfolder_of_a_repository_after_a_kill_of_extract(own: Clone, db: Database) -> None:
    with_user(own, db)
    inner = own.path.with_name("outer") / "inner"
    inner.parent.mkdir()
    own.path.rename(inner)
    (inner / ".git").rename(inner.parent / ".git")
    clone = Clone(inner, own.env)
    clone.run("git", "add", "-A", "..")
    clone.run("git", "commit", "-qm", "moved")
    # What a killed extract leaves beside data/raw is of no version.
    left = inner / "data/.raw.killed/behavioral_events/event_date=2025-10-26/part-0.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(cached(clone, USER_B)[0].read_bytes())
    assert "proof:" in erase(clone, "--local-only", "--also-unknown")
    assert not left.exists()
    inner.parent.rename(own.path.with_name("used"))


@pytest.mark.long
def test_tables_under_another_key_are_counted(own: Clone, db: Database) -> None:
    own.change(("pseudonymize: false", "pseudonymize: true"), ("strategy: view", "strategy: table"))
    own.run("dvc", "repro", PSEUDONYM_KEY="a" * 40)
    own.commit("tables with pseudonyms")
    said = own.run("python", "-m", "commands.erase", USER_C, "--yes", "--local-only", PSEUDONYM_KEY="b" * 40).stdout
    files = len(list(own.path.glob("data/export/behavioral_events/*/*.parquet")))  # those of check-ins have no rows
    assert f"but {files + 1} files with pseudonyms of other keys" in said


@pytest.mark.long
def test_an_unfinished_upload_is_aborted(own: Clone, s3: S3, bucket: str) -> None:
    with_remote(own, s3, bucket)
    own.run("dvc", "push")
    s3fs = f"import os, s3fs; call = s3fs.S3FileSystem(endpoint_url=os.environ['URL']).call_s3; bucket = '{bucket}'; "
    key = "events/files/md5/aa/large"
    own.run("python", "-c", f"{s3fs} call('create_multipart_upload', Bucket=bucket, Key='{key}')", URL=s3.url)
    assert f"aborted the upload of {key}" in erase(own)
    look = f"{s3fs} print(call('list_multipart_uploads', Bucket=bucket).get('Uploads'))"
    left = own.run("python", "-c", look, URL=s3.url)
    assert left.stdout.strip() in ("None", "[]")
