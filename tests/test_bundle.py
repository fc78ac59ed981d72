"""make bundle: an archive that somebody who has nothing else verifies and opens, the same bytes wherever it is made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from commands import bundle
from commands.bundle import Asked
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.paths import Paths
from pipeline.handover import archive
from tests.fix_clone import copy_tree
from tests.fix_postgres import new_database
from tests.fix_remote import copy_of, fill, night
from tests.helpers import UNTIL, USER_A, USER_B, Clone, Database, event

pytestmark = pytest.mark.xdist_group("remote")

KEY = "k" * 40
CONTEXT = "ccontext" + "0" * 17
BUNDLE = ("python", "-m", "commands.bundle", "--output")


def make(clone: Clone, to: Path, revision: str = "HEAD", pseudonyms: bool = False) -> Path:
    """An archive, by the function, in the current folder."""
    assert Path.cwd() == clone.path
    bundle.bundle(Paths(), Asked(revision, pseudonyms, to))
    return to


def unpacked(archive: Path, to: Path) -> Path:
    """What `unzip` makes of an archive in an empty folder; a damaged one as far as it can be had."""
    to.mkdir(parents=True)
    done = subprocess.run(["unzip", "-q", str(archive)], cwd=to, capture_output=True, check=False)
    assert done.returncode in (0, 2)
    (folder,) = to.iterdir()
    return folder


def is_whole(folder: Path) -> bool:
    command = ["sha256sum", "-c", "--quiet", "SHA256SUMS"]
    return not subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def content(archive: Path, only: str = "") -> dict[str, bytes]:
    """What an archive holds, by the names below its folder."""
    with zipfile.ZipFile(archive) as opened:
        found = {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}
    return {name: held for name, held in found.items() if name.startswith(only)}


@pytest.fixture(scope="module")
def held(server: dict[str, str]) -> Database:
    """A database whose last day has a check-in, and an event that points to it."""
    db = new_database(server, "bundles")
    fill(db)
    db.run(
        'INSERT INTO context_metadata (id, "userId", timestamp, "energyLevel", "stressLevel", "sleepHours", '
        f"\"sleepQuality\", \"dataSource\", notes) VALUES ('{CONTEXT}', '{USER_B}', '{UNTIL} 09:00:00', 5, 5, 7.5, 5, "
        "'manual', 'ask Ms. Nobody')"
    )
    db.insert(event(timestamp=f"{UNTIL} 10:00:00", userId=USER_B, contextMetadataId=CONTEXT))
    return db


@pytest.fixture(scope="module")
def two_nights(first_night: Clone, held: Database, scratch: Path) -> Clone:
    """A clone with the first night and a second one, of the database above. Read only."""
    path = scratch / "two nights"
    copy_tree(first_night.path, path)
    clone = Clone(path, first_night.env | {"DATABASE_URL": held.url()})
    night(clone, UNTIL + timedelta(days=1), "second night")
    return clone


@pytest.fixture
def two(two_nights: Clone, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    """A copy of it, in whose folder we are."""
    path = Path(tempfile.mkdtemp(prefix="two ", dir=scratch))
    copy_tree(two_nights.path, path)
    monkeypatch.chdir(path)
    yield Clone(path, two_nights.env)
    shutil.rmtree(path, ignore_errors=True)


def test_somebody_without_the_project_verifies_and_reads_it(two: Clone, held: Database, tmp_path: Path) -> None:
    said = two.run(*BUNDLE, str(tmp_path / "it.zip")).stdout
    assert "bundle: notice: it holds the ids of users as they are" in said
    assert "licence" in said
    folder = unpacked(tmp_path / "it.zip", tmp_path / "elsewhere")
    assert is_whole(folder)
    script = (
        "import duckdb, json, pandas\n"
        "c = duckdb.connect()\n"
        "for _ in range(2): c.execute(open('views.sql', encoding='utf-8').read())\n"
        "columns = [row[0] for row in c.execute('DESCRIBE behavioral_events').fetchall()]\n"
        "texts = ', '.join(f'\"{name}\"::VARCHAR' for name in columns)\n"
        "rows = c.execute(f'SELECT {texts} FROM behavioral_events ORDER BY timestamp, id').fetchall()\n"
        "joined = c.execute('SELECT sum(sleepHours), count(*) FROM events_with_context').fetchall()\n"
        "frame = pandas.read_parquet('data/behavioral_events', dtype_backend='pyarrow')\n"
        "print(json.dumps([rows, joined, len(frame), len(c.execute('FROM event_days').fetchall())]))\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    rows, joined, pandas_rows, days = json.loads(done.stdout)
    first = UNTIL - timedelta(days=4)
    there = [row for row in held.rows() if str(row[4]) >= str(first)]
    assert rows == [[None if value is None else str(value) for value in row] for row in there]
    assert joined == [[7.5, len(there)]]
    assert (pandas_rows, days) == (len(there), 5)
    head = two.run("git", "rev-parse", "HEAD").stdout.strip()
    citation = two.run("python", "-m", "commands.tag").stdout.strip()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert citation in readme
    assert "▲ This snapshot can be used" in readme
    assert "NOT pseudonymised" in readme
    assert head in (folder / "CITATION.cff").read_text(encoding="utf-8")
    assert not [path for path in folder.rglob("*") if "raw" in path.name or "quarantine" in path.name]
    # The command of its README prints the SHA-256 that the citation names.
    command = next(line for line in readme.splitlines() if line.startswith("sed "))
    printed = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert f"SHA-256 {printed.split()[0]}." in citation
    assert two.run("git", "status", "--porcelain").stdout == ""


def test_the_same_commit_gives_the_same_bytes(two: Clone, tmp_path: Path) -> None:
    """An hour later, in another clone, time zone, umask and folder; and of an old commit as when it was current."""
    two.run("git", "checkout", "-q", "HEAD~1")
    one = make(two, tmp_path / "current.zip").read_bytes()
    old = two.run("git", "rev-parse", "HEAD").stdout.strip()
    two.run("git", "checkout", "-q", "main")
    assert make(two, tmp_path / "old.zip", old).read_bytes() == one
    assert make(two, tmp_path / "new.zip").read_bytes() != one
    other = copy_of(two, "other")
    shutil.copytree(two.path / ".dvc/cache", other.path / ".dvc/cache")
    command = f"umask 077; python -m commands.bundle --rev {old} --output '{tmp_path}/other.zip'"
    other.run("sh", "-c", command, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    assert (tmp_path / "other.zip").read_bytes() == one
    other.run("git", "tag", "-a", "study/1", "-m", "it", old)
    other.run("python", "-m", "commands.bundle", "--rev", "study/1")
    (named,) = (other.path / "bundles").iterdir()
    label = f"study-1-{other.run('git', 'rev-parse', 'study/1^{commit}').stdout[:10]}"  # study-1 would be another tag
    assert named.name == f"behavioural-events-{UNTIL - timedelta(days=1)}-{label}.zip"
    assert "version study/1, commit" in content(named)["README.md"].decode()
    assert other.run("git", "status", "--porcelain").stdout == ""


def test_pseudonyms_are_those_of_an_export(
    two: Clone, held: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ParamsError, match="PSEUDONYM_KEY is not set"):
        make(two, tmp_path / "none.zip", pseudonyms=True)
    monkeypatch.setenv("PSEUDONYM_KEY", KEY)
    while_bundling = make(two, tmp_path / "it.zip", pseudonyms=True)
    said = capsys.readouterr().out
    assert "ids of users" not in said
    assert ", with pseudonyms, " in said
    snapshot = two.run("python", "-m", "commands.tag").stdout.split("SHA-256 ")[1].split(".")[0]
    two.change(("pseudonymize: false", "pseudonymize: true"))
    two.run("dvc", "repro", PSEUDONYM_KEY=KEY)
    two.commit("with pseudonyms")
    exported = make(two, tmp_path / "exported.zip")
    assert content(while_bundling, "data/") == content(exported, "data/")
    assert content(make(two, tmp_path / "again.zip", pseudonyms=True)) == content(exported)
    readme = content(while_bundling)["README.md"].decode()
    assert snapshot in readme
    assert snapshot not in content(exported)["README.md"].decode()
    folder = unpacked(while_bundling, tmp_path / "elsewhere")
    assert is_whole(folder)
    real = [USER_A, USER_B, CONTEXT]
    assert not [
        path for path in folder.rglob("*") if path.is_file() for one in real if one.encode() in path.read_bytes()
    ]
    with duckdb.connect(config={"file_search_path": str(folder)}) as connection:
        connection.execute((folder / "views.sql").read_text(encoding="utf-8"))
        for (view,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
            values = [str(value) for row in connection.execute(f'FROM "{view}"').fetchall() for value in row]
            assert not [value for value in values for one in real if one in value]
        joined = connection.execute("SELECT count(*) FROM events_with_context WHERE sleepHours = 7.5").fetchall()
        assert joined == [(1,)]
        users = connection.execute("SELECT count(DISTINCT userId) FROM behavioral_events").fetchall()
        assert users == held.run('SELECT count(DISTINCT "userId") FROM behavioral_events')


def test_a_changed_byte_is_found(two: Clone, tmp_path: Path) -> None:
    whole = make(two, tmp_path / "it.zip")
    with zipfile.ZipFile(whole) as opened:
        entries = {entry.filename.partition("/")[2]: entry for entry in opened.infolist()}
    day = f"data/behavioral_events/event_date={UNTIL}/part-0.parquet"
    for number, name in enumerate([day, "views.sql", "quality/checks.json", "SHA256SUMS", "README.md"]):
        damaged = bytearray(whole.read_bytes())
        damaged[entries[name].header_offset + 30 + len(entries[name].filename) + entries[name].file_size // 2] ^= 1
        (tmp_path / "damaged.zip").write_bytes(damaged)
        assert not is_whole(unpacked(tmp_path / "damaged.zip", tmp_path / str(number))), name
    assert is_whole(unpacked(whole, tmp_path / "whole"))


def changed(clone: Clone, report: str, old: str, new: str) -> None:
    clone.change((old, new), file=f"data/reports/{report}")


def test_what_is_not_handed_over(two: Clone, tmp_path: Path) -> None:
    to = tmp_path / "out" / "it.zip"
    changed(two, "load.json", '"equal": true', '"equal": false')
    with pytest.raises(ParamsError, match=r"not as it is committed: data/reports/load\.json"):
        make(two, to)
    two.run("git", "checkout", "data/reports")
    two.change(("licence: null", "licence: CC-BY-4.0"))
    with pytest.raises(ParamsError, match=r"not as it is committed: params\.yaml"):
        make(two, to)
    two.run("git", "checkout", "params.yaml")
    with pytest.raises(ParamsError, match="nobody is no commit"):
        make(two, to, "nobody")
    for report, old, new, said in (
        ("checks.json", '"verdict": "warned"', '"verdict": "failed"', "is not to be used"),
        (
            "checks.json",
            '"files": "data/export", "sha256": "',
            '"files": "data/export", "sha256": "0',
            "is not the one that dvc.lock names",
        ),
        ("validation.json", '"made_from"', '"made_of"', "is not the one that dvc.lock names"),
    ):
        changed(two, report, old, new)
        two.commit("a report that somebody edited")
        with pytest.raises((ParamsError, DataError), match=said):
            make(two, to)
        two.run("git", "reset", "-q", "--hard", "HEAD~1")
    failed = two.run(*BUNDLE, "data/it.zip", ok=False)
    assert "lies in data/" in failed.stderr
    assert "does not end with .zip" in two.run(*BUNDLE, "it.tar", ok=False).stderr
    assert not to.parent.exists()


def test_nothing_half_written_stays(two: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = archive.write

    def broken(new: Path, *more: object) -> None:
        real(new, *more)  # type: ignore[arg-type]
        raise OSError("the disk is full")

    to = make(two, tmp_path / "out" / "it.zip", "HEAD~1")
    before = to.read_bytes()
    (to.parent / ".it.zip.mine").mkdir()  # somebody's own, whatever it is called
    with pytest.raises(ParamsError, match=r"it\.zip is there already"):
        make(two, to)
    monkeypatch.setattr(archive, "write", broken)
    with pytest.raises(OSError, match="the disk is full"):
        make(two, to.with_name("other.zip"))
    assert sorted(path.name for path in to.parent.iterdir()) == [".it.zip.mine", "it.zip"]
    assert to.read_bytes() == before


def test_files_that_are_other_ones_are_not_bundled(two: Clone, tmp_path: Path) -> None:
    """dvc.lock of one night and reports of another, as after a merge gone wrong."""
    two.run("git", "checkout", "HEAD~1", "--", "dvc.lock")
    two.commit("half a merge")
    with pytest.raises(ParamsError, match="was not made from what is committed beside it: extract read another waterm"):
        make(two, tmp_path / "it.zip")


def test_a_commit_of_another_wish_is_not_bundled_before_it_ran(two: Clone, tmp_path: Path) -> None:
    two.change(("days: 5", "days: 4"))
    two.commit("another wish")
    with pytest.raises(ParamsError, match="extract ran with another extract"):
        make(two, tmp_path / "it.zip")


def test_a_file_that_is_altered_meanwhile_is_in_no_archive(
    two: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archive.write

    def altered(new: Path, folder: str, day: date, files: Any) -> None:
        name, (path, sha256) = next((n, f) for n, f in files.items() if isinstance(f, tuple))
        other = tmp_path / "other"
        other.write_bytes(path.read_bytes()[:-1] + b"?")
        real(new, folder, day, files | {name: (other, sha256)})

    monkeypatch.setattr(archive, "write", altered)
    with pytest.raises(DataError, match="was altered while the archive was made"):
        make(two, tmp_path / "it.zip")
    assert not (tmp_path / "it.zip").exists()


def test_a_file_that_somebody_adds_is_in_no_answer(two: Clone, tmp_path: Path) -> None:
    folder = unpacked(make(two, tmp_path / "it.zip"), tmp_path / "elsewhere")
    number = re.search(r"`find . -type f \| wc -l` says (\d+)", (folder / "README.md").read_text())
    assert number
    assert int(number[1]) == sum(path.is_file() for path in folder.rglob("*"))
    ask = (
        "import duckdb; c = duckdb.connect(); c.execute(open('views.sql').read()); "
        "print(c.sql('SELECT count(*) FROM behavioral_events').fetchall())"
    )
    before = subprocess.run([sys.executable, "-c", ask], cwd=folder, capture_output=True, text=True, check=True).stdout
    days = folder / "data/behavioral_events"
    shutil.copytree(next(days.iterdir()), days / "event_date=2031-01-01")
    after = subprocess.run([sys.executable, "-c", ask], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert before == after
