"""README and docs against the code: generated parts, links, names, and every command and snippet run as written."""

from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pipeline.core import errors
from pipeline.core.errors import PipelineError
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.table import markdown
from schemas.types import TYPES
from tests import docs
from tests.docs import PAGES, Block, blocks, fill_in, run_console, run_shell, shows, with_venv
from tests.fix_remote import S3, answers, bytes_of, copy_of, night
from tests.helpers import ROOT, UNTIL, USER_A, USER_B, Clone, Database, event

pytestmark = pytest.mark.xdist_group("clones")

REPORTS = ("extract", "validation", "quality", "load", "checks")
CONFIG = [ROOT / name for name in ("params.yaml", "dvc.yaml", "Makefile")]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

# Languages that nothing runs: pictures and forms of words.
PICTURES = {"text"}

# Of each page, the test below that runs its commands.
RUN_BY = {
    "README": "test_readme",
    "contract": "test_contract",
    "errors": "test_errors",
    "evolving": "test_evolving",
    **{page: f"test_{page}" for page in ("erase", "scale")},  # in files of their own
    "retention": "test_prune",
    "internals": "test_internals",
    "parameters": "test_parameters",
    "performance": "test_performance",
    "handover": "test_handover",
    **dict.fromkeys(("analyses", "nights", "quality"), "test_pages"),
    "querying": "test_querying",
    "versions": "test_versions",
    "your-database": "test_your_database",
    "your-tables": "test_adopted",
}


def ids(block: Block) -> str:
    return block.id


def test_every_block_is_run_or_says_that_it_is_not() -> None:
    runnable = [block for block in blocks() if block.language not in PICTURES and not block.not_run]
    assert {block.page for block in runnable} == set(RUN_BY)
    assert {block.language for block in runnable} == {"sh", "console", "python", "sql", "diff", "yaml"}
    assert all(name in globals() or (ROOT / f"tests/{name}.py").exists() for name in RUN_BY.values())
    assert [block.id for block in blocks() if block.not_run] == ["querying 8 r"]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", docs.text(page)):
        assert (PAGES[page].parent / link).exists(), link
    for path in re.findall(
        r"`((?:schemas|stages|commands|pipeline|queries|docs|tests|benchmarks)/[\w./]*)`", docs.text(page)
    ):
        assert (ROOT / path).exists() or path == "schemas/TABLE.py", path


