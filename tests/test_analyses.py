"""The stages of analyses/: what was planted in the sample is found; what nothing can be said of is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from analyses import cases, daily, fitted
from analyses.abab import abab
from analyses.granger import granger
from analyses.its import its, shown
from analyses.segmented import design
from analyses.settings import Settings, load
from analyses.snapshot import PARAMS, Snapshot
from pipeline.core.errors import DataError, ParamsError
from pipeline.core.inputs import Inputs
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.sample import rows as sample
from pipeline.views.views import create, days_between
from schemas.behavioral_events import BEHAVIORAL_EVENTS, EXPERIMENT_PHASES
from tests.helpers import ROOT, Clone

pytestmark = pytest.mark.xdist_group("clones")

RESULTS = "analyses/results"

COLUMNS = BEHAVIORAL_EVENTS.names  # in the order of the app's table


class InMemory(Snapshot):
    """Rows of the sample's generator, in place of data/export."""

    def __init__(self, rows: Sequence[tuple[object, ...]], first: date, last: date) -> None:
        self.first, self.last = first, last
        self.connection = duckdb.connect()
        chosen = [*range(1, 5), COLUMNS.index("sessionPerformanceScore"), COLUMNS.index("experimentPhase")]
        table = pa.table({COLUMNS[i]: [row[i] for row in rows] for i in chosen})
        self.connection.register("rows", table)
        self.connection.execute(
            "CREATE TABLE behavioral_events AS SELECT * REPLACE (CAST(timestamp AS TIMESTAMP) AS timestamp, "
            "CAST(eventData AS JSON) AS eventData) FROM rows"
        )
        self.connection.unregister("rows")
        for statement in create(days_between(first, last), ["behavioral_events"]):
            self.connection.execute(statement)


@contextmanager
def of_seed(seed: int, days: int = 90) -> Iterator[InMemory]:
    first, last = sample.UNTIL - timedelta(days=days), sample.UNTIL - timedelta(days=1)
    rows = [row for row in sample.event_rows(seed) if str(row[4]) >= str(first)]
    snapshot = InMemory(rows, first, last)
    yield snapshot
    snapshot.connection.close()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(ROOT / PARAMS)


def held(seed: int, settings: Settings) -> tuple[list[bool], list[bool]]:
    """Whether intervals hold what was planted: the mean ITS effect alone and against the control; each case's."""
    with of_seed(seed) as snapshot:
        start = (settings.its.start - snapshot.first).days
        treated, control = (
            daily.read(snapshot, "mean_score", snapshot.users(key, condition))
            for key, condition in (("its.treated", settings.its.treated), ("its.control", settings.its.control))
        )
        truth = 4 + 0.1 * (snapshot.last - settings.its.start).days / 2
        series = [
            low <= truth <= high
            for one in (treated, daily.minus(treated, control))
            for _, low, high in [fitted.fit(one, start, settings.its, "").effects["exact"]["mean"]]
        ]
        looked = [cases.look(case, settings.abab) for case in cases.read(snapshot, EXPERIMENT_PHASES, settings.abab)]
        effects = [one.effect.low <= sample.EFFECT <= one.effect.high for one in looked if one.effect is not None]
    assert len(effects) == 12
    return series, effects


@pytest.mark.parametrize(
    "seeds",
    [pytest.param(range(1, 3), id="2 seeds"), pytest.param(range(1, 51), id="50 seeds", marks=pytest.mark.long)],
)
def test_what_was_planted_is_found_again(settings: Settings, seeds: range) -> None:
    found = [held(seed, settings) for seed in seeds]
    effects = [one for _, cases in found for one in cases]
    assert sum(effects) / len(effects) >= 0.9
    for which in (0, 1):
        # 0.95 of 50 has a standard deviation of 0.031.
        assert sum(series[which] for series, _ in found) >= 0.95 * len(found) - 3 * (0.0475 * len(found)) ** 0.5


