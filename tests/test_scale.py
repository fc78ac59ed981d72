"""The commands of docs/scale.md, and what deploy/dask has."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.cluster import DASK, certificates
from tests.docs import Block, blocks, run_shell, with_venv
from tests.helpers import ROOT, Clone

pytestmark = pytest.mark.xdist_group("clones")

READERS = Path(sys.prefix, "readers")
# Its own address, so that it asks no name server for the machine's.
SPARK = {"SPARK_LOCAL_IP": "127.0.0.1"}


def test_another_engine_finds_all_up_to_date(clone: Clone) -> None:
    """Where it runs is no input: nothing runs again."""
    block, _ = blocks("scale", language="sh")  # the other one: tests/test_months_kept.py
    said = run_shell(with_venv(clone), block, {})
    assert "Data and pipelines are up to date" in said
    assert "ready to query" in said


def marked(block: Block) -> object:
    return pytest.param(block, marks=pytest.mark.long if "pyspark" in block.text else ())


@pytest.mark.parametrize("block", [*map(marked, blocks("scale", language="python"))], ids=lambda block: block.id)
def test_readers_count_the_same(reproduced: Clone, block: Block) -> None:
    """Each event type of the last days, as pyarrow counts them."""
    reader = READERS if "polars" in block.text or "pyspark" in block.text else DASK
    if not reader.is_dir():
        pytest.skip(f"no {reader.name}; make test installs it")
    said = reproduced.run("python", "-c", block.text, PYTHONPATH=str(reader), **SPARK).stdout
    folder = reproduced.path / "data/export/behavioral_events"
    days = [day for day in folder.iterdir() if day.name >= "event_date=2025-10-01"]
    counts = Counter(
        name
        for day in days
        for name in pq.ParquetFile(day / "part-0.parquet").read(["eventType"]).column(0).to_pylist()
    )
    (most, rows), *_ = counts.most_common(1)
    assert re.search(rf"{most}\W+{rows}\b", said), said


def test_the_certificates_of_the_page(tmp_path: Path) -> None:
    """OpenSSL finds the one signed by the other, its key fits, and each variable that Dask needs is exported."""
    texts = [block.text for block in blocks("scale", language="text")]
    (made,) = [text for text in texts if "openssl" in text]
    subprocess.run(["sh", "-ec", made], cwd=tmp_path, check=True, capture_output=True)
    ca, cert, key = (tmp_path / "certificates" / name for name in ("ca.pem", "cert.pem", "key.pem"))
    subprocess.run(["openssl", "verify", "-CAfile", ca, cert], check=True, capture_output=True)
    ssl.create_default_context(cafile=str(ca)).load_cert_chain(cert, key)
    exported = dict(re.findall(r"^export (\w+)=(\S+)", "".join(texts), re.M))
    assert set(exported) == set(certificates(tmp_path, "localhost"))
    assert {name for name in exported.values() if name != "true"} == {f"certificates/{p.name}" for p in (ca, cert, key)}


def test_the_workers_of_deploy_are_started_as_the_page_says() -> None:
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    compose = yaml.safe_load((ROOT / "deploy/dask/compose.yaml").read_text(encoding="utf-8"))["services"]
    assert compose["worker"]["command"].replace("scheduler", "HOST").removeprefix(".venv/bin/") in page
    assert compose["scheduler"]["command"].removeprefix(".venv/bin/") in page
    cluster, job = yaml.safe_load_all((ROOT / "deploy/dask/kubernetes.yaml").read_text(encoding="utf-8"))
    for part in (
        cluster["spec"]["worker"]["spec"],
        cluster["spec"]["scheduler"]["spec"],
        job["spec"]["template"]["spec"],
    ):
        (container,), (volume,) = part["containers"], part["volumes"]
        assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]
        assert container["volumeMounts"][0]["mountPath"] == container["workingDir"]
