"""What stands beside the tables of data/export, by the standards' own tools; the data dictionary; docs/handover.md."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.checks import current
from pipeline.core.dataset import Dataset
from pipeline.core.days import WHOLE
from pipeline.core.errors import DataError, ParamsError
from pipeline.handover.cff import cff
from pipeline.handover.columns import UNKNOWN, as_in
from pipeline.handover.described import Described, Part, Version
from pipeline.handover.dictionary import dictionary
from pipeline.handover.looked import look
from pipeline.handover.metadata import metadata
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from schemas.context_metadata import CONTEXT_METADATA
from schemas.table import Column, Table
from schemas.types import TYPES
from tests.docs import blocks, run_shell, with_venv
from tests.helpers import ROOT, UNTIL, Clone, Database, Project, event, files

BESIDE = ["README.md", "SHA256SUMS", "croissant.json", "datapackage.json"]


def days_of(project: Project) -> dict[str, bytes]:
    return files(project.exported)


def sums_hold(folder: Path) -> bool:
    return not subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False).returncode


def python(script: str, *arguments: str) -> str:
    """What a script prints as a process of its own: the tools warn of much."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_data_package_is_one_and_tells_the_truth(published: Project) -> None:
    root = published.paths.export
    package = json.loads((root / "datapackage.json").read_text(encoding="utf-8"))
    script = (
        "import json, sys, frictionless\n"
        "report = frictionless.Package.validate_descriptor(json.load(open(sys.argv[1])))\n"
        "print(report.valid, [error.message for error in report.errors])"
    )
    assert python(script, str(root / "datapackage.json")) == "True []\n"
    (resource,) = package["resources"]
    listed = {one["path"]: one for one in resource["files"]}
    there = sorted(published.exported.glob("*/*.parquet"))
    assert list(listed) == resource["path"] == [str(path.relative_to(root)) for path in there]
    for path in there:
        one = listed[str(path.relative_to(root))]
        assert one["bytes"] == path.stat().st_size
        assert one["hash"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert one["rows"] == pq.ParquetFile(path).metadata.num_rows
    assert resource["rows"] == 15
    fields = {field["name"]: field for field in resource["schema"]["fields"]}
    assert list(fields) == pq.read_schema(there[0]).names
    assert fields["id"]["constraints"] == {"required": True, "unique": True, "pattern": "^c[a-z0-9]{24}$"}
    assert fields["sessionPerformanceScore"]["constraints"] == {"minimum": 0, "maximum": 100}
    assert fields["sessionPerformanceScore"]["unit"] == "percent"
    assert fields["experimentPhase"]["constraints"]["enum"] == list(published.params.validate.experiment_phases)
    assert all(field["description"] for field in fields.values())
    assert package["window"] == {"first": "2025-10-23", "until": str(UNTIL), "timezone": "UTC"}
    assert "licenses" not in package


def test_croissant_is_valid_and_reads_every_row(published: Project) -> None:
    script = (
        "import sys, mlcroissant\n"
        "dataset = mlcroissant.Dataset(jsonld=sys.argv[1])\n"
        "print(dataset.metadata.ctx.issues.errors, sum(1 for _ in dataset.records('behavioral_events')))"
    )
    assert python(script, str(published.paths.export / "croissant.json")) == "set() 15\n"


def test_words_are_written_anew_and_no_day(published: Project) -> None:
    root = published.paths.export
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == BESIDE
    assert sums_hold(root)
    assert "no licence given: ask before passing it on" in (root / "README.md").read_text(encoding="utf-8")
    inodes = {path: path.stat().st_ino for path in published.exported.rglob("*.parquet")}
    published.set(dataset__licence="CC-BY-4.0", dataset__authors=["Doe, Jo", "A Lab"], dataset__contact="a@example.org")
    assert ("export", "it ran with other words on the dataset") in set(
        current.differences(published.paths, published.params, 3)
    )
    published.export()
    assert {path: path.stat().st_ino for path in inodes} == inodes
    assert sums_hold(root)
    package = json.loads((root / "datapackage.json").read_text(encoding="utf-8"))
    assert package["licenses"] == [{"name": "CC-BY-4.0", "path": "https://creativecommons.org/licenses/by/4.0/"}]
    assert package["contributors"][0] == {"title": "Doe, Jo", "roles": ["author"]}
    assert package["contributors"][2] == {"email": "a@example.org", "roles": ["contact"]}
    published.load()


@pytest.mark.parametrize("name", BESIDE)
def test_an_altered_word_is_refused(published: Project, name: str) -> None:
    file = published.paths.export / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(DataError, match=f"{name} is altered"):
        published.load()
    file.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        published.load()
    published.export()
    published.load()


def test_a_card_says_what_is_left_out(db: Database, extracted: Project) -> None:
    db.insert(event(sessionPerformanceScore=101))
    extracted.set(extract__user_id=event()["userId"], validate__mode="quarantine")
    for step in (extracted.refresh, extracted.extract, extracted.validate, extracted.export):
        step()
    card = (extracted.paths.export / "README.md").read_text(encoding="utf-8")
    assert "1 row of behavioral_events broke the contract and is left out." in card
    assert "only 1 user, chosen by id" in card
    assert event()["userId"] not in card


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("title", "", id="no title"),
        pytest.param("title", "two\nlines", id="a title of two lines"),
        pytest.param("licence", "all rights reserved", id="a licence that nobody knows"),
        pytest.param("licence", "http://example.org", id="an address that anybody may alter"),
        pytest.param("authors", "Doe, Jo", id="an author and no list"),
        pytest.param("authors", [" "], id="an author without a name"),
        pytest.param("contact", "Jo", id="a contact whom nobody reaches"),
    ],
)
def test_words_that_can_not_be_meant(project: Project, key: str, value: Any) -> None:
    project.set(**{f"dataset__{key}": value})
    with pytest.raises(ParamsError, match=f"dataset.{key}"):
        _ = project.params


