"""The quality page in Debian's Chromium: what people with other eyes, hands and screens get of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.checks import quality
from pipeline.checks.counted import Counted, Phase
from pipeline.checks.facts import Facts
from pipeline.core.params import load_params
from pipeline.core.watermark import Change, Moved
from pipeline.page.render import Page, render
from stages.report import Known, page_of
from tests.helpers import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

pytestmark = [
    pytest.mark.xdist_group("chromium"),
    pytest.mark.skipif(not CHROMIUM, reason="no chromium; Debian's package of that name has it"),
]

# Screenshots stay there for whoever wants to look: BROWSER_SHOTS=folder make test.
SHOTS = os.environ.get("BROWSER_SHOTS")

ALONE = [
    "--no-sandbox",  # which root can't have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]

UNTIL = date(2025, 10, 28)
TYPES = ("FLASHCARD_FLIP", "SESSION_STARTED", "RECOMMENDATION_DISMISSED")
PHASES = ("baseline_1", "intervention_A_1", "baseline_2", "intervention_A_2")


def page(days: int, change: Any = None) -> Page:
    """A page of so many days with 100 to 190 rows each; `change` is given rows and other facts by name."""
    window = [UNTIL - timedelta(days=n) for n in range(days, 0, -1)]
    rows = {day: 100 + 90 * (day.weekday() < 5) + day.day % 7 for day in window}
    facts: dict[str, Any] = {
        "rows": rows,
        "nulls": {
            "id": 0,
            "completionQuality": sum(rows.values()) * 84 // 100,
            "experimentPhase": 100 if days > 1 else 0,
        },
        "users": 60,
        "last": datetime(2025, 10, 27, 23, 58),
        "quarantined": 0,
        "backwards": 0,
        "moved": Moved(UNTIL - timedelta(days=1), (), {}, {}),
    }
    if change:
        change(facts)
    total = sum(facts["rows"].values())
    types = {name: {day: n // 4 for day, n in facts["rows"].items() if n} for name in TYPES} if total else {}
    phases = [Phase(name, 100 + n, 12, 90, 5000 + n, (44 + n, 50 + n, 57 + n)) for n, name in enumerate(PHASES)]
    hours = {(day, hour): 7 * day + hour for day in range(1, 8) for hour in range(24)} if total else {}
    found = Counted("behavioral_events", 60, facts["last"], {}, types, hours, tuple(phases if total else ()), 0)
    params = load_params(ROOT / "params.yaml")
    one = Facts(table="behavioral_events", until=UNTIL, types=types, asked=0, **facts)
    rules = ("behavioral_events.id.unique", "behavioral_events.eventData.json_valid")
    known = Known(UNTIL, facts["moved"], rules, [(rules[1], 3)] if facts["quarantined"] else [], False, "0" * 64)
    return page_of([one], {"behavioral_events": found}, quality.judge(one, params.quality), params, known)


def troubled(facts: dict[str, Any]) -> None:
    """Days that are missing, outlying and late."""
    days = sorted(facts["rows"])
    facts["rows"] |= {days[-9]: 0, days[-20]: 900}
    facts["quarantined"] = 3
    facts["moved"] = Moved(
        days[-1], (), {"behavioral_events": 89}, {"behavioral_events": {days[-3]: Change(10, facts["rows"][days[-3]])}}
    )


def broken(facts: dict[str, Any]) -> None:
    troubled(facts)
    facts["rows"] |= {max(facts["rows"]): 0}


def emptied(facts: dict[str, Any]) -> None:
    facts.update(rows=dict.fromkeys(facts["rows"], 0), nulls=dict.fromkeys(facts["nulls"], 0), last=None, users=0)


PAGES = {
    "green": page(90),
    "yellow": page(90, troubled),
    "red": page(90, broken),
    "empty": page(90, emptied),
    "one day": page(1),
    "1,825 days": page(1_825, troubled),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield started
        started.close()


# Texts that reach out of their svg, texts under 12 px, and texts whose contrast is below 4.5 (WCAG 2, AA).
LOOK = """
() => {
  const luminance = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const back = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
  };
  const cut = [], small = [], faint = [];
  for (const text of document.querySelectorAll('svg text')) {
    const box = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
    const beside = Math.max(all.left - box.left, box.right - all.right, all.top - box.top, box.bottom - all.bottom);
    if (beside > 0.5) cut.push(text.textContent);
    const scale = all.width / text.ownerSVGElement.viewBox.baseVal.width;
    if (parseFloat(getComputedStyle(text).fontSize) * scale < 12) small.push(text.textContent);
  }
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || ['title', 'desc'].includes(element.tagName.toLowerCase())) continue;
    const style = getComputedStyle(element);
    if (parseFloat(style.fontSize) < 12) small.push(element.textContent);
    const colour = element.closest('svg') ? style.fill : style.color;
    if (contrast(luminance(colour), luminance(back(element.closest('svg') ? element.closest('svg') : element))) < 4.5)
      faint.push(element.textContent + ' ' + colour);
  }
  return { cut, small, faint, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
}
"""


@pytest.mark.parametrize("state", PAGES)
def test_the_page_is_whole(browser: Browser, tmp_path: Path, state: str) -> None:
    """On a wide screen and on a phone, in the light and in the dark."""
    file = tmp_path / "quality.html"
    file.write_text(render(PAGES[state]), encoding="utf-8")
    tab = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert said == []
    assert asked == [file.as_uri()]
    for width in (1280, 375):
        tab.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            if SHOTS:
                Path(SHOTS).mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=Path(SHOTS) / f"{state} {width} {scheme}.png", full_page=True)
            found = tab.evaluate(f"() => {{ {OPEN} const found = ({LOOK})(); {SHUT} return found; }}")
            assert found == {"cut": [], "small": [], "faint": [], "wide": 0}, (width, scheme)
    tab.close()


OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true; });"
SHUT = OPEN.replace("true", "false")


@pytest.mark.parametrize(
    ("state", "sign", "sentence"),
    [
        pytest.param("green", "✔", "This snapshot can be used: ", id="green"),
        pytest.param("yellow", "▲", "This snapshot can be used with care: ", id="yellow"),
        pytest.param("red", "✖", "Do not use this snapshot: ", id="red"),
        pytest.param("empty", "✖", "Do not use this snapshot: ", id="empty"),
    ],
)
def test_the_first_screen_says_what_the_checks_say(
    browser: Browser, tmp_path: Path, state: str, sign: str, sentence: str
) -> None:
    """Told by the table of checks on the page itself."""
    file = tmp_path / "quality.html"
    file.write_text(render(PAGES[state]), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.goto(file.as_uri())
    banner = tab.get_by_role("status")
    assert banner.locator("strong").inner_text().startswith(f"{sign} {sentence}")
    verdicts = tab.get_by_role("region", name="Checks").locator("tbody tr td:nth-child(2)").all_inner_texts()
    failed, warned = ([one for one in verdicts if word in one] for word in ("failed", "warned"))
    judged = [one for one in verdicts if "not judged" not in one]
    worst = failed or warned
    if worst:
        assert f": {len(worst)} of {len(judged)} quality checks" in banner.inner_text()
        listed = banner.get_by_role("listitem").all_inner_texts()
        assert len(listed) == min(3, len(failed + warned))
        assert [one.partition(":")[0] for one in listed][: len(failed)] == ["failed"] * min(3, len(failed))
        assert all(box["y"] + box["height"] < 800 for one in [banner] if (box := one.bounding_box()))
    else:
        assert f": {len(judged)} quality checks passed." in banner.inner_text()
    tab.close()


def test_a_screen_reader_and_the_keyboard_get_everything(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "quality.html"
    file.write_text(render(PAGES["yellow"]), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    charts = tab.get_by_role("img").all()
    assert len(charts) == 3
    for chart in charts:
        for tag in ("title", "desc"):
            assert chart.locator(f"> {tag}").text_content()
        behind = chart.locator("xpath=ancestor::section").locator("details table, table")
        assert behind.count() >= 1
    marked = tab.locator("svg .sign title").all_text_contents()
    assert {one.rpartition(" ")[2] for one in marked} == {"missing", "outlying", "late"}
    reached = set()
    for _ in range(30):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"))
    assert {"SUMMARY", "Events a day, chart", "Checks", "NULLs"} <= reached
    tab.close()


def test_the_page_prints(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "quality.html"
    file.write_text(render(PAGES["red"]), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    tab.emulate_media(media="print")
    assert tab.evaluate(LOOK)["faint"] == []
    assert len(tab.pdf()) > 10_000
    tab.close()


def test_the_page_is_small_and_always_the_same() -> None:
    for state, most in (("yellow", 500_000), ("1,825 days", 2_000_000)):
        text = render(PAGES[state])
        assert len(text.encode()) < most
        assert render(PAGES[state]) == text
    assert "Events a week" in render(PAGES["1,825 days"])


def test_texts_from_the_data_are_no_markup() -> None:
    evil = PAGES["green"].parts[0].types[0]._replace(name="<script>alert(1)</script>\x1b[31m")
    part = PAGES["green"].parts[0]._replace(types=[evil])
    text = render(PAGES["green"]._replace(parts=[part]))
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
