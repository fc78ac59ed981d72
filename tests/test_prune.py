"""Snapshots that are not kept lose their files, and no other does: against a walk of the folders by other means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from commands.prune import Options, prune
from pipeline.core.errors import PipelineError
from pipeline.core.paths import Paths
from pipeline.versions import prune as files_of_snapshots
from pipeline.versions.place import Place
from pipeline.versions.retention import Rules
from tests.docs import blocks, run_shell, with_venv
from tests.fix_prune import DAY, SNAPSHOTS, files, in_bucket, named, objects
from tests.fix_remote import S3, configure, copy_of
from tests.helpers import Clone

pytestmark = pytest.mark.xdist_group("remote")

# What each of some commits has of the two days, pulled into an empty cache.
PULL = """
import subprocess, sys
from pathlib import Path
from dvc.repo import Repo
for revision in sys.argv[2:]:
    subprocess.run(["git", "checkout", "-q", revision], check=True)
    try:
        with Repo(".") as repo:
            repo.pull(force=True)
        print(*(Path(sys.argv[1].format(number)).read_text() for number in (6, 7)))
    except Exception as error:
        print(type(error).__name__)
"""


def commit(clone: Clone, message: str) -> str:
    return clone.run("git", "log", "--all", "--format=%H", f"--grep=^{message}$").stdout.strip()


def say(clone: Clone, *arguments: str, ok: bool = True) -> str:
    done = clone.run("python", "-m", "commands.prune", *arguments, ok=ok)
    return done.stdout + done.stderr


def rows(said: str) -> dict[str, str]:
    """Of each commit that the table has, whether it is kept and why."""
    return dict(re.findall(r"^prune: \d{4}-\d\d-\d\d  (\w{7})  (.*)$", said, re.M))


def test_what_is_kept_stays_and_all_else_goes(kept: tuple[Clone, Path], s3: S3, bucket: str) -> None:
    own, folder = kept
    cache = own.path / ".dvc/cache"
    with open(own.path / ".dvc/config", "a", encoding="utf-8") as config:
        config.write(f"['remote \"cloud\"']\n    url = s3://{bucket}/events\n    endpointurl = {s3.url}\n")
    own.commit("another remote")
    own.run("dvc", "push", "-q", "--all-commits", "-r", "cloud")
    pushed = in_bucket(s3, bucket)
    assert pushed
    for root in (cache, folder):
        strange = root / "files/md5/00" / ("0" * 30)
        strange.parent.mkdir(parents=True, exist_ok=True)
        strange.write_text("another project's")
    before = [*objects(cache, folder)]
    names = {name: named(own, commit(own, name), cache) for _, name, *_ in SNAPSHOTS} | {
        "an idea": named(own, "idea", cache)
    }
    stay = {"july", "late", "last", "an idea"}
    goes = set.union(*(names[name] for name in names.keys() - stay)) - set.union(*(names[name] for name in stay))
    assert len(goes) > 4
    given = ("--keep-daily", "2", "--keep-monthly", "1", "--keep-tags")

    everything = files(own.path.parent)
    s3.forget_requests()
    said = say(own, *given)
    assert files(own.path.parent) == everything
    assert s3.requests("DELETE") + s3.requests("POST") == []
    table = rows(said)
    short = {name: commit(own, name)[:7] for name in names}
    assert list(table) == sorted(table, key=list(table).index)
    assert {name for name in names if table[short[name]].startswith("kept")} == stay
    assert table[short["last"]] == "kept   branch main, day 2025-10-23, month 2025-10"
    assert table[short["late"]] == "kept   day 2025-10-22"
    assert table[short["july"]] == "kept   tag study-1"
    assert table[short["an idea"]] == "kept   branch idea"
    assert table[short["june"]].startswith("goes   2 files, 0.0 MB")
    assert f"prune: cache: {len(goes)} of {len(before[0])} files" in said
    assert "1 file of no version that Git knows, not touched" in said
    assert "dry run, nothing was deleted; next: python -m commands.prune --keep-daily 2 --keep-monthly 1" in said

    said = say(own, *given, "--yes")
    assert objects(cache, folder) == [some - goes for some in before]
    assert in_bucket(s3, bucket) == pushed - goes
    assert "proof: all files of 4 kept snapshots are where they were: " in said
    other = copy_of(own, "elsewhere")
    configure(other, "url", str(folder))
    gone = commit(own, "june")
    pulled = other.run("python", "-c", PULL, DAY, *(commit(own, name) for name in (*sorted(stay), "june"))).stdout
    contents = {name: (one, two) for _, name, one, two in SNAPSHOTS} | {"an idea": ("8", "two")}
    assert pulled.splitlines() == [*(" ".join(contents[name]) for name in sorted(stay)), "CheckoutError"]
    for words in (("commands.query", "SELECT 1", "--at", gone), ("commands.diff", gone, "HEAD")):
        assert "neither in the cache nor in the remote" in own.fails("python", "-m", *words)
    listed = own.run("python", "-m", "commands.versions", "--all").stdout
    assert re.search(rf"^{gone[:7]} .* gone$", listed, re.M)
    assert re.search(rf"^{short['july']} .* cache, remote  study-1$", listed, re.M)


KEEP_LAST = Rules(daily=1)

# What is another case of the same.
LONG = pytest.mark.long


@pytest.fixture
def here(kept: tuple[Clone, Path], monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The clone as the current folder, for calls in this process."""
    monkeypatch.chdir(kept[0].path)
    for name, value in kept[0].env.items():
        monkeypatch.setenv(name, value)
    return kept[0]