def test_a_citation_file_names_who_is_known() -> None:
    part = Part(UNTIL, "data/behavioral_events/event_date=2025-10-28/part-0.parquet", 1, 2, "3")
    version = Version("study-1", "c" * 40, UNTIL, "cite it", "5" * 64, "passed", "good", None)
    of = Described(Dataset(), [(BEHAVIORAL_EVENTS, [part])], None, {}, version=version)
    nobody = yaml.safe_load(cff(of, version))
    assert nobody["authors"] == [{"name": "anonymous"}]
    assert "license" not in nobody
    assert (nobody["version"], nobody["commit"], nobody["date-released"]) == ("study-1", "c" * 40, UNTIL)
    known = of._replace(dataset=Dataset("It", "https://example.org/terms", ("Doe, Jo", "A Lab")))
    named = yaml.safe_load(cff(known, version))
    assert named["authors"] == [{"family-names": "Doe", "given-names": "Jo"}, {"name": "A Lab"}]
    assert named["license-url"] == "https://example.org/terms"


USERS = [f"c{n:024d}" for n in range(6)]
BODIES: list[dict[str, Any]] = [
    {"os": "ios", "query": f"where is it {n}", "cardId": f"card{n}", "n": n, "tags": ["a", "b"], "seen": n > 2}
    for n in range(6)
]


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    schema = BEHAVIORAL_EVENTS.arrow_schema("export")
    rows = [row | {"timestamp": pd.Timestamp(row["timestamp"])} for row in rows]
    plain = pa.schema([pa.field(f.name, getattr(f.type, "storage_type", f.type)) for f in schema])
    pq.write_table(pa.Table.from_pylist(rows, plain).cast(schema), tmp_path / "day.parquet")
    return tmp_path / "day.parquet"


def test_the_dictionary_tells_no_id_and_no_free_text(tmp_path: Path) -> None:
    rows = [event(userId=user, eventData=json.dumps(body)) for user, body in zip(USERS, BODIES, strict=True)]
    rows[0] |= {"contentType": "a secret", "difficultyLevel": "only-me", "eventData": '{"mine": 1, "os": "ios"}'}
    rows[1] |= {"contentType": "flashcard"}
    found = look(BEHAVIORAL_EVENTS, [written(tmp_path, rows)], tmp_path)
    assert found.columns["userId"].texts is None
    assert found.columns["contentType"].texts == (2, ())
    assert found.columns["difficultyLevel"].texts == (1, ())
    assert found.columns["eventType"].texts == (1, (("FLASHCARD_FLIP", 6),))
    (flip,) = found.json["eventData"]
    assert (flip.type, flip.rows, flip.hidden) == ("FLASHCARD_FLIP", 6, 1)  # `mine`
    keys = {key.path: key for key in flip.keys}
    assert list(keys) == ["cardId", "n", "os", "query", "seen", "tags", "tags[]"]
    assert keys["os"].texts == (1, (("ios", 6),))
    assert keys["query"].texts == (5, ())
    assert keys["cardId"].texts is None
    assert (keys["n"].least, keys["n"].most) == (1, 5)
    assert keys["seen"].texts == (2, ())  # each of them four users or fewer
    assert keys["tags[]"].texts == (2, (("a", 5), ("b", 5)))
    assert keys["tags"].found == {"ARRAY": 5}


