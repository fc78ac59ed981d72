"""analyses/quickstart.ipynb runs from a clean kernel in any folder, and stands in Git without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT, Clone

NOTEBOOK = ROOT / "analyses/quickstart.ipynb"


def test_no_output_stands_in_git() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


@pytest.mark.long
@pytest.mark.xdist_group("clones")
def test_it_runs(reproduced: Clone, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    env = reproduced.env | {"PROJECT": str(reproduced.path), "PYTHONPATH": str(reproduced.path)}
    client.execute(env=env)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "treated minus control: " in text
    assert "p 0.0" in text
    assert "intervention_A_2" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
