"""The report page in a real Chromium; screenshots go to SHARDSYNTH_SCREENSHOTS where that is set, to look at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.site.browser.chromium import Page
from tests.tables import report_examples as examples

from shardsynth.report.page import write_report

SECTIONS = (
    *("#verdicts", "#privacy", "#utility", "#detection", "#models", "#columns", "#pairs", "#missing", "#shards"),
    *("#training", "#time", "#provenance"),
)


@pytest.fixture(scope="module")
def adult(adult_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = examples.read(adult_dir)
    models = {"gaussian_copula": 0.05, "copulagan": 0.35, "ctgan": 0.6, "tvae": 0.2}
    return write_report(tmp_path_factory.mktemp("adult"), examples.report_of(table, "adult", models))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("hostile"), examples.hostile_report())


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SHARDSYNTH_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def assert_clean(browser: Page, page: Path) -> None:
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320], ids=["desk", "phone", "small-phone"])
def test_it_renders_without_a_complaint_or_a_request(
    browser: Page, adult: Path, shots: Path, width: int, dark: bool
) -> None:
    browser.open(adult, width=width, dark=dark)
    assert_clean(browser, adult)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelectorAll('.column').length") == 15
    assert browser.run("document.querySelectorAll('canvas.cells').length") == 3
    for section in SECTIONS:
        picture = shots / f"adult-{width}-{'dark' if dark else 'light'}-{section[1:]}.png"
        browser.screenshot(picture, section)
        assert picture.stat().st_size > 3_000


def test_all_verdicts_are_seen_on_a_phone_and_tables_fit_a_printed_sheet(browser: Page, adult: Path) -> None:
    browser.open(adult, width=390)
    assert browser.run("document.querySelector('.glance').scrollWidth") <= 390
    browser.open(adult, width=794, media="print")
    assert browser.run("document.documentElement.scrollWidth") <= 794


def test_two_numbers_are_drawn_as_a_square_with_marks(browser: Page, tmp_path: Path, shots: Path) -> None:
    page = write_report(tmp_path, examples.report_of(examples.wide_table(5, 800), "numbers", {"tvae": 0.5}))
    browser.open(page, width=390)
    assert_clean(browser, page)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    drawn = "[...document.querySelectorAll('.mosaic svg')].filter((e) => e.querySelector('.frame'))"
    assert browser.run(f"{drawn}.length") >= 2
    assert browser.run(f"{drawn}.every((e) => e.querySelectorAll('.tick').length > 3)")
    browser.screenshot(shots / "numbers-pairs.png", "#pairs")


def test_hostile_names_do_nothing_and_keep_the_layout(browser: Page, hostile: Path, shots: Path) -> None:
    for width in (1280, 390):
        browser.open(hostile, width=width)
        assert_clean(browser, hostile)
        assert browser.run("typeof window.hacked") == "undefined"
        assert browser.run("document.querySelectorAll('main b script, main img, main > script').length") == 0
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("Math.max(...[...document.querySelectorAll('.name')].map((e) => e.offsetHeight))") < 70
        browser.screenshot(shots / f"hostile-{width}.png")


def test_the_model_is_chosen_with_the_keyboard(browser: Page, adult: Path) -> None:
    browser.open(adult)
    before = browser.run("document.querySelector('#column-grid').textContent")
    browser.run("document.querySelector('input[name=model]').focus()")
    browser.key("ArrowRight")
    assert browser.run("document.querySelector('input[name=model]:checked').value") == "1"
    assert browser.run("document.querySelector('#column-grid').textContent") != before
    assert browser.run("document.querySelector('#legend-model').textContent") == "copulagan"
    assert_clean(browser, adult)


def test_columns_come_worst_first_and_can_be_searched(browser: Page, adult: Path) -> None:
    browser.open(adult)
    scores = browser.run("[...document.querySelectorAll('.column .mark')].map((e) => Number(e.textContent))")
    assert scores == sorted(scores)
    search = (
        "(() => { const q = document.querySelector('#query'); q.value = %r; q.dispatchEvent(new Event('input')); })()"
    )
    browser.run(search % "CAPITAL")
    assert sorted(browser.run("[...document.querySelectorAll('.column h3')].map((e) => e.textContent)")) == [
        "capital-gain",
        "capital-loss",
    ]
    browser.run(search % "no such column")
    assert "No column" in browser.run("document.querySelector('#column-status').textContent")


def test_numbers_and_rest_of_a_column_unfold(browser: Page, adult: Path) -> None:
    browser.open(adult)
    card = (
        "[...document.querySelectorAll('.column')].find((e) => e.querySelector('h3').textContent === 'native-country')"
    )
    assert browser.run(f"{card}.querySelectorAll('.bars > .pair').length") == 9
    browser.run(f"[...{card}.querySelectorAll('button')].find((b) => b.textContent.startsWith('show all')).click()")
    assert browser.run(f"{card}.querySelectorAll('.bars > .pair').length") == 32
    browser.run(f"[...{card}.querySelectorAll('button')].find((b) => b.textContent === 'numbers').click()")
    assert browser.run(f"{card}.querySelectorAll('.numbers tbody tr').length") == 32


def test_a_heat_map_is_read_with_the_keyboard(browser: Page, adult: Path) -> None:
    browser.open(adult)
    browser.run("document.querySelector('canvas.cells').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        browser.key(key)
    text = browser.run("document.querySelector('#pair-status').textContent")
    assert "education" in text and "education-num" in text and "real 1.00" in text
    assert_clean(browser, adult)


def test_many_columns_are_paged(browser: Page, mds_dir: Path, tmp_path: Path, shots: Path) -> None:
    page = write_report(tmp_path, examples.report_of(examples.read(mds_dir), "mds", {"tvae": 0.2, "ctgan": 0.5}))
    browser.open(page)
    assert browser.run("document.querySelectorAll('.column').length") == 24
    browser.run("document.querySelector('#pager button:last-child').click()")
    browser.run("document.querySelector('#pager button:last-child').click()")
    assert browser.run("document.querySelectorAll('.column').length") == 68 - 48
    assert "identifier" in browser.run("document.querySelector('#column-grid').textContent")
    browser.screenshot(shots / "mds-columns.png", "#columns")
    browser.screenshot(shots / "mds-pairs.png", "#pairs")
    browser.pdf(shots / "mds.pdf")
    assert_clean(browser, page)


def test_every_control_has_a_name_and_text_has_contrast(browser: Page, adult: Path) -> None:
    for dark in (False, True):
        browser.open(adult, dark=dark)
        unnamed = browser.run(
            "[...document.querySelectorAll('button, input, select, canvas[tabindex], svg[role=img]')].filter((e) =>"
            " !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim()).length"
        )
        assert unnamed == 0
        assert browser.run(_CONTRAST) == []


def test_a_page_without_models_is_no_error(browser: Page, tmp_path: Path) -> None:
    report = examples.hostile_report()
    page = write_report(tmp_path, replace(report, models=(), columns=()))
    browser.open(page)
    assert_clean(browser, page)


# Text whose contrast with the background behind it is under 4.5 (WCAG 2 AA).
_CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.offsetParent) continue;
    if (e.closest('svg, script, style, noscript, option, [hidden], :disabled')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return low.slice(0, 10);
})()
"""