def call(yes: bool = False, local_only: bool = False, rules: Rules = KEEP_LAST) -> None:
    prune(Paths(), Options(rules, yes, local_only, "COMMAND"))


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        pytest.param("git branch old JUNE", "branch old", id="branch", marks=LONG),
        pytest.param("git checkout -q JUNE", "HEAD", id="detached", marks=LONG),
        pytest.param("git checkout -q JUNE -- dvc.lock && git stash -q", "stash", id="stash"),
        pytest.param(
            "git checkout -q JUNE -- dvc.lock && git stash -q && echo '#' >> dvc.lock && git stash -q",
            "stash@{1}",
            id="older stash",
            marks=LONG,
        ),
        pytest.param(
            "git checkout -q JUNE -- dvc.lock && git show HEAD:dvc.lock > dvc.lock && git stash -q",
            "stash@{0}^2",
            id="staged in a stash",
            marks=LONG,
        ),
        pytest.param(
            "git checkout -q JUNE -- dvc.lock && git show HEAD:dvc.lock > dvc.lock", "staged", id="staged", marks=LONG
        ),
        pytest.param("git show JUNE:dvc.lock > dvc.lock", "workspace", id="workspace", marks=LONG),
        pytest.param("git update-ref refs/exps/ab/cdef/some JUNE", "exps/ab/cdef/some", id="experiment", marks=LONG),
        pytest.param("git worktree add -q --detach ../tree JUNE", "worktree ", id="worktree", marks=LONG),
        pytest.param(
            "git worktree add -q --detach ../tree HEAD && cd ../tree && git checkout -q JUNE -- dvc.lock && "
            "git show HEAD:dvc.lock > dvc.lock",
            "staged",
            id="staged in a worktree",
        ),
        pytest.param(
            "git init -q --bare ../hub && git remote add hub ../hub && git push -q hub JUNE:refs/heads/theirs && "
            "git update-ref -d refs/remotes/hub/theirs",
            "branch hub/theirs",
            id="pushed elsewhere",
        ),
        pytest.param("mkdir -p .dvc/tmp/exps/a && git show JUNE:dvc.lock > .dvc/tmp/exps/a/dvc.lock", "", id="copy"),
        pytest.param(
            "git show JUNE:dvc.lock | sed s/data/old/ > analyses/dvc.lock && git commit -qam analyses",
            "",
            id="analyses",
        ),
    ],
)
def test_what_somebody_uses_is_kept(here: Clone, capsys: pytest.CaptureFixture[str], use: str, reason: str) -> None:
    june = commit(here, "june")
    own = named(here, june, here.path / ".dvc/cache")
    (before,) = objects(here.path / ".dvc/cache")
    here.run("sh", "-ec", use.replace("JUNE", june))
    call(yes=True)
    said = rows(capsys.readouterr().out)[june[:7]]
    assert said.startswith(f"kept   {reason}" if reason else "stays  kept snapshots have all its files")
    assert objects(here.path / ".dvc/cache")[0] & own == before & own


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param(
            "git clone -q --bare . ../hub && git remote add hub ../hub && git clone -q ../hub ../else && "
            "git -C ../else commit -q --allow-empty -m theirs && git -C ../else push -q",
            "hub has what this clone does not know: refs/heads/main",
            id="behind",
        ),
        pytest.param(
            "git remote add hub ../nowhere", "hub does not say which branches it has", id="no answer", marks=LONG
        ),
        pytest.param("git rev-parse HEAD > .git/shallow", "this clone is shallow", id="shallow"),
        pytest.param(
            "echo '<<<<<<<' >> dvc.lock && git commit -qam conflict && git revert --no-edit -n HEAD && "
            "git commit -qm mended",
            ":./dvc.lock can't be read",
            id="conflict in history",
        ),
        pytest.param("head -c 30 dvc.lock > a && mv a dvc.lock", "dvc.lock can't be read", id="cut off", marks=LONG),
        pytest.param(": > dvc.lock", "dvc.lock can't be read", id="empty", marks=LONG),
        pytest.param("rm dvc.lock && ln -s params.yaml dvc.lock", "dvc.lock can't be read", id="a link", marks=LONG),
        pytest.param("mv '../a folder' ../away", "holds no file at all", id="remote away", marks=LONG),
        pytest.param(
            "rm -r '../a folder' && mkdir '../a folder'", "holds no file at all", id="remote empty", marks=LONG
        ),
        pytest.param(
            "sed -i 's#url = .*#url = s3://nowhere/events#' .dvc/config.local && "
            "echo '    endpointurl = http://127.0.0.1:1' >> .dvc/config.local",
            "can't read or write the remote s3://nowhere/events",
            id="remote does not answer",
            marks=LONG,
        ),
        pytest.param(
            "rm .dvc/config.local && git rm -q .dvc/config && touch .dvc/config",
            "no remote",
            id="no remote",
            marks=LONG,
        ),
        pytest.param(
            'for f in .dvc/cache "../a folder"; do rm "$f/files/md5/LIST"; echo "[]" > "$f/files/md5/LIST"; done',
            "of a snapshot that is kept is damaged",
            id="damaged list",
            marks=LONG,
        ),
        pytest.param(
            """mkdir -p .dvc/tmp && echo '{"write": {"data/raw": {"pid": PID}}}' > .dvc/tmp/rwlock""",
            "another command of DVC works in this project",
            id="DVC runs",
        ),
        pytest.param(
            "mkdir -p .dvc/tmp/exps/a/.dvc/tmp && "
            """echo '{"write": {"data/raw": {"pid": PID}}}' > .dvc/tmp/exps/a/.dvc/tmp/rwlock""",
            "another command of DVC works in this project",
            id="an experiment runs",
            marks=LONG,
        ),
    ],
)
def test_what_is_not_known_is_no_reason_to_delete(here: Clone, state: str, said: str) -> None:
    md5 = here.hashes()["data/export"]
    state = state.replace("LIST", f"{md5[:2]}/{md5[2:]}").replace("PID", str(os.getpid()))
    here.run("sh", "-ec", state)
    before = objects(here.path / ".dvc/cache", here.path.parent / "a folder")
    with pytest.raises(PipelineError) as caught:
        call(yes=True)
    assert said in str(caught.value)
    assert objects(here.path / ".dvc/cache", here.path.parent / "a folder") == before


