"""The audit of lint, with the real pip-audit; only the answers of the service are ours, since mirrors give none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.audit import audit


class Osv(BaseHTTPRequestHandler):
    """OSV's API: tenacity has a vulnerability, nothing else has."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        affected = {
            "package": {"name": "tenacity", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
        found = {"id": "PYSEC-1", "modified": "2026-01-01T00:00:00Z", "details": "", "affected": [affected]}
        answer = {"vulns": [found]} if asked["package"]["name"] == "tenacity" else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def two_packages(tmp_path: Path) -> list[str]:
    file = tmp_path / "requirements.txt"
    file.write_text(f"tenacity=={version('tenacity')}\ntqdm=={version('tqdm')}\n")
    return ["-r", str(file), "--no-deps", "--disable-pip"]


def test_a_vulnerability_ends_lint(osv: str, two_packages: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert audit([*two_packages, "-s", "osv", "--osv-url", osv]) == 1
    out, err = capfd.readouterr()
    assert err == f"audit: tenacity {version('tenacity')}: PYSEC-1, mended in 99.1\n"
    assert out == "audit: 2 packages, 1 known vulnerabilities\n"


def test_no_answer_is_said(two_packages: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert audit([*two_packages, "-s", "osv", "--osv-url", "http://127.0.0.1:1"]) == 0
    assert "nothing was audited" in capfd.readouterr().err
