"""What is told of runs: the memory on this machine, alerts by HTTP and mail, Prometheus; and monitors that are away."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from commands.history import history, trend
from commands.status import status
from pipeline.core.paths import Paths
from pipeline.core.reports import read_report
from pipeline.tell import outcome, runs, told
from pipeline.tell.runs import Run, Stage
from tests.helpers import Clone, Project

NOW = datetime(2025, 11, 1, 8, tzinfo=UTC)


def a_run(hours: float, **other: Any) -> Run:
    """A night so many hours ago that went well."""
    start = NOW - timedelta(hours=hours)
    usual: dict[str, Any] = {
        "what": "night",
        "start": start,
        "pid": 1,
        "commit": "abc1234",
        "end": start + timedelta(seconds=9),
        "result": "OK",
        "exit_code": 0,
        "verdict": "passed",
        "sentence": "This snapshot can be used: 3 quality checks passed",
        "until": "2025-10-31",
        "rows": 1000,
        "stages": (Stage("extract", 1.5, 200), Stage("report", 0.4, 100)),
    }
    return Run(**(usual | other))


FAILED = {
    "result": "FAILED",
    "exit_code": 3,
    "reason": "extract: PostgreSQL is away",
    "next_step": "make night",
    "stages": (Stage("extract", 1.5, 200, "SourceError", "PostgreSQL is away", "make night", 3),),
}


def remembered(paths: Paths, *all_: Run) -> None:
    for one in all_:
        runs.finish(paths, one)


@contextmanager
def listening(answer: str = "at once") -> Iterator[tuple[str, list[bytes]]]:
    """An HTTP server that answers, never answers, or sends a byte a second; what it got."""
    got: list[bytes] = []
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if answer == "hang":
                ended.wait(60)
                return
            if answer == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.wait(0.5):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                return
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", got
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("ALERT_URLS", "ALERT_ATTACH", "MLFLOW_TRACKING_URI", "PROMETHEUS_TEXTFILE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_an_alert_by_http_has_reason_figures_and_the_command(settings: pytest.MonkeyPatch, published: Project) -> None:
    with listening() as (place, got):
        settings.setenv("ALERT_URLS", f"json://user:sesame@{place}/x")
        assert list(told.tell(published.paths, published.params, a_run(1, **FAILED, verdict=None), None)) == []
    (message,) = (json.loads(one) for one in got)
    assert message["title"] == "behavioural events: night FAILED"
    for words in ("extract: PostgreSQL is away", "1,000 rows until 2025-10-31", "extract 1.5 s", "next: make night"):
        assert words in message["message"]
    assert "sesame" not in json.dumps(message)


def test_an_alert_by_mail_has_the_page_on_request(settings: pytest.MonkeyPatch, published: Project) -> None:
    got: list[bytes] = []

    class Inbox:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            got.append(envelope.content)
            return "250 OK"

    published.set(quality__users={"limit": 99, "level": "warn"})
    published.report()
    inbox = Controller(Inbox(), hostname="127.0.0.1", port=free_port())
    inbox.start()
    try:
        address = f"mailto://127.0.0.1:{inbox.port}?from=a@example.org&to=b@example.org&mode=insecure"
        settings.setenv("ALERT_URLS", address)
        settings.setenv("ALERT_ATTACH", "1")
        run = a_run(1, verdict="warned", sentence=read_report(published.paths.checks_report, "sentence")["sentence"][0])
        assert list(told.tell(published.paths, published.params, run, None)) == []
    finally:
        inbox.stop()
    text = got[0].decode()
    assert "Subject: behavioural events: night OK, with care" in text
    assert "quality.html" in text
    assert "warned: 1 user" in text


def test_an_address_that_drips_keeps_no_other(settings: pytest.MonkeyPatch, published: Project) -> None:
    with listening("drip") as (slow, _), listening() as (place, got):
        settings.setenv("ALERT_URLS", f"json://{slow} json://{place}")
        (line,) = told.tell(published.paths, None, a_run(1, **FAILED, verdict=None), None)
    assert line.endswith(("address 1 (json) did not end in time", "address 1 (json) took no message"))
    assert len(got) == 1


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param("hang", "address 1 (json) took no message|did not end in time", id="one that hangs"),
        pytest.param("drip", "address 1 (json) took no message|did not end in time", id="one that drips"),
        pytest.param("closed", "address 1 (json) took no message", id="one that is not there"),
    ],
)
def test_a_monitor_that_is_away_costs_a_line_and_five_seconds(
    settings: pytest.MonkeyPatch, published: Project, answer: str, said: str
) -> None:
    with listening(answer) as (place, _):
        port = place.rpartition(":")[2] if answer != "closed" else "9"
        settings.setenv("ALERT_URLS", f"json://user:sesame@127.0.0.1:{port}/token")
        begin = time.monotonic()
        (line,) = told.tell(published.paths, None, a_run(1, **FAILED, verdict=None), None)
        assert time.monotonic() - begin < 5 + 3  # and what Python and Apprise take to start
    assert any(words in line for words in said.split("|"))
    assert "sesame" not in line
    assert "token" not in line


@pytest.mark.parametrize(
    ("run", "before", "subject"),
    [
        pytest.param(a_run(1), None, None, id="good"),
        pytest.param(a_run(1), a_run(25), None, id="good as before"),
        pytest.param(a_run(1), a_run(25, **FAILED), "night OK again", id="good again"),
        pytest.param(a_run(1, verdict="warned"), a_run(25), "night OK, with care", id="warned"),
        pytest.param(a_run(1, **FAILED), a_run(25), "night FAILED", id="failed"),
    ],
)
def test_what_is_worth_an_alert(run: Run, before: Run | None, subject: str | None) -> None:
    assert told.worth_an_alert(run, before) == subject


def test_figures_for_prometheus(settings: pytest.MonkeyPatch, published: Project, tmp_path: Path) -> None:
    """Read by prometheus_client's own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    published.report()
    folder = tmp_path / "textfile"
    folder.mkdir()
    settings.setenv("PROMETHEUS_TEXTFILE_DIR", str(folder))
    assert list(told.tell(published.paths, None, a_run(1), None)) == []
    text = (folder / "behavioral_events.prom").read_text()
    found = {
        (sample.name, sample.labels.get("check")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["behavioral_events_export_rows", None] == 1000
    assert found["behavioral_events_export_success", None] == 1
    assert found["behavioral_events_validation_passed", None] == 1
    assert found["behavioral_events_export_duration_seconds", None] == 9
    assert found["behavioral_events_quality_value", "users"] == 1
    assert found["behavioral_events_quality_passed", "users"] == 0
    # The last success stays when a run fails.
    remembered(published.paths, a_run(25))
    assert list(told.tell(published.paths, None, a_run(1, **FAILED, verdict=None), None)) == []
    lines = (folder / "behavioral_events.prom").read_text().splitlines()
    values = {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line[0] != "#")}
    assert values["behavioral_events_last_success_timestamp_seconds"] == (NOW - timedelta(hours=25)).timestamp() + 9
    assert values["behavioral_events_export_success"] == 0
    assert "behavioral_events_validation_passed" not in values  # extract failed: nobody knows
    settings.setenv("PROMETHEUS_TEXTFILE_DIR", str(tmp_path / "nowhere"))
    (line,) = told.tell(published.paths, None, a_run(1), None)
    assert line.startswith("notice: Prometheus was not told: ")


def test_mlflow_that_is_not_there_costs_a_line(settings: pytest.MonkeyPatch, published: Project) -> None:
    settings.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begin = time.monotonic()
    (line,) = told.tell(published.paths, published.params, a_run(1), None)
    assert line.startswith("notice: MLflow was not told: ")
    assert time.monotonic() - begin < 10


def test_the_memory_of_runs_survives_what_happens_to_files(published: Project) -> None:
    paths = published.paths
    first = runs.begin(paths, "repro", "abc1234")
    remembered(paths, first._replace(end=first.start, result="OK"))
    with open(paths.runs, "ab") as file:
        file.write(b'{"event": "end", "cut of')
    runs.begin(paths, "night", None)  # this process lives
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with open(paths.runs, "a", encoding="utf-8") as file:
        entry = {"event": "start", "what": "night", "start": NOW.isoformat(), "pid": dead.pid, "commit": None}
        file.write(json.dumps(entry) + "\n\n[]\n")
        for wrong in ({"pid": 10**20}, {"start": "2025-11-01T08:00:00"}, {"event": "end", "rows": "x", "stages": []}):
            file.write(json.dumps({**entry, "end": NOW.isoformat(), **wrong}) + "\n")
    assert [(one.what, one.result) for one in runs.read(paths.runs)] == [
        ("repro", "OK"),
        ("night", "running"),
        ("night", "killed"),
    ]
    assert runs.read(paths.root / "nowhere") == []


def test_history(published: Project) -> None:
    all_ = [a_run(24 * 20), a_run(49, **FAILED), a_run(25, rows=1500), a_run(1, rows=3000)]
    lines = list(history(all_, 20, NOW))
    assert "last  7 days: 3 runs, 67% good" in lines
    assert "last 30 days: 4 runs, 75% good" in lines
    assert any(line.startswith("last good night: 2025-11-01 07:00 UTC, This snapshot can be used") for line in lines)
    assert lines[-1] == f"rows: {trend([1000, 1500, 3000])} 1,000 to 3,000; least 1,000, most 3,000"
    assert trend([0, 50, 100]) == "▁▄█"
    assert len(list(history(all_, 1, NOW))) == len(lines) - 3
    assert list(history([], 20, NOW)) == ["no run is remembered on this machine; next: make repro"]


@pytest.mark.parametrize(
    ("all_", "max_age", "code", "said"),
    [
        pytest.param([a_run(6)], 26, 0, "OK: This snapshot can be used", id="good"),
        pytest.param([a_run(30)], 26, 2, "which is more than 26 h", id="too old"),
        pytest.param([], 26, 2, "no good night on this machine", id="none"),
        pytest.param([], None, 0, "no good night on this machine", id="none, and nobody asked"),
        pytest.param([a_run(30), a_run(-200)], 26, 2, "runs of the future are remembered", id="a clock that was ahead"),
        pytest.param([a_run(6), a_run(0, result="running")], 26, 0, "OK: make night runs since", id="running"),
        pytest.param([a_run(30), a_run(6, **FAILED)], 48, 1, "the last night FAILED: extract: PostgreSQL", id="failed"),
    ],
)
def test_status(published: Project, all_: list[Run], max_age: int | None, code: int, said: str) -> None:
    published.set(quality__users={"limit": 1, "level": "warn"}, quality__last_event={"limit": 24, "level": "warn"})
    published.set(quality__nulls={"limit": 1, "level": "warn"})
    published.set(quality__largest_type={"limit": 1, "level": "warn"})
    published.report()
    found = status(published.paths, all_, timedelta(hours=max_age) if max_age else None, NOW)
    assert found[0] == code
    assert said in found[1]


def test_a_status_that_can_t_be_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "commands.status", "--max-age", "26h"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(":")[:2]) == (3, ["status", " UNKNOWN"])


