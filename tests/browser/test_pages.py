"""Every page as a person sees it: settled, answer first, nothing sideways, nothing broken, nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from core.demo import EXTRACTION
from pages.ui.registry import Entry
from tests.browser.harness import ANSWER, HEIGHT, MAIN, App, Theme, existing_pages, goto, screenshot, visit

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