def test_nothing_is_clipped_and_days_of_change_leave_room() -> None:
    rows = list(sample.event_rows())
    scores = [int(str(row[10])) for row in rows if row[10] is not None]
    assert min(scores) > 0
    assert max(scores) < 100
    plans = {json.loads(str(row[3]))["experiment"]["changes"][0] for row in rows if '"experiment"' in str(row[3])}
    assert len(plans) > 5  # not all on the same day


def test_the_committed_results_are_those_of_the_sample(clone: Clone) -> None:
    """Made again, in another folder, they are the same bytes; they hold no user's id, and nothing that is no number."""
    folder = clone.path / RESULTS
    before = {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    for name in ("its", "abab", "granger"):
        clone.run("python", "-m", f"analyses.{name}")
    after = {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    assert after.keys() == before.keys()
    told = b"commit of dvc.lock"  # the clone's own commits
    for path, content in after.items():
        other = [
            line for line in zip(content.split(b"\n"), before[path].split(b"\n"), strict=True) if len(set(line)) > 1
        ]
        assert all(told in mine or b'"is"' in mine for mine, _ in other), path
    users = clone.run("python", "-m", "commands.query", "--csv", "SELECT DISTINCT userId FROM behavioral_events")
    ids = users.stdout.split()[1:]
    assert len(ids) == 60
    for path, content in after.items():
        assert not any(one.encode() in content for one in ids), path
        assert path.suffix == ".png" or b"NaN" not in content
    for name in ("its", "abab", "granger"):
        page = (folder / name / f"{name}.md").read_text()
        assert "| data | sha256 " in page
        json.loads((folder / name / f"{name}.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        pytest.param(
            "its",
            ('start: "2025-09-28"', 'start: "2025-12-24"'),
            "treated has 90 days before 2025-12-24 and 0 from",
            id="a day after the window",
        ),
        pytest.param("its", ('start: "2025-09-28"', "start: tomorrow"), "its.start is 'tomorrow'", id="no day"),
        pytest.param("its", ("= 'first'", "= 'nobody'"), "no user meets its.treated", id="nobody"),
        pytest.param("its", ("'$.rollout' = 'first'", "'$.rollout' = "), "its.treated is no condition", id="no SQL"),
        pytest.param(
            "its", ("= 'second'", "= 'first'"), "meet both its.treated and its.control", id="the same users twice"
        ),
        pytest.param(
            "its",
            ("'$.rollout' = 'first'", "'$.rollout' = 'first' AND random() < 0.02"),
            "its.treated gives other users each time",
            id="chance",
        ),
        pytest.param("its", ("hac_lag: null", "hac_lag: 1000000000"), "hac_lag is 1000000000", id="a lag of a billion"),
        pytest.param("abab", ("draws: 20000", "draws: 1000000000"), "draws is 1000000000", id="a billion draws"),
        pytest.param("its", ("level: 0.95", "level: 0.9999999999999999"), "its.level is 0.99", id="nearly certain"),
        pytest.param(
            "its", ("method: exact", "method: causalpy"), "its.method is causalpy, and causalpy is", id="no CausalPy"
        ),
        pytest.param("its", ("level: 0.95", "level: 95"), "its.level is 95", id="a share in percent"),
        pytest.param(
            "its", ("weekdays: false", "weekday: false"), "its has other keys than are needed", id="another key"
        ),
        pytest.param(
            "granger", ("second: mean_score", "second: events"), "both outcomes are events", id="an outcome twice"
        ),
        pytest.param(
            "abab", ("improvement: increase", "improvement: more"), "abab.improvement is 'more'", id="no direction"
        ),
    ],
)
def test_what_nothing_can_be_said_of(
    reproduced: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, change: tuple[str, str], said: str
) -> None:
    monkeypatch.chdir(reproduced.path)
    file = tmp_path / "params.yaml"
    text = PARAMS.read_text()
    assert change[0] in text
    file.write_text(text.replace(*change))
    paths = Paths()
    params = load_params(paths.params)
    snapshot = Snapshot(paths, params, Inputs(paths, params, lambda p: p, []))
    with closing(snapshot.connection), pytest.raises((DataError, ParamsError)) as caught:
        {"its": its, "abab": abab, "granger": granger}[name](snapshot, load(file))
    assert said in str(caught.value)
    assert "next: " in str(caught.value)


# Other files come from a folder once the analysis has taken its own.
CHANGED = """
import runpy, shutil, sys
from analyses import snapshot
made = snapshot.Snapshot.__init__
def init(self, *given):
    made(self, *given)
    shutil.copytree(sys.argv.pop(), ".", dirs_exist_ok=True)
snapshot.Snapshot.__init__ = init
runpy.run_module("analyses.abab", run_name="__main__")
"""


def test_an_input_that_changes_meanwhile_ends_the_stage(clone: Clone, tmp_path: Path) -> None:
    """Whichever it is: what the analysis asks, the labels of the phases, the manifest, a file, or a module."""
    days = [f"data/export/behavioral_events/event_date=2025-10-0{day}/part-0.parquet" for day in (1, 2)]
    names = [str(PARAMS), "params.yaml", "data/reports/quality.json", days[0], "analyses/ar1.py"]
    for name in names:
        content = (clone.path / (days[1] if name == days[0] else name)).read_bytes()
        content = content.replace(b"draws: 20000", b"draws: 1000").replace(b"baseline_1, ", b"baseline_1, x, ")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if name == days[0] else content + b"#")
        (clone.path / name).chmod(0o644)
    failed = clone.run("python", "-c", CHANGED, str(tmp_path), ok=False)
    assert failed.returncode == DataError.exit_code, failed.stderr
    (said,) = [line for line in failed.stderr.splitlines() if "changed meanwhile" in line]
    assert sorted(re.findall(r"[\w/]+[.\w]+(?=,| changed)", said)) == sorted({*names, "data/export"} - {days[0]})