@pytest.mark.parametrize("page", PAGES)
def test_targets_and_modules_exist(page: str) -> None:
    written = docs.text(page)
    for targets in re.findall(r"(?:`|^|\$ )make ((?:[a-z]+ ?)+)", written, re.M):
        for target in targets.split():
            assert re.search(rf"^{target}:.*## ", MAKEFILE, re.M), target
    for module in set(re.findall(r"python -m ((?:stages|commands)\.[a-z]+)", written)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()


def test_the_first_page_is_short() -> None:
    assert len(docs.text("README").splitlines()) <= 150
    assert len(docs.text("README").split()) < 1100


def test_the_column_table_is_made_from_the_contract() -> None:
    assert markdown(BEHAVIORAL_EVENTS) in docs.text("contract"), "next: make docs"


def test_generated_tables_are_written_in_place() -> None:
    written = docs.text("contract")
    assert docs.generate(written.replace("0 to 23", "0 to 24")) == written


def test_the_type_table_has_every_kind() -> None:
    section = docs.text("contract").split("## Types")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", section, re.M)
    kinds = {prisma.lower(): more for prisma, *more in rows if prisma != "Prisma"}
    for type_ in [type_ for kind, type_ in TYPES.items() if kind != "decimal"]:
        assert kinds[type_.prisma.lower()] == [type_.postgres, type_.raw, type_.export, type_.duckdb]
    assert len(kinds) == len(TYPES)


def test_the_params_table_has_every_key_with_its_default_and_readers() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|.*\| ([a-z, ]+) \|$", docs.text("parameters"), re.M)
    groups = {group: keys if isinstance(keys, dict) else {"": keys} for group, keys in params.items()}
    assert {key: yaml.safe_load(value) for key, value, _ in rows} == {
        f"{group}.{name}".strip("."): value for group, keys in groups.items() for name, value in keys.items()
    }
    for key, _, readers in rows:
        reading = [name for name, stage in stages.items() if {key, key.split(".")[0]} & set(stage["params"])]
        assert readers.split(", ") == (reading or ["no stage"])


def is_kind(value: object) -> bool:
    """Whether this is an error with an exit code of its own."""
    return (
        isinstance(value, type)
        and issubclass(value, PipelineError)
        and "exit_code" in vars(value)
        and value.exit_code > 1
    )


def test_the_exit_codes_are_those_of_the_code() -> None:
    kinds = [PipelineError, *(kind for kind in vars(errors).values() if is_kind(kind))]
    documented = {int(code): words for code, words in re.findall(r"^\| (\d+) \| (.*) \|$", docs.text("errors"), re.M)}
    assert {kind.exit_code for kind in kinds} | {0, 130, 143} == set(documented)
    for kind in kinds[1:]:
        assert documented[kind.exit_code] == (kind.__doc__ or "").strip().rstrip(".")
    assert PipelineError.exit_code == 1


@pytest.mark.parametrize("path", [*PAGES.values(), *CONFIG], ids=lambda path: path.name)
def test_no_machine_path_is_written_down(path: Path) -> None:
    assert not re.search(r"/(root|home|work|tmp)/", path.read_text(encoding="utf-8"))


def test_readme(first_run: tuple[Clone, str], clone: Clone, db: Database) -> None:
    """The two commands and the query print what the page shows; then the four lines on a database of one's own."""
    make, query = blocks("README", language="console")
    assert make.text.startswith("$ make repro\n")
    shows(make, first_run[1])
    run_console(with_venv(clone), query)
    db.insert(event(timestamp=f"{datetime.now(UTC).date() - timedelta(days=1)} 10:00:00"))
    clone.change(("days: 90", "days: 2"))
    url = db.url() + "&schema=public"
    (own,) = blocks("README", language="sh")
    said = run_shell(clone, own, {}, DATABASE_URL=url)
    assert "postgresql://reader:PASSWORD@HOST:5432/app?schema=public" in clone.text(".env")
    assert "Behavioural events, ready to query" in said
    assert "Snapshot" in clone.run("git", "log", "-1", "--format=%s").stdout


def test_the_next_command_works_as_printed(clone: Clone) -> None:
    printed = clone.run("python", "-m", "commands.summary").stdout
    command = printed.split("Next, for example:\n")[1].strip()
    assert command.startswith(".venv/bin/python ")
    assert "intervention_A_2" in with_venv(clone).run(*shlex.split(command)).stdout


def test_your_database(clone: Clone, db: Database) -> None:
    """With a role that the page makes, which can read the table and nothing else."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    db.insert(event(), event(timestamp="2025-07-20 00:00:00"), event(timestamp=f"{yesterday} 10:00:00"))
    role, _of_columns = blocks("your-database", language="sql")
    name = f"reader_{db.name}"
    db.run(fill_in(role.text, {"reader": name}))
    first, window = blocks("your-database", language="sh")
    said = run_shell(with_venv(clone), first, {}, DATABASE_URL=db.url(user=name))
    assert "is what the contract describes" in said
    said = run_shell(clone, window, {}, DATABASE_URL=db.url(user=name))
    assert "+    '2025-07-20': {rows: 1, digest: '" in said
    db.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def marked(block: Block) -> object:
    """Spark takes a quarter of a minute to start."""
    return pytest.param(block, marks=pytest.mark.long if "pyspark" in block.text else ())


@pytest.mark.parametrize("block", [*map(marked, blocks("contract", "querying", language="python"))], ids=ids)
def test_querying(reproduced: Clone, block: Block) -> None:
    reproduced.run("python", "-c", block.text, PYTHONPATH=READERS, **SPARK)


# polars and Spark stand beside the packages of the project.
READERS = str(Path(sys.prefix, "readers"))
# Its own address, so that it asks no name server for the machine's.
SPARK = {"SPARK_LOCAL_IP": "127.0.0.1"}


def test_querying_on_the_command_line(clone: Clone) -> None:
    (block,) = blocks("querying", language="sh")
    said = run_shell(with_venv(clone), block, {})
    assert "12 rows shown" in said
    assert len((clone.path.parent / "events.csv").read_text(encoding="utf-8").splitlines()) > 52_379
    (clone.path.parent / "events.csv").unlink()


def test_the_effect_is_found_again(reproduced: Clone) -> None:
    (query,) = blocks("querying", language="sql")
    effect = float(reproduced.run("python", "-m", "commands.query", "--csv", query.text).stdout.split()[1])
    assert f"gives {effect}." in docs.text("querying")
    assert abs(effect - 8) < 0.6


@pytest.mark.long
def test_contract(clone: Clone) -> None:
    """The command for a new key; the snippet runs with those of querying."""
    clone.change(("pseudonymize: false", "pseudonymize: true"))
    clone.run("dvc", "repro", PSEUDONYM_KEY="k" * 32)
    before = clone.hashes()["data/export"]
    run_shell(with_venv(clone), *blocks("contract", language="sh"), {}, PSEUDONYM_KEY="another key " * 4)
    assert clone.hashes()["data/export"] != before
    assert "up to date" in clone.run("dvc", "repro", PSEUDONYM_KEY="another key " * 4).stdout


def test_internals(clone: Clone) -> None:
    (block,) = blocks("internals", language="sh")
    sha256, line = run_shell(with_venv(clone), block, {}).splitlines()
    assert sha256.split()[0] in line


def test_errors(clone: Clone) -> None:
    """Going back to the last commit, after a run that went wrong. The short run of faults is a test of its own."""
    back, short = blocks("errors", language="sh")
    assert short.text == "make faults KILLS=4 TIMES=0\n"
    clone.change(("days: 90", "days: 3"))
    clone.run("python", "-m", "stages.extract")
    clone.run("git", "checkout", "params.yaml")
    run_shell(with_venv(clone), back, {})
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in clone.run("dvc", "repro").stdout


def test_performance() -> None:
    """The short run of the page is that of a test of its own."""
    assert [block.text for block in blocks("performance", language="sh")] == ["make bench ROWS=5000 DAYS=4 RUNS=1\n"]


@pytest.mark.long
def test_parameters(clone: Clone, db: Database) -> None:
    """Experiments in the checkout, in a temporary copy and in the queue; the copies read the checkout's .env."""
    db.insert(event(), event(timestamp="2025-10-26 00:00:00"), event(timestamp="2025-10-26 00:00:01", userId=USER_B))
    db.insert(event(timestamp="2025-09-25 00:00:00"))
    (clone.path / ".env").write_text(f'DATABASE_URL="{db.url()}&schema=public"\n')
    clone.change(("days: 90", "days: 40"))
    night(clone, UNTIL, "our own")
    (block,) = blocks("parameters", language="sh")
    # Waits for the queue and, by the pipe, for its worker, because `dvc exp show` beside a working queue may hang.
    script = block.text.replace("dvc exp run --run-all ", "dvc exp run --run-all 2>&1 | cat #")
    said = run_shell(with_venv(clone), block._replace(text=script), {"USER_ID": USER_B}, COLUMNS="100")
    table = [line for line in said[said.rindex("Experiment") :].splitlines() if "─" not in line]
    assert table[0].split() == ["Experiment", "days", "rows", "users", "bytes", "extract.days", "extract.user_id"]
    assert max(len(line.rstrip()) for line in table) <= 100
    diff = said[said.index("Path") :].split("\n\n")[0]
    assert re.search(r"quality.json +rows +4 +3 +-1", diff)
    listed = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    shown = [
        revision["data"]["metrics"]["data/reports/quality.json"]["data"]["rows"]
        for branch in listed
        for experiment in branch.get("experiments") or []
        for revision in experiment["revs"]
    ]
    assert sorted(shown) == [1, 3, 3]
    # Of all columns the metrics and params come first; the hashes of data/ stand right of them, where a pager cuts off.
    for command in (["metrics", "show"], ["exp", "show", "--only-changed", "--hide-queued"]):
        printed = clone.run("dvc", *command, COLUMNS="100").stdout.splitlines()
        header = next(line for line in printed if line.strip().startswith(("Path", "Experiment")))
        assert "data/" not in header[:100] or command[0] == "exp"
        assert "rows" in header[:100]


def diff_of(block: Block, clone: Clone) -> None:
    clone.run("sh", "-c", f"git apply -p0 <<'END'\n{block.text}END\n")


@pytest.mark.long
def test_evolving(clone: Clone, db: Database) -> None:
    """Each change after the other, as the page has them, with rows that need it."""
    db.insert(*(event(timestamp=f"2025-10-2{day} 10:00:00", sessionPerformanceScore=50) for day in (6, 7)))
    clone.env["DATABASE_URL"] = db.url()
    clone.change(("days: 90", "days: 2"))
    night(clone, UNTIL, "our own")
    with_venv(clone)
    first, described = clone.hashes()["data/export"], []
    insert = 'INSERT INTO behavioral_events (id, "userId", "eventType", "eventData", timestamp{}) '
    insert += f"SELECT 'c' || lpad('{{}}', 24, '0'), '{USER_A}', '{{}}', '{{{{}}}}', timestamp '2025-10-27 11:00'{{}}"
    rows = {
        1: insert.format("", "a", "NOTE_TAKEN", ""),
        2: insert.format(', "deviceType"', "b", "GRAPH_VIEWED", ", 'phone'"),
        3: insert.format(', "sessionPerformanceScore"', "c", "GRAPH_VIEWED", ", 49.5"),
    }
    change = 0
    for block in blocks("evolving"):
        if block.language == "sql":
            change += 1
            if change == 4:
                db.run('DELETE FROM behavioral_events WHERE "sessionPerformanceScore" = 49.5')
            db.run(block.text)
            if change in rows:
                db.run(rows[change].replace("{{}}", "{}"))
        elif block.language == "diff":
            diff_of(block, clone)
        else:
            script = block.text.replace("make refresh", f"make refresh UNTIL={UNTIL}")
            run_shell(clone, block._replace(text=script), {})
            assert clone.run("git", "status", "--porcelain").stdout == ""
            assert ("`deviceType`" in clone.text("docs/contract.md")) == (change in (2, 3, 4))
            described.append(clone.run("python", "-m", "commands.query", "--csv", "DESCRIBE behavioral_events").stdout)
            assert (
                str(len(db.rows()))
                in clone.run("python", "-m", "commands.query", "--csv", "SELECT count(*) FROM behavioral_events").stdout
            )
            if change == 1:
                assert clone.hashes()["data/export"] != first  # one row more
    assert "deviceType,VARCHAR" in described[1]
    assert "sessionPerformanceScore,INTEGER" in described[1]
    assert "sessionPerformanceScore,DOUBLE" in described[2]
    assert described[3] == described[1]


@pytest.mark.long
@pytest.mark.xdist_group("remote")
def test_versions(own: Clone, db: Database, s3: S3, bucket: str) -> None:
    """The page from top to bottom, in one clone and its copies."""
    with_venv(own)
    old = own.run("git", "rev-parse", "HEAD").stdout.strip()
    hub = f"{own.path} hub.git"
    own.run("git", "clone", "-q", "--bare", str(own.path), hub)
    own.run("git", "remote", "add", "origin", hub)
    own.run("git", "push", "-qu", "origin", "HEAD")
    words = {"s3://BUCKET/FOLDER": f"s3://{bucket}/events ENDPOINT={s3.url}", "REV": old, "BRANCH": "theirs"}
    remote, older, elsewhere, damaged, later, there, past, _, back, merge, one = blocks("versions", language="sh")

    def run(clone: Clone, block: Block) -> str:
        script = re.sub(r"make (refresh|night)", rf"make \1 UNTIL={UNTIL}", block.text).replace(
            "s3://BUCKET/FOLDER", "PLACE"
        )
        return run_shell(clone, block._replace(text=script), words | {"PLACE": words["s3://BUCKET/FOLDER"]})

    run(own, remote)
    run(own, older)
    own.run("git", "checkout", "-qf", "main")
    own.run("git", "push", "-q")
    clone = with_venv(copy_of(own, "without a database"))
    assert "check: remote holds all" in run(clone, elsewhere)
    assert "nothing is damaged" in run(clone, damaged)
    clone.change(("strategy: view", "strategy: table"))
    run(clone, later)
    (clone.path / "data/analytics.duckdb").unlink()
    db.insert(event(timestamp="2025-10-27 23:00:00"))
    before = bytes_of(own)
    own.run("python", "-m", "commands.night", "--until", str(UNTIL))
    assert own.run("git", "log", "-1", "--format=%s").stdout == f"Snapshot {UNTIL}: 11 rows, warned\n"
    bad = own.run("git", "rev-parse", "HEAD").stdout.strip()
    assert "rows" in run(own, there)
    assert "0 removed" in run(own, past)
    (reading,) = blocks("versions", language="python")
    assert "11" in own.run("python", "-c", reading.text).stdout
    run(own, back)
    assert own.run("git", "status", "--porcelain").stdout == ""
    assert bytes_of(own) == before
    assert "up to date" in own.run("dvc", "repro").stdout
    own.run("git", "checkout", "-q", bad)
    own.run("dvc", "checkout")
    assert dict(answers(own))["2025-10-27"] == 3
    own.run("git", "checkout", "-q", "main")
    own.run("dvc", "checkout")
    own.run("git", "checkout", "-qb", "theirs")
    db.insert(event(timestamp="2025-10-27 21:00:00"))
    night(own, UNTIL, "their night")
    own.run("git", "checkout", "-q", "main")
    own.run("dvc", "checkout")
    db.insert(event(timestamp="2025-10-27 22:00:00"))
    night(own, UNTIL, "our night")
    assert own.run("git", "merge", "theirs", ok=False).returncode != 0
    conflicts = set(own.run("git", "diff", "--name-only", "--diff-filter=U").stdout.split())
    assert {"dvc.lock", "watermark.yaml"} <= conflicts
    assert conflicts <= {"dvc.lock", "watermark.yaml", *(f"data/reports/{name}.json" for name in REPORTS)}
    assert re.search("watermark.yaml(:| is no YAML)", own.fails("python", "-m", "stages.extract"))
    run(own, merge)
    assert own.run("git", "status", "--porcelain").stdout == ""
    assert dict(answers(own))["2025-10-27"] == 5
    assert "up to date" in own.run("dvc", "repro").stdout
    run(own, one)
    assert own.run("git", "diff", "theirs", "--", "dvc.lock").stdout == ""
    assert "up to date" in own.run("dvc", "repro").stdout
