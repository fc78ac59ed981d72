"""The structure: which room may use which, that dvc.yaml tells the truth, and that a person can read it."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.core.paths import Paths
from tests.helpers import ROOT, STAGES

TOP = ("schemas", "pipeline", "stages", "commands", "analyses")
ANALYSES = yaml.safe_load((ROOT / "analyses/dvc.yaml").read_text(encoding="utf-8"))["stages"]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
EVERY_STAGE = (*STAGES, *ANALYSES)

# What a room uses besides itself and schemas. Stages and commands use all of pipeline, and not each other.
USES = {
    "core": set(),
    "files": {"core"},
    "engine": {"core"},
    "postgres": {"core"},
    "sample": {"core"},
    "source": {"core", "postgres", "sample"},
    "checks": {"core", "files"},
    "versions": {"core", "files"},
    "page": {"core", "files"},
    "views": {"core", "files"},
    "handover": {"core", "files", "views"},
    "tell": {"core"},
    "adopt": {"core", "files", "postgres"},
    "days": {"core", "files", "postgres", "checks", "source", "engine"},
}

# A folder stands for its modules among a stage's deps where the stage imports at least so many of them.
NEARLY_ALL = 0.75

MAX_ARGUMENTS = 5
MAX_LINES = 400


def modules() -> dict[str, Path]:
    """The project's own modules, by their dotted names."""
    files = [file for top in TOP for file in sorted((ROOT / top).rglob("*.py"))]
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


MODULES = modules()


def imports(file: Path) -> set[str]:
    """The project's own modules that `file` imports, anywhere in it but for type checking."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for guard in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if "TYPE_CHECKING" in ast.unparse(guard.test):
            guard.body = []
    found = set()
    for node in ast.walk(tree):
        names = [f"{node.module}.{name.name}" for name in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            found |= {known for known in (name, name.rpartition(".")[0]) if known in MODULES}
    return found


IMPORTS = {name: imports(file) - {name} for name, file in MODULES.items()}


def room(name: str) -> str:
    """stages, commands or schemas; of pipeline the folder or module in it."""
    return name.split(".")[name.startswith("pipeline.")]


@pytest.mark.parametrize("name", MODULES)
def test_arrows_run_as_drawn(name: str) -> None:
    for target in IMPORTS[name]:
        mine, theirs = room(name), room(target)
        if mine in ("stages", "commands", "analyses"):
            assert theirs not in ("stages", "commands") or target == mine, f"{name} uses {target}"
            assert theirs != "analyses" or mine == "analyses", f"{name} uses {target}"
        elif mine != theirs:
            assert theirs == "schemas" or theirs in USES.get(mine, set()), f"{name} uses {target}"


def test_there_are_no_circles() -> None:
    packages = {name for name, file in MODULES.items() if file.name == "__init__.py"}
    graph = {name: targets - packages for name, targets in IMPORTS.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def needed_by(stage: str, package: str = "stages") -> set[str]:
    """The files of all modules that a stage imports, itself included."""
    found, todo = set(), {f"{package}.{stage}"}
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= IMPORTS[name] - found
    return {str(MODULES[name].relative_to(ROOT)) for name in found}


@pytest.mark.parametrize("stage", EVERY_STAGE)
def test_dvc_yaml_lists_what_a_stage_imports(stage: str) -> None:
    needed = needed_by(stage, "analyses" if stage in ANALYSES else "stages") - {"stages/__init__.py"}
    code = {dep for dep in {**PIPELINE, **ANALYSES}[stage]["deps"] if dep.startswith(TOP)}
    assert code == {next((dep for dep in code if file.startswith(f"{dep}/")), file) for file in needed}
    for folder in code - {"schemas"}:
        there = {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*.py")}
        assert len(needed & there) >= NEARLY_ALL * len(there), f"{stage} uses few of {folder}"


def test_a_comma_in_pseudonyms_concerns_export_alone() -> None:
    reading = [stage for stage in STAGES if "pipeline/files/pseudonyms.py" in needed_by(stage)]
    assert reading == ["export"]
    assert not {"pipeline/files", "pipeline/files/pseudonyms.py"} & set(PIPELINE["extract"]["deps"])


def test_dvc_yaml_has_the_paths_of_paths() -> None:
    paths = Paths()
    wrote = {
        "extract": (paths.raw, paths.extract_report),
        "validate": (paths.quarantine, paths.validation_report),
        "export": (paths.export, paths.quality_report),
        "load": (paths.database, paths.load_report),
        "report": (paths.report, paths.checks_report),
    }
    read = {
        "extract": {paths.watermark},
        "validate": {paths.raw, paths.extract_report},
        "export": {paths.raw, paths.quarantine, paths.extract_report, paths.validation_report},
        "load": {paths.raw, paths.quarantine, paths.export, paths.extract_report, paths.quality_report},
        "report": {
            paths.export,
            paths.watermark,
            paths.extract_report,
            paths.validation_report,
            paths.quality_report,
            paths.load_report,
        },
    }
    for name, stage in PIPELINE.items():
        assert stage["cmd"] == f"python -m stages.{name}"
        out, metric = wrote[name]
        assert stage["outs"] == [{str(out): {"persist": True}}]
        assert stage["metrics"] == [{str(metric): {"cache": False, "persist": True}}]
        assert {Path(dep) for dep in stage["deps"] if not dep.startswith(TOP)} == read[name]


def test_dvc_yaml_has_whole_groups_of_params() -> None:
    """So that an unknown key in a group runs a stage into its error. Of others' groups a stage has single keys."""
    groups = {name: [param for param in stage["params"] if "." not in param] for name, stage in PIPELINE.items()}
    assert groups == {
        "extract": ["tables", "source", "extract"],
        "validate": ["tables", "validate"],
        "export": ["tables", "dataset", "export"],
        "load": ["tables", "export", "load"],
        "report": ["tables", "quality"],
    }


def functions(file: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


@pytest.mark.parametrize("name", MODULES)
def test_no_function_takes_many_arguments(name: str) -> None:
    for function in functions(MODULES[name]):
        args = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        many = len(args) - (args[:1] == ["self"])
        assert many <= MAX_ARGUMENTS or function.name == "__init__", f"{name}.{function.name}"


TESTS = sorted((ROOT / "tests").glob("*.py"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_a_test_file_can_be_read(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and not file.name.startswith("conftest"):
            assert not node.module.startswith("tests.test_")
    for function in functions(file):
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.parametrize":
                assert has_ids(decorator), f"{file.name}: {function.name}: {ast.unparse(decorator)[:80]}"


def has_ids(decorator: ast.Call) -> bool:
    """A table has ids: by `ids`, by pytest.param, or because each line is one word or number that says it all."""
    table: Any = decorator.args[1]
    if any(keyword.arg == "ids" for keyword in decorator.keywords) or not isinstance(table, ast.List | ast.Tuple):
        return True
    return all(isinstance(line, ast.Constant) or "id=" in ast.unparse(line) for line in table.elts)
