"""Every page as a person sees it: settled, answer first, nothing sideways, nothing broken, nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from core.demo import EXTRACTION
from pages.ui import registry
from pages.ui.registry import Entry
from tests.browser.harness import ANSWER, HEIGHT, MAIN, App, Theme, existing_pages, goto, screenshot, settle, visit

State = Literal["empty", "full"]
BROKEN_WORDS = re.compile(r"\b(nan|NaN|None|Traceback|undefined|<NA>|NaT)\b")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (900, "dark"), (390, "light")])
@pytest.mark.parametrize("state", ["empty", "full"])
@pytest.mark.parametrize("entry", existing_pages(), ids=lambda entry: entry.title)
def test_page(entry: Entry, state: State, width: int, theme: Theme, browser: Browser, request: pytest.FixtureRequest) -> None:
    app: App = request.getfixturevalue(f"{state}_app")
    with visit(browser, width=width, theme=theme) as tab:
        goto(tab.page, app.address(entry, **selection(state)))
        screenshot(tab.page, f"{entry.title.lower()}-{width}-{theme}-{state}")
        assert not tab.page.locator('[data-testid="stException"]').count(), exception_text(tab.page)
        text = tab.page.locator(MAIN).first.inner_text()
        assert not (found := BROKEN_WORDS.search(text)), text[max(0, found.start() - 80) : found.end() + 80]
        assert sideways(tab.page) == []
        assert tab.strangers == []
        assert tab.errors == []
        if state == "full":
            assert_answer_first(tab.page, 0.6 if width > 640 else 0.8)


def selection(state: State) -> dict[str, str]:
    """What the address selects: the big sample, where there is one."""
    return {"dataset": EXTRACTION} if state == "full" else {}


def exception_text(page: Page) -> str:
    return page.locator('[data-testid="stException"]').first.inner_text()


def sideways(page: Page) -> list[str]:
    """What makes the page scroll sideways."""
    return page.evaluate(
        """main => [document.documentElement, document.querySelector(main)]
          .filter(e => e && e.scrollWidth > e.clientWidth + 1)
          .map(e => `${e.tagName} ${e.scrollWidth} > ${e.clientWidth}`)""",
        MAIN,
    )


def assert_answer_first(page: Page, share: float) -> None:
    """The answer sentence is there, in words, in the upper ``share`` of the first screen and above every chart."""
    answer = page.locator(ANSWER).first
    sentence = answer.inner_text().strip()
    assert len(sentence.split()) >= 3, sentence
    box = answer.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= HEIGHT * share
    chart = page.locator('[data-testid="stPlotlyChart"]').first
    if chart.count():
        chart_box = chart.bounding_box()
        assert chart_box is None or chart_box["y"] >= box["y"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("title", ["Home", "Metrics"])
def test_small_letters_stand_out_from_the_ground(full_app: App, browser: Browser, title: str, theme: Theme) -> None:
    """Letters of charts and captions have the contrast that WCAG 2 asks of small ones, 4.5."""
    with visit(browser, theme=theme) as tab:
        goto(tab.page, full_app.address(registry.entry(title), **selection("full")))
        ground, letters = tab.page.evaluate(LETTERS)
        assert len(letters) > 10
        worst = min(letters, key=lambda colour: contrast(colour, ground))
        assert contrast(worst, ground) >= 4.5, (worst, ground)
        opened = tab.page.get_by_role("button", name="Table and downloads").first
        opened.click()
        expect(opened).to_have_attribute("aria-expanded", "true")
        tab.page.wait_for_timeout(300)  # its colour fades over
        words = opened.evaluate("e => getComputedStyle(e).color.match(/[\\d.]+/g).map(Number)")
        assert contrast(words, ground) >= 4.5, (words, ground)


LETTERS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = rgb(getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor).slice(0, 3);
  const over = ([r, g, b, a = 1], share) => [r, g, b].map((v, i) => v * a * share + ground[i] * (1 - a * share));
  const marks = [...document.querySelectorAll('.js-plotly-plot text')].filter(e => !e.closest('.g-gtitle'));
  const shown = marks.map(e => [getComputedStyle(e).fill, Number(getComputedStyle(e).fillOpacity)]);
  for (const e of document.querySelectorAll('[data-testid="stCaptionContainer"]')) {
    shown.push([getComputedStyle(e.querySelector('p') ?? e).color, Number(getComputedStyle(e).opacity)]);
  }
  return [ground, shown.map(([colour, share]) => over(rgb(colour), share))];
}"""
"""The ground's colour, and those of the letters of charts and captions as they are seen."""


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio of two colours (WCAG 2.1, 1.4.3), 1 to 21."""

    def luminance(colour: list[float]) -> float:
        parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_back_and_forward_bring_back_what_was_chosen(full_app: App, browser: Browser) -> None:
    """Pages and choices are steps of the browser's history, one each; the address always says the dataset, the default too."""
    with visit(browser) as tab:
        page = tab.page
        goto(page, f"{full_app.url}/Data")
        page.wait_for_function("location.href.includes('dataset=')")
        first = chosen_dataset(page)
        second = choose_another_dataset(page, first)
        steps = page.evaluate("history.length")
        for title, path in (("Train", "/Train?"), ("Home", "/?")):
            page.get_by_role("link", name=title).click()
            page.wait_for_function(f"location.href.includes({path!r}) && location.href.includes('dataset={second}&')")
            settle(page)
        assert page.evaluate("history.length") == steps + 2
        assert choose_another_dataset(page, second, first) == first
        for path, dataset in (("/?", second), ("/Train?", second), ("/Data?", second), ("/Data?", first)):
            page.go_back()
            page.wait_for_function(f"location.href.includes({path!r}) && location.href.includes('dataset={dataset}&')")
            settle(page)
            assert page.get_by_role("combobox", name="Dataset").first.input_value() == dataset
        assert tab.errors == []


def choose_another_dataset(page: Page, held: str, wanted: str = "") -> str:
    """Choose the ``wanted`` dataset, else the first other one; returns what the address says then."""
    page.get_by_role("combobox", name="Dataset").first.click()
    options = page.get_by_role("option").filter(has_text=re.compile(f"^{wanted}$" if wanted else f"^(?!{held}$)"))
    options.first.click()
    page.wait_for_function(f"!location.href.includes('dataset={held}&')")
    settle(page)
    return chosen_dataset(page)


def chosen_dataset(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["dataset"][0]


def test_the_server_has_no_torch(full_app: App, browser: Browser) -> None:
    """Looking at every page leaves torch out of the server: none of its libraries is mapped into the process."""
    with visit(browser) as tab:
        for entry in existing_pages():
            goto(tab.page, full_app.address(entry))
    maps = f"/proc/{full_app.process.pid}/maps"
    try:
        with open(maps) as handle:
            mapped = handle.read()
    except OSError:
        pytest.skip("there is no /proc here")
    assert "libtorch" not in mapped