def test_one_day_of_a_branch_does_not_stand_for_that_of_another(
    here: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's try, later on the day of a night, keeps none of its files from being kept."""
    env = {"GIT_COMMITTER_DATE": "2025-10-22 20:00:00 +0000"}
    here.run("git", "checkout", "-qb", "try", commit(here, "late"))
    (here.path / "dvc.lock").write_text(here.text("dvc.lock") + "# a try\n")
    here.run("git", "commit", "-qam", "a try", **env)
    here.run("git", "checkout", "-q", "main")
    call(rules=Rules(daily=2))
    said = rows(capsys.readouterr().out)
    assert said[commit(here, "a try")[:7]] == "kept   branch try, day 2025-10-22"
    assert said[commit(here, "late")[:7]] == "kept   day 2025-10-22"


@pytest.mark.parametrize("when", [pytest.param("before", id="before", marks=LONG), pytest.param("after", id="after")])
def test_a_branch_that_comes_meanwhile(here: Clone, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Before the first file is deleted nothing is; after it the end says so."""
    june, cache = commit(here, "june"), here.path / ".dvc/cache"
    work = {"before": "plan", "after": "delete"}[when]
    own, before = getattr(files_of_snapshots, work), objects(cache)

    def meanwhile(*given: Any) -> Any:
        here.run("git", "branch", "-f", "meanwhile", june)
        return own(*given)

    monkeypatch.setattr(files_of_snapshots, work, meanwhile)
    with pytest.raises(PipelineError, match="what is kept has changed") as caught:
        call(yes=True)
    assert ("before anything was deleted" in str(caught.value)) == (when == "before")
    assert (objects(cache) == before) == (when == "before")


def test_what_was_broken_off_is_completed(
    here: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, folder = here.path / ".dvc/cache", here.path.parent / "a folder"
    delete, deleted = Place.delete, []
    before = objects(cache, folder)
    stay = named(here, "HEAD", cache) | named(here, "idea", cache)
    goes = set.union(*(named(here, commit(here, name), cache) for _, name, *_ in SNAPSHOTS)) - stay

    def some(place: Place, file: str) -> None:
        if len(deleted) == 3:
            raise PipelineError("away", where="", expected="", next_step="")
        deleted.append(file)
        delete(place, file)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "delete", some)
        with pytest.raises(PipelineError, match="away"):
            call(yes=True)
    assert not any(file.endswith(".dir") for file in deleted)  # which say what else there is to do
    call(yes=True)
    assert objects(cache, folder) == [some - goes for some in before]
    assert "proof: all files of 2 kept snapshots" in capsys.readouterr().out


def test_the_page(kept: tuple[Clone, Path]) -> None:
    (both,) = blocks("retention", language="sh")
    said = run_shell(with_venv(kept[0]), both, {})
    assert "dry run, nothing was deleted" in said
    assert "proof: all files of 7 kept snapshots" in said  # all but the early one of a day
