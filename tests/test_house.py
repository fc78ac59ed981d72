"""The structure: what imports what, and that dvc.yaml tells the truth."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT, STAGES


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
