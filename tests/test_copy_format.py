"""COPY's text format against PostgreSQL itself, and against the escapes that its documentation lists."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.postgres.copy import Decoder, decode
from tests.helpers import Database

TEXTS = pa.schema([("a", pa.string()), ("b", pa.string())])


# Whatever PostgreSQL can store in text: every Unicode scalar value but NUL. Twice as often what has a meaning here.
texts = st.text(
    st.one_of(st.sampled_from("\\\t\n\r\b\f\v\"',Nn.\ufeff"), st.characters(codec="utf-8", exclude_characters="\0"))
)


def collect(batch_size: int, lines: list[bytes], schema: pa.Schema = TEXTS) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    decoder = Decoder(batch_size, schema, batches.append)
    for line in lines:
        decoder.write(line)
    decoder.finish()
    assert decoder.rows == len(lines) == sum(batch.num_rows for batch in batches)
    return batches


@pytest.mark.parametrize(
    ("line", "values"),
    [
        pytest.param(b"\\N\t\n", (None, ""), id="NULL and the empty text"),
        pytest.param(b"\\\\N\t\\\\\\N\n", ("\\N", "\\\\N"), id="backslash N"),
        pytest.param(b"\\n\\t\\r\\b\\f\\v\t\\\\n\n", ("\n\t\r\b\f\v", "\\n"), id="every escape"),
        pytest.param(b"\\\\\\\\n\t\\\\\\n\n", ("\\\\n", "\\\n"), id="two backslashes"),
        pytest.param(b'"\t""\n', ('"', '""'), id="quotes"),
        pytest.param(b"\\\\.\t.\n", ("\\.", "."), id="end of data"),
        pytest.param(b" a \tNULL\n", (" a ", "NULL"), id="blanks and the word NULL"),
        pytest.param("\ufeff\t\ufeff\n".encode(), ("\ufeff", "\ufeff"), id="byte order mark"),
        pytest.param("💡\tÜ\n".encode(), ("💡", "Ü"), id="beyond ASCII"),
    ],
)
def test_escapes(line: bytes, values: tuple[str | None, str | None]) -> None:
    assert decode(line, TEXTS).to_pylist() == [dict(zip("ab", values, strict=True))]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.none() | texts, st.none() | texts), min_size=1, max_size=20))
def test_any_text_comes_back_as_postgresql_holds_it(
    session_db: Database, rows: list[tuple[str | None, str | None]]
) -> None:
    connection = session_db.connect()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (n int, a text, b text)")
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", [(n, *row) for n, row in enumerate(rows)])
        batches: list[pa.RecordBatch] = []
        decoder = Decoder(7, TEXTS, batches.append)
        cursor.copy_expert("COPY (SELECT a, b FROM t ORDER BY n) TO STDOUT", decoder)
        decoder.finish()
    connection.close()
    assert [(row["a"], row["b"]) for batch in batches for row in batch.to_pylist()] == rows


def test_batches_hold_at_most_batch_size_rows() -> None:
    lines = [b"x\ty\n"] * 10
    assert [batch.num_rows for batch in collect(4, lines)] == [4, 4, 2]
    assert collect(4, []) == []


def test_large_values_end_a_batch_early() -> None:
    lines = [b"x" * 800_000 + b"\ty\n"] * 7
    assert max(batch.num_rows for batch in collect(1000, lines)) == 3  # 2 MiB


@pytest.mark.parametrize(
    ("line", "schema"),
    [
        pytest.param(b"only one field\n", TEXTS, id="a field less"),
        pytest.param(b"\xff\xfe\tnot UTF-8\n", TEXTS, id="no UTF-8"),
        pytest.param(b"12x\tb\n", pa.schema([("a", pa.int32()), ("b", pa.string())]), id="no number"),
        pytest.param(b"infinity\tb\n", pa.schema([("a", pa.timestamp("ms")), ("b", pa.string())]), id="infinity"),
        pytest.param(
            b"2025-10-27 10:00:00.123456\tb\n",
            pa.schema([("a", pa.timestamp("ms")), ("b", pa.string())]),
            id="microseconds",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_without_the_value(line: bytes, schema: pa.Schema) -> None:
    with pytest.raises(DataError) as caught:
        decode(line, schema)
    assert "12x" not in str(caught.value)
    assert "infinity" not in str(caught.value)
