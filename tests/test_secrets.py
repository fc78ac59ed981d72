"""No password and no value of an event where it does not belong."""

from __future__ import annotations

import subprocess
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.helpers import Clone, Database, event

pytestmark = pytest.mark.xdist_group("clones")


# Characters that a shell, a URL, a regular expression, YAML and SQL each take for their own.
AWKWARD = "p@ss'w\"o/r:d%$(x)#{}&;?ä"


def test_the_password_is_nowhere(clone: Clone, db: Database, server: dict[str, str]) -> None:
    """A run that works and runs that fail, at the loudest level: output, logs, reports, lock, cache, process list."""
    role = f"secretive_{db.name}"
    with closing(db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", [AWKWARD])
        cursor.execute(f"GRANT SELECT ON behavioral_events, context_metadata TO {role}")
    db.insert(event(), event(timestamp="2025-10-26 00:00:00"))
    clone.change(("days: 90", "days: 2"), ("attempts: 6", "attempts: 2"), ("retry_wait: 1", "retry_wait: 0.01"))
    encoded = quote(AWKWARD, safe="")
    clone.env["DATABASE_URL"] = db.url(user=role, password=encoded)
    said = []
    for command in (
        ["python", "-m", "commands.refresh", "--until", "2025-10-28", "--accept"],
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
    clone.run("python", "-m", "commands.refresh", "--until", "2025-10-28", "--accept")
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