def test_notes_of_another_run_are_not_taken_for_this_one_s(published: Project) -> None:
    """Whatever the files' times are: a clock may have been ahead."""
    note = {"seconds": 1, "peak_mb": 1, "error": "QualityError", "words": "w", "next_step": "n", "exit_code": 8}
    file = published.paths.note("report")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**note, "run": "another"}))
    os.utime(file, (2**31, 2**31))
    run = runs.begin(published.paths, "repro", None)
    assert outcome.of(published.paths, run, 1, "git push").reason == "git push"
    file.write_text(json.dumps({**note, "run": os.environ["PIPELINE_RUN"]}))
    os.utime(file, (0, 0))
    assert outcome.of(published.paths, run, 255).reason == "report: w"


def test_status_of_a_snapshot_that_is_not_to_be_used(published: Project) -> None:
    published.set(quality__users={"limit": 99, "level": "warn"})
    published.report()
    assert status(published.paths, [a_run(6)], None, NOW)[0] == 1
    published.set(quality__users={"limit": 98, "level": "warn"})
    code, line = status(published.paths, [a_run(6)], None, NOW)
    assert code == 2
    assert "do not use what is here: what report left is not what is asked for now" in line


def test_settings_come_from_the_environment_or_env(settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.core.env import setting

    settings.chdir(tmp_path)
    assert setting("ALERT_URLS") is None
    (tmp_path / ".env").write_text("ALERT_URLS=json://file\n")
    assert setting("ALERT_URLS") == "json://file"
    (tmp_path / ".env").write_bytes(b"ALERT_URLS=\xff\n")
    assert setting("ALERT_URLS") is None
    settings.setenv("ALERT_URLS", "json://environment")
    assert setting("ALERT_URLS") == "json://environment"
    assert os.environ["ALERT_URLS"] == "json://environment"


@pytest.mark.xdist_group("clones")
def test_make_repro_is_remembered_with_the_stage_s_own_exit_code(clone: Clone) -> None:
    clone.run("python", "-m", "commands.repro")
    clone.change(("users: {limit: 5, level: warn}", "users: {limit: 99, level: fail}"))
    failed = clone.run("python", "-m", "commands.repro", ok=False)
    assert failed.returncode == 8  # DVC's own is 255
    first, second = runs.read(clone.path / "data/runs.jsonl")
    assert (first.result, first.verdict, first.rows) == ("OK", "passed", 54_506)
    assert (second.result, second.exit_code, second.verdict) == ("FAILED", 8, "failed")
    assert [stage.stage for stage in second.stages if stage.exit_code] == ["report"]
    assert second.reason == "report: 2 quality checks failed: behavioral_events: 60 users, expected at least 99"
    assert second.next_step.startswith("look at data/report/quality.html")
    assert second.stages[-1].peak_mb > 10
