"""export: what is published is typed as the contract says, row by row the rows of data/raw."""

from __future__ import annotations

import hashlib
import hmac
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import DataError, ParamsError
from schemas.behavioral_events import BEHAVIORAL_EVENTS
from tests.helpers import NAMES, USER_B, Database, Project, event, files, rows_of_duckdb, rows_of_parquet


def test_the_export_is_snappy_and_typed_as_the_contract_says(loaded: Project) -> None:
    for path in loaded.exported.glob("*/*.parquet"):
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(BEHAVIORAL_EVENTS.arrow_schema("export"))
        assert file.schema.column(3).logical_type.type == "JSON"
        assert not pa.types.is_timestamp(file.schema_arrow.field("timestamp").type) or (
            file.schema_arrow.field("timestamp").type.tz is None
        )
        for group in range(file.metadata.num_row_groups):
            for column in range(len(NAMES)):
                assert file.metadata.row_group(group).column(column).compression == "SNAPPY"


def test_the_export_s_rows_are_the_raw_rows_in_total_order(loaded: Project) -> None:
    exported = [
        tuple(r.values()) for path in sorted(loaded.exported.glob("*/*")) for r in pq.read_table(path).to_pylist()
    ]
    assert exported == rows_of_parquet(loaded.raw)
    order = [(row[4], row[0]) for row in exported]
    assert order == sorted(order)


@pytest.mark.parametrize("batch_size", [1, 3, 10_000_000])
def test_batch_size_changes_no_byte(loaded: Project, batch_size: int) -> None:
    before = (
        files(loaded.exported),
        loaded.quarantine.read_bytes(),
        loaded.paths.validation_report.read_bytes(),
        loaded.paths.quality_report.read_bytes(),
    )
    loaded.set(extract__batch_size=batch_size)
    loaded.validate()
    loaded.export()
    after = (
        files(loaded.exported),
        loaded.quarantine.read_bytes(),
        loaded.paths.validation_report.read_bytes(),
        loaded.paths.quality_report.read_bytes(),
    )
    assert after == before


def test_quality_says_what_an_independent_count_says(db: Database, loaded: Project) -> None:
    quality = json.loads(loaded.paths.quality_report.read_text())
    paths = list(loaded.exported.glob("*/*.parquet"))
    rows = db.rows()
    assert quality["rows"] == len(rows)
    assert quality["users"] == len({row[1] for row in rows})
    counts = {(entry["column"], entry["value"]): entry["rows"] for entry in quality["values"]}
    assert counts == {
        ("eventType", "FLASHCARD_FLIP"): len(rows),
        ("experimentPhase", "baseline_1"): 1,
        ("experimentPhase", None): len(rows) - 1,
    }
    nulls = {entry["column"]: entry["rows"] for entry in quality["nulls"]}
    assert nulls == {name: sum(row[i] is None for row in rows) for i, name in enumerate(NAMES)}
    assert quality["tables"][0]["first"] == "2025-10-26T00:00:00.000Z"
    assert quality["tables"][0]["last"] == "2025-10-27T23:59:59.999Z"
    assert (len(quality["files"]), quality["bytes"]) == (2, sum(path.stat().st_size for path in paths))


KEY = "k" * 32


def test_pseudonyms(db: Database, loaded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    db.run('ALTER TABLE behavioral_events DROP CONSTRAINT "behavioral_events_contextMetadataId_fkey"')
    db.insert(event(contextMetadataId="context 1"), event(contextMetadataId="context 1", userId=USER_B))
    plain = {row[0]: row for row in db.rows()}
    loaded.set(export__pseudonymize=True)
    for short in (None, "", "k" * 31):
        monkeypatch.delenv("PSEUDONYM_KEY", raising=False)
        if short is not None:
            monkeypatch.setenv("PSEUDONYM_KEY", short)
        before = files(loaded.exported)
        with pytest.raises(ParamsError, match="PSEUDONYM_KEY is") as caught:
            loaded.all()
        assert caught.value.exit_code == 2
        assert files(loaded.exported) == before
    monkeypatch.setenv("PSEUDONYM_KEY", KEY)
    loaded.all()
    names: dict[tuple[str, str], set[str]] = {}
    for row in rows_of_duckdb(loaded.paths.database):
        was = plain[row[0]]
        for i, name in ((1, "userId"), (14, "contextMetadataId")):
            if was[i] is None:
                assert row[i] is None
                continue
            assert row[i] == expected_pseudonym(name, was[i])
            names.setdefault((name, was[i]), set()).add(row[i])
        assert [v for i, v in enumerate(row) if i not in (1, 14)] == [v for i, v in enumerate(was) if i not in (1, 14)]
    assert all(len(found) == 1 for found in names.values())
    assert json.loads(loaded.paths.load_report.read_text())["tables"][0]["columns_compared"] == 13
    text = b"".join(path.read_bytes() for path in loaded.exported.rglob("*.parquet"))
    assert KEY.encode() not in text
    first = files(loaded.exported)
    monkeypatch.setenv("PSEUDONYM_KEY", "another key " * 4)
    loaded.export()
    assert files(loaded.exported).keys() == first.keys()
    assert all(files(loaded.exported)[name] != content for name, content in first.items())


def expected_pseudonym(column: str, value: str) -> str:
    """The definition, written a second time: base 36 of the HMAC, least digit first, 24 digits."""
    number = int(hmac.new(KEY.encode(), f"{column}:{value}".encode(), hashlib.sha256).hexdigest(), 16)
    return "c" + "".join("0123456789abcdefghijklmnopqrstuvwxyz"[number // 36**n % 36] for n in range(24))


@pytest.mark.parametrize("mode", ["strict", "quarantine"])
def test_export_refuses_rows_that_validate_did_not_see(db: Database, loaded: Project, mode: str) -> None:
    """As many rows as before, one of them changed: by hand, since DVC would run validate first."""
    loaded.set(validate__mode=mode)
    loaded.validate()
    before = files(loaded.exported)
    db.run('UPDATE behavioral_events SET "timeOfDay" = 99 WHERE "userId" = %s', [USER_B])
    loaded.refresh()
    loaded.extract()
    with pytest.raises(DataError, match="does not vouch"):
        loaded.export()
    loaded.paths.validation_report.write_text("[]")
    with pytest.raises(DataError, match="is damaged"):
        loaded.export()
    assert files(loaded.exported) == before
