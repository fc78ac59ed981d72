"""A run told to a real MLflow with SQLite: `python tests/mlflow_server.py BIN`, where BIN has the server's programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.core.paths import Paths
from pipeline.tell import outcome, told
from pipeline.tell.runs import Run, Stage

FIGURES = {
    "export_success": 1.0,
    "export_rows": 1000.0,
    "export_duration_seconds": 9.0,
    "validation_passed": 1.0,
}


def main(programs: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="behavioral-events-") as folder:
        store = [
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            f"{folder}/artifacts",
        ]
        command = [programs / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *store]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(f"{url}/health", server)
            os.environ["MLFLOW_TRACKING_URI"] = url
            start = datetime.now(UTC) - timedelta(seconds=9)
            stages = (Stage("validate", 1, 100),)
            run = Run(
                "night", start, os.getpid(), "abc1234", start + timedelta(seconds=9), "OK", rows=1000, stages=stages
            )
            run = run._replace(**outcome.snapshot(Paths())) if Paths().checks_report.exists() else run
            run = run._replace(rows=1000)
            assert list(told.tell(Paths(), outcome.params(Paths()), run, None)) == []
            found = ask(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})["runs"]
        finally:
            server.terminate()
            server.wait()
    (one,) = found
    metrics = {metric["key"]: metric["value"] for metric in one["data"]["metrics"]}
    assert FIGURES.items() <= metrics.items(), metrics
    params = {param["key"]: param["value"] for param in one["data"]["params"]}
    assert params["extract.user_id"] == "all"
    print(f"mlflow: one run with {len(metrics)} metrics and {len(params)} params arrived")


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)  # there is nothing to wait on but its answer
    raise SystemExit("the server ended")


def ask(url: str, question: dict[str, object]) -> dict[str, list[dict[str, dict[str, list[dict[str, object]]]]]]:
    request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
