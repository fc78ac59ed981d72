"""What a night does to a branch: its own commits and other people's, hooks, tags, a larger repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.versions import git
from pipeline.versions.git import GitError, Rejected

CHECKS = "'the project/data/reports/checks.json'"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of a larger repository, with what it pushed."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "night")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "night@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    run(tmp_path, "init", "-q", "--bare", "-b", "main", "bare")
    run(tmp_path, "clone", "-q", "bare", "large")
    folder = tmp_path / "large" / "the project"
    (folder / "data/reports").mkdir(parents=True)
    for name in (*git.OWN[:2], "data/reports/checks.json", "../other"):
        (folder / name).write_text("before\n")
    run(folder, "add", "-A", "..")
    run(folder, "commit", "-q", "-m", "all")
    run(folder, "push", "-q", "-u", "origin", "HEAD:main")
    monkeypatch.chdir(folder)
    return folder


def run(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def hook(name: str, text: str) -> None:
    file = Path(git.git("rev-parse", "--git-path", "hooks").strip()) / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def snapshot() -> bool:
    Path("data/reports/checks.json").write_text("after\n")
    return git.commit("Snapshot 2025-10-28: 1 row, passed", 60)


def test_only_commits_of_its_own_paths_are_a_night_s(project: Path) -> None:
    follows = git.upstream()
    assert snapshot()
    assert len(git.ours(follows)) == 1
    (project / "../other").write_text("figures\n")
    run(project, "commit", "-qam", "Snapshot 2025-10-28: figures of another team")
    assert len(git.ours(follows)) == 1
    assert git.catch_up(follows, 0, 60) == "1 unpushed snapshot dropped, 1 unpushed commit kept"
    assert (project / "../other").read_text() == "figures\n"
    assert Path("data/reports/checks.json").read_text() == "before\n"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        pytest.param(f"echo other > {CHECKS}; git add {CHECKS}", "altered", id="alters a file"),
        pytest.param(f"echo other > {CHECKS}", "altered", id="alters it in the folder"),
        pytest.param("echo new > extra; git add extra", "altered what was committed: extra", id="adds a file"),
    ],
)
def test_a_hook_that_alters_the_commit_ends_the_night(project: Path, does: str, said: str) -> None:
    hook("pre-commit", does)  # runs at the top of the repository
    before = run(project, "rev-parse", "HEAD")
    with pytest.raises(GitError, match=said):
        snapshot()
    assert run(project, "rev-parse", "HEAD") == before


def test_a_tag_with_the_branch_s_name(project: Path) -> None:
    run(project, "tag", "main")
    assert git.upstream().ref == "refs/heads/main"


def test_a_lost_race_is_told_from_a_refusal_whatever_hooks_print(project: Path, tmp_path: Path) -> None:
    run(tmp_path, "clone", "-q", "bare", "second")
    run(tmp_path / "second", "commit", "-q", "--allow-empty", "-m", "first")
    run(tmp_path / "second", "push", "-q")
    hook(
        "pre-push",
        "for i in 1 2 3 4 5 6 7 8 9; do echo a line of sixty characters that says how well it all went >&2; done",
    )
    assert snapshot()
    with pytest.raises(Rejected):
        git.push(git.upstream(), 60)
    assert git.fetch(git.upstream(), 60) == 1


def test_a_link_in_place_of_the_reports_is_not_committed(project: Path, tmp_path: Path) -> None:
    reports = Path("data/reports")
    reports.rename(tmp_path / "elsewhere")
    reports.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GitError, match="data/reports is a link") as refused:
        git.commit("Snapshot 2025-10-28: 1 row, passed", 60)
    subprocess.run(refused.value.next_step, shell=True, check=True, capture_output=True)
    assert reports.is_dir()
    assert not reports.is_symlink()
