"""The same commit gives the same bytes: in a fresh clone, on another machine, from another PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
import yaml

from pipeline.sample import embedded
from tests.docs import with_venv
from tests.fix_clone import new_clone
from tests.helpers import ROOT, STAGES, UNTIL, Clone, Database, ran

pytestmark = pytest.mark.xdist_group("clones")


LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))


def committed() -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in LOCK["stages"].values() for out in stage.get("outs", [])}


def test_a_fresh_clone_reproduces_the_committed_hashes(reproduced: Clone) -> None:
    assert reproduced.hashes() == committed()
    assert reproduced.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in reproduced.run("dvc", "status").stdout


def test_a_second_run_runs_nothing(reproduced: Clone) -> None:
    again = reproduced.run("dvc", "repro")
    assert ran(again.stdout) == []
    assert "up to date" in again.stdout


def somebody_else() -> tuple[str, str] | None:
    """Another user and a Python that he may run; None where only this user can be had."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        command = [python, "-c", "import duckdb, pyarrow, dvc"]
        env = {"PYTHONPATH": SITE, "PATH": os.environ["PATH"]}
        with suppress(OSError):
            if not subprocess.run(
                command, user="nobody", env=env, cwd="/", capture_output=True, check=False
            ).returncode:
                return "nobody", python
    return None


SITE = str(Path(duckdb.__file__).resolve().parent.parent)


@pytest.mark.long
def test_another_machine_and_user_give_the_same_bytes(scratch: Path) -> None:
    """Zone, locale, hash seed, umask, PostgreSQL's settings, batch size, workers and (as root can have it) user."""
    other, home = new_clone(scratch, "elsewhere"), scratch / "another home"
    other.change(("batch_size: 20000", "batch_size: 333"), ("workers: 2", "workers: 5"))
    user, python = (somebody_else() if os.geteuid() == 0 else None) or (None, sys.executable)
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(python)
    if user:
        for file in [other.path, home, *other.path.rglob("*"), *home.rglob("*")]:
            shutil.chown(file, user) if not file.is_symlink() else None
    other.env |= {
        "TZ": "Asia/Kathmandu",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "1",
        "PGTZ": "Asia/Tokyo",
        "PYTHONPATH": SITE,
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "-c", "umask 077; python -m dvc repro"],
        cwd=other.path,
        env=other.env,
        user=user,
        group="nogroup" if user else None,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (other.path / "data/raw").stat().st_uid == other.path.stat().st_uid
    assert (other.path.stat().st_uid != os.geteuid()) == bool(user)
    assert other.hashes() == committed()


@pytest.mark.long
def test_another_major_version_gives_the_same_dvc_lock(
    scratch: Path, other_major: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample on it: refresh finds what watermark.yaml pins, and dvc repro makes every committed hash again."""
    monkeypatch.chdir(ROOT)
    embedded.fill(other_major.where)
    other = new_clone(scratch, f"on {Path(other_major.where['host']).parent.name}")
    other.env["DATABASE_URL"] = other_major.url()
    looked = other.run("python", "-m", "commands.refresh", "--until", str(UNTIL))
    assert "nothing moved" in looked.stdout
    assert ran(other.run("dvc", "repro").stdout) == list(STAGES)
    assert other.run("git", "status", "--porcelain").stdout == ""
    assert other.hashes() == committed()


def test_refresh_on_the_sample_leaves_the_committed_watermark_as_it_is(clone: Clone) -> None:
    before = clone.text("watermark.yaml")
    assert "nothing moved" in clone.run("python", "-m", "commands.refresh").stdout
    assert clone.text("watermark.yaml") == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(("batch_size: 20000", "batch_size: 4096"), ["extract", "validate", "export"], id="batch_size"),
        pytest.param(
            ("mode: strict", "mode: quarantine"), ["validate", "export", "report"], id="mode", marks=pytest.mark.long
        ),
    ],
)
def test_a_changed_param_runs_what_reads_it_and_changes_no_hash(
    clone: Clone, change: tuple[str, str], expected: list[str]
) -> None:
    clone.change(change)
    assert ran(clone.run("dvc", "repro").stdout) == expected
    after, before = clone.hashes(), committed()
    if "mode" in change[0]:  # validation.json says the mode
        assert after.pop("data/reports/validation.json") != before.pop("data/reports/validation.json")
    assert after == before


def test_an_empty_dvc_lock_as_kill_may_leave_it_is_made_again(clone: Clone) -> None:
    lock = clone.path / "dvc.lock"
    lock.write_text("")
    check = clone.run("python", "-m", "commands.check", ok=False)
    assert check.returncode == 1
    assert "git checkout -- dvc.yaml dvc.lock" in check.stdout
    assert len(check.stdout.splitlines()) == 1
    assert "it again" in clone.run("python", "-m", "commands.preflight").stdout
    check = clone.run("python", "-m", "commands.check", ok=False)
    assert (check.returncode, check.stdout) == (1, "check: there is no dvc.lock; next: dvc repro, then git commit -a\n")
    clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_clone_has_the_committed_bytes_whatever_git_does_to_line_ends(reproduced: Clone, scratch: Path) -> None:
    other = scratch / "crlf"
    for setting in ("core.autocrlf=true", "core.eol=crlf"):
        shutil.rmtree(other, ignore_errors=True)
        reproduced.run(
            "git", "clone", "-q", "-c", "core.autocrlf=true", "-c", setting, str(reproduced.path), str(other)
        )
        for name in reproduced.run("git", "ls-files").stdout.splitlines():
            assert (other / name).read_bytes() == (reproduced.path / name).read_bytes(), name


def test_targets_run_one_after_the_other(clone: Clone) -> None:
    done = with_venv(clone).make("-j4", "refresh", "repro", "summary")
    said = done.stdout
    assert said.index("refresh: nothing moved") < said.index("Data and pipelines are up to date")
    assert said.count("Behavioural events, ready to query") == 2


@pytest.mark.parametrize(
    "left", [pytest.param("", id="empty", marks=pytest.mark.long), pytest.param('{"/a/file": {"read', id="cut off")]
)
def test_a_rwlock_as_kill_may_leave_it_is_mended(clone: Clone, left: str) -> None:
    (clone.path / ".dvc/tmp/rwlock").write_text(left)
    clone.change(("days: 90", "days: 3"))
    assert clone.run("dvc", "repro", ok=False).returncode != 0
    assert "was cut off" in clone.run("python", "-m", "commands.preflight").stdout
    clone.run("dvc", "repro")


def test_two_runs_of_dvc_at_once(clone: Clone) -> None:
    """One of them does the work; the other waits or says who is at it. Then everything is up to date."""
    clone.change(("days: 90", "days: 40"))
    both = [
        subprocess.Popen(
            ["dvc", "repro"],
            cwd=clone.path,
            env=clone.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert 0 in [process.returncode for process in both]
    for process, text in zip(both, said, strict=True):
        assert process.returncode == 0 or "lock" in text.lower()
        assert "Traceback" not in text
    assert "up to date" in clone.run("dvc", "repro").stdout
