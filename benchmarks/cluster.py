"""A Dask cluster on this machine whose parts may be killed or cut off, with TLS between all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Where `make .venv/bin/.ready-dask` puts it: beside the pipeline's packages, since no stage needs it.
DASK = Path(sys.prefix, "dask")

TLS = "DASK_DISTRIBUTED__COMM__TLS__"


def certificates(folder: Path, *names: str) -> dict[str, str]:
    """Certificates for machines of these names or addresses; returns the variables by which Dask finds them."""
    import trustme  # of requirements-dev.txt, which only who makes certificates needs

    authority = trustme.CA()
    certificate = authority.issue_cert(*names)
    files = {"CA_FILE": folder / "ca.pem", "CERT": folder / "cert.pem", "KEY": folder / "key.pem"}
    authority.cert_pem.write_to_path(str(files["CA_FILE"]))
    for n, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(files["CERT"]), append=n > 0)
    certificate.private_key_pem.write_to_path(str(files["KEY"]))
    roles = {
        f"{TLS}{role}__{name}": str(files[name])
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for name in ("CERT", "KEY")
    }
    return {**roles, f"{TLS}CA_FILE": str(files["CA_FILE"]), "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}


class Cluster:
    """A scheduler, and workers whose folder is `project`."""

    def __init__(self, project: Path, env: Mapping[str, str], host: str = "127.0.0.1") -> None:
        self.project, self.host = project, host
        self.home = Path(tempfile.mkdtemp(prefix="dask-"))
        paths = os.pathsep.join(filter(None, [str(DASK), env.get("PYTHONPATH")]))
        self.env = {**env, **certificates(self.home, host, "localhost"), "PYTHONPATH": paths}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        file = self.home / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._run(
            "scheduler", f"--host={self.host}", "--protocol=tls", "--port=0", f"--scheduler-file={file}"
        )
        self.address = str(json.loads(_content(file))["address"])
        self.env["PIPELINE_ENGINE"] = f"dask:{self.address}"

    def worker(self, *within: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Start another one; `within` is what its command begins with, as ip netns exec NAME."""
        options = ("--nthreads=1", "--no-nanny", "--death-timeout=60", f"--local-directory={self.home}")
        self.workers.append(self._run("worker", self.address, *options, within=within, folder=folder))
        return self.workers[-1]

    def _run(
        self, role: str, *options: str, within: tuple[str, ...] = (), folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        command = [*within, sys.executable, "-m", "dask", role, "--no-dashboard", *options]
        with open(self.home / "log", "ab") as log:
            process = subprocess.Popen(command, cwd=folder or self.project, env=self.env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def python(self, module: str) -> list[str]:
        """The command of a stage that has its work done here; with `env`."""
        return [sys.executable, "-m", module]

    def log(self) -> str:
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.workers.clear()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


def _content(file: Path) -> str:
    until = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip().endswith("}")):
        if time.monotonic() > until:
            raise TimeoutError(f"{file} does not appear")
        time.sleep(0.05)
    return file.read_text()


@contextmanager
def cluster(project: Path, env: Mapping[str, str], workers: int = 2) -> Iterator[Cluster]:
    made = Cluster(project, env)
    try:
        for _ in range(workers):
            made.worker()
        yield made
    finally:
        made.remove()