def test_few_points_give_no_interval_and_a_line_none_at_all(settings: Settings) -> None:
    wanted = settings.its._replace(placebos=0)

    def series(values: Sequence[float]) -> daily.Series:
        days = [float(day) for day in range(len(values))]
        return daily.Series(pa.array(days).to_numpy(), pa.array(values).to_numpy(), date(2025, 10, 1), len(values) - 1)

    ten = fitted.fit(series([1.0, 3, 2, 4, 3, 8, 7, 9, 8, 10]), 5, wanted, fitted.TREATED)
    assert shown(ten.effects["exact"]["mean"], 10)["low"] is None
    assert "no interval" in fitted.notices(ten)[0]
    assert {row[5] for row in fitted.bands(ten, series([1.0, 3, 2, 4, 3, 8, 7, 9, 8, 10]), 0.95)} == {None}
    assert fitted.placebos(series([1.0, 3, 2, 4, 3, 8, 7, 9, 8, 10]), 5, settings.its) == []
    twenty = fitted.fit(series([1.0, 3, 2, 4, 3, 8, 7, 9, 8, 10] * 2), 9, wanted, fitted.TREATED)
    assert "fewer than 30" in fitted.notices(twenty)[0]
    for values, why in (([5.0] * 20, "the same value"), ([float(n) for n in range(20)], "lies on a line")):
        with pytest.raises(DataError, match=why):
            fitted.fit(series(values), 9, wanted, fitted.TREATED)
    with pytest.raises(DataError, match="2 days before"):
        fitted.fit(series([1.0, 3, 2, 4, 3, 8, 7, 9, 8, 10]), 2, wanted, fitted.TREATED)


def test_settings_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("its: {}\n")
    with pytest.raises(ParamsError, match="are not those that are needed"):
        load(file)


def test_effects_over_missing_days() -> None:
    made = design(pa.array([0.0, 1, 2, 5, 6, 9]).to_numpy(), 5, 9)
    assert made.contrasts()["cumulative"].tolist() == [0, 0, 5, 10]
