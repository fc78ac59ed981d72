"""Rows that are legal and hard to carry."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.helpers import COLUMNS, UNTIL, USER_A, USER_B, event


def characters(plane: int) -> str:
    """The first and the last code points of a Unicode plane and some between, assigned or not; no NUL, no surrogate."""
    begin = plane << 16
    points = [*range(begin, begin + 32), *range(begin + 32, begin + 0xFFFF, 997), begin + 0xFFFE, begin + 0xFFFF]
    return "".join(chr(point) for point in points if point and not 0xD800 <= point <= 0xDFFF)


NASTY = [
    "",
    " ",
    "\\N",
    "\\\\N",
    "NULL",
    "\\.",
    "a\tb\nc\r\nd\be\ff\vg",
    "\n\\.\n",
    "\\",
    "\\n",
    '"',
    '""",""',
    "a,b;c|d",
    "$(touch x) `id` ' -- ;",
    "Ü ß ñ ł",
    "日本語テキスト",
    "👩\u200d👩\u200d👧 🧠",
    "\ufeffbyte order mark",
    "\u200e\u202eright to left",
    "\U0010fffd\uffff\x01\x1f\x7f",
    "x" * 1_000_000,
    *(characters(plane) for plane in range(17)),
]


BODIES = [
    "null",
    '""',
    "[]",
    '{"a": {"b": [1, 2.50, -1e-7, true, null, "\\"\\\\\\n\\t\\u0001"]}}',
    '{"n": ' + "9" * 300 + "}",
    '{"many digits": [1.' + "0" * 300 + ", 1e-300, 1e3000, -0, 0.10]}",
    '{"deep": ' + "[" * 200 + "]" * 200 + "}",
    json.dumps({"text": NASTY[:-1]}),
    json.dumps({"big": "y" * 1_000_000}),
    json.dumps({"🧠": "日本語", "": 0}, ensure_ascii=False),
    json.dumps([characters(plane) for plane in range(17)]),
    json.dumps({characters(plane): "\\." for plane in range(17)}, ensure_ascii=False),
]


def nasty_rows() -> list[dict[str, Any]]:
    first = UNTIL - timedelta(days=2)
    rows = [event(contentType=text, difficultyLevel=text[::-1], contextMetadataId=None) for text in NASTY]
    rows += [event(eventData=body) for body in BODIES]
    rows += [event(timestamp=f"{first} 00:00:00"), event(timestamp=f"{UNTIL - timedelta(days=1)} 23:59:59.999")]
    rows += [event(timestamp=f"{first} 23:59:59.999"), event(timestamp=f"{UNTIL - timedelta(days=1)} 00:00:00")]
    rows += [event(randomizationSeed=n, dayOfWeek=0) for n in (-(2**31), 2**31 - 1, 0, -1)]
    rows += [event(userId=f"c{n:024d}", completionQuality="RUSHED", engagementLevel="HIGH") for n in range(50)]
    return rows


def outside_rows() -> list[dict[str, Any]]:
    stamps = ("2025-10-25 23:59:59.999", "2025-10-28 00:00:00", "0001-01-01", "4713-01-01 BC", "9999-12-31")
    return [event(timestamp=stamp) for stamp in stamps]


# Whatever PostgreSQL can store in text: every Unicode scalar value but NUL. Twice as often what has a meaning to COPY,
# CSV, JSON or SQL.
texts = st.text(
    st.one_of(
        st.sampled_from("\\\t\n\r\b\f\v\"',;Nnu0{}[]:.$`\ufeff"), st.characters(codec="utf-8", exclude_characters="\0")
    )
)


numbers = st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)


bodies = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


FIRST, LAST = (datetime.fromisoformat(str(UNTIL - timedelta(days=days))) for days in (2, 0))


# Columns that may hold anything that their type can; contextMetadataId refers to another table.
FREE = {"text": st.none() | texts, "int": st.none() | st.integers(-(2**31), 2**31 - 1)}


free = {c.name: FREE[c.kind] for c in COLUMNS if c.kind in FREE and not c.rules and c.name != "contextMetadataId"}


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row that obeys the contract, in a window of two days."""
    instant = FIRST + draw(st.integers(0, 2 * 86_400_000 - 1)) * timedelta(milliseconds=1)
    body = json.dumps(draw(bodies), ensure_ascii=draw(st.booleans()))
    values = {name: draw(strategy) for name, strategy in free.items()}
    return event(userId=draw(st.sampled_from([USER_A, USER_B])), timestamp=instant, eventData=body, **values)