def test_a_column_of_long_ago_is_told_without_rules() -> None:
    schema = CONTEXT_METADATA.arrow_schema("export")
    places = {name: place for place, name in enumerate(schema.names)}
    old = schema.set(places["energyLevel"], pa.field("energyLevel", pa.float64())).append(
        pa.field("wrote", pa.string())
    )
    old = old.remove(places["recoveryScore"])
    columns = {column.name: column for column in as_in(CONTEXT_METADATA, old).columns}
    assert columns["energyLevel"] == Column("energyLevel", "float", "Energy, as the user rated it.")
    assert columns["wrote"] == Column("wrote", "text", UNKNOWN, free=True)
    assert "recoveryScore" not in columns
    assert columns["mood"] == CONTEXT_METADATA.column("mood")


VALUES: dict[str, Any] = {
    "timestamp": datetime(2025, 10, 27, 10),
    "timestamp_us": datetime(2025, 10, 27, 10),
    "timestamptz": datetime(2025, 10, 27, 10),
    "date": date(2025, 10, 27),
    "time": time(10, 30),
    "float": 0.5,
    "real": 0.5,
    "bool": True,
    "decimal": Decimal("0.50"),
    "bytes": b"\x00",
    "json": '{"a": 1}',
    "list": "[1]",
} | dict.fromkeys(("int", "smallint", "bigint"), 7)


def test_a_table_of_every_kind_that_is_one_part_is_described(tmp_path: Path) -> None:
    columns = [Column(f"of_{kind}", kind, "One.", digits=(9, 2) if kind == "decimal" else None) for kind in TYPES]
    table = Table("whole", "One row is one.", tuple(columns), ("of_int",), "of_int", None)
    schema = table.arrow_schema("export")
    plain = pa.schema([pa.field(f.name, getattr(f.type, "storage_type", f.type)) for f in schema])
    row = {f"of_{kind}": VALUES.get(kind, "text") for kind in TYPES}
    pq.write_table(pa.Table.from_pylist([row] * 6, plain).cast(schema), tmp_path / "whole.parquet")
    assert as_in(table, pq.read_schema(tmp_path / "whole.parquet")) == table
    of = Described(Dataset(), [(table, [Part(WHOLE, "whole/event_date=whole/part-0.parquet", 6, 1, "2")])], None, {})
    page = dictionary(of, {"whole": look(table, [tmp_path / "whole.parquet"], tmp_path)})
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `of_")}
    assert " 0.5 to 0.5 " in lines["of_real"]
    assert " 0.50 to 0.50 " in lines["of_decimal"]
    assert " 10:30:00 to 10:30:00 " in lines["of_time"]
    assert " 2025-10-27 10:00:00.000 to 2025-10-27 10:00:00.000 " in lines["of_timestamptz"]
    assert "not shown" in lines["of_uuid"]
    assert "text" not in lines["of_other"]
    described = metadata(of)
    assert {
        field["name"] for field in json.loads(described["datapackage.json"])["resources"][0]["schema"]["fields"]
    } == {*lines}
    assert "whole tables" in described["README.md"].decode()


@pytest.mark.xdist_group("clones")
def test_the_dictionary_of_the_docs_is_that_of_the_sample(reproduced: Clone) -> None:
    _, page = (ROOT / "docs/dictionary.md").read_text(encoding="utf-8").split("\n\n", 1)
    assert reproduced.run("python", "-m", "commands.dictionary").stdout == page, "next: the command above the page"


@pytest.mark.long
@pytest.mark.xdist_group("remote")
def test_the_page(own: Clone) -> None:
    """docs/handover.md from top to bottom."""
    each, pseudonyms, check, here, dictionary = blocks("handover", language="sh")
    run_shell(with_venv(own), each, {"REV": "HEAD"})
    assert "whole\n" in run_shell(own, check._replace(text="cd ..\n" + check.text), {})
    said = run_shell(own, pseudonyms, {}, PSEUDONYM_KEY="k" * 32)
    assert re.search(r"bundle: bundles/behavioural-events-2025-10-27-\w{10}-pseudonyms\.zip", said)
    run_shell(own, here, {})
    run_shell(own, dictionary, {})
    assert "#### FLASHCARD_FLIP" in (own.path.parent / "dictionary.md").read_text(encoding="utf-8")
