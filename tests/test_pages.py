"""The commands of docs/quality.md, docs/nights.md and docs/analyses.md, as they are written."""

from __future__ import annotations

import pytest
import yaml

from tests.docs import blocks, run_shell, with_venv
from tests.fix_remote import KEYS, S3
from tests.helpers import ROOT, Clone

pytestmark = pytest.mark.xdist_group("clones")


def test_quality_page(clone: Clone) -> None:
    page, accept = blocks("quality", language="sh")
    said = run_shell(with_venv(clone), page, {})
    assert "show: data/report/quality.html" in said
    assert "This snapshot can be used: 16 quality checks passed" in said
    assert "dvc_plots" in said
    assert "nothing moved" in run_shell(clone, accept, {})
    (snippet,) = blocks("quality", language="yaml")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(snippet.text)["quality"].items() <= params["quality"].items()


@pytest.mark.long
def test_nights(clone: Clone, s3: S3, bucket: str) -> None:
    """With a bare repository as origin."""
    bare = clone.path / "origin"
    clone.run("git", "init", "-q", "--bare", str(bare))
    clone.run("git", "remote", "add", "origin", str(bare))
    (block,) = blocks("nights", language="sh")
    text = block.text.replace("URL=s3://BUCKET/FOLDER", f"URL=s3://{bucket}/nights ENDPOINT={s3.url}")
    said = run_shell(with_venv(clone), block._replace(text=text), {}, **KEYS)
    assert "night OK: This snapshot can be used: 16 quality checks passed" in said
    assert "last good night: 20" in said
    assert "status: OK: This snapshot can be used" in said


@pytest.mark.long
def test_analyses(clone: Clone) -> None:
    first, explore, _ = blocks("analyses", language="sh")  # make test-causalpy runs what the third one does
    assert "Data and pipelines are up to date" in run_shell(with_venv(clone), first, {})
    said = run_shell(clone, explore, {})
    assert "its: mean_score, treated minus control, changed by" in said
    assert "Ran experiment(s)" in said
    assert "mean_effect.estimate" in said  # it moved
    assert "dvc_plots" in said
    assert clone.run("git", "status", "--short").stdout.split() in ([], ["??", "dvc_plots/"])
    for setting in ("abab.improvement=decrease", "granger.longest=3"):
        stage = setting.partition(".")[0]
        asked = f"analyses/dvc.yaml:{stage}", "-S", f"analyses/params.yaml:{setting}"
        assert f"{stage}: " in clone.run("dvc", "exp", "run", *asked).stdout
    clone.run("git", "checkout", "--", "analyses")
    condition = "analyses/params.yaml:its.treated=\"eventData ->> '$.rollout' = 'second'\""
    failed = clone.run("dvc", "exp", "run", "analyses/dvc.yaml:its", "-S", condition, ok=False)
    assert "24 users meet both its.treated and its.control" in failed.stderr
