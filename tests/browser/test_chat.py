"""Chat in a real browser, with endpoints of this machine as arms: keys, focus, stop, edit, a new dataset, a closed tab."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from playwright.sync_api import Browser, Page, expect

from core.records import NamedEndpoint
from core.store.database import forget_engines
from core.store.datasets import read_rows
from core.store.endpoints import save_endpoint
from core.store.runs import list_conversations
from pages.ui.registry import CHAT
from tests.browser.harness import SCREENSHOTS, App, goto, running_app, screenshot, settle, visit
from tests.pages.stand_in_endpoint import StandIn, endpoint

FOCUS = "document.activeElement.dataset.testid"
SCROLLED = "document.querySelector('[data-testid=stAppScrollToBottomContainer]').scrollTop"
TEXT = "张伟于2021年3月加入北京华信科技有限公司，任总经理。"


@pytest.fixture(scope="module")
def there() -> Iterator[StandIn]:
    """Answers as an extraction model would, unless it is told to talk on."""

    def say(text: str) -> str:
        if "long" in text:
            return "on and on " * 400
        return json.dumps({"person": [text.split("\n")[-1][:2]], "position": ["总经理", "Director"]}, ensure_ascii=False)

    with endpoint(say=say, pause=0.02) as stand:
        yield stand


@pytest.fixture(scope="module")
def app(browser: Browser, there: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("chat")
    SCREENSHOTS.mkdir(exist_ok=True)
    with running_app(folder / "workspace", folder / "server.log") as running:
        with inside(running):
            for name in ("one", "two", "three"):
                save_endpoint(NamedEndpoint(name=name, url=there.url, model=name))
            save_endpoint(NamedEndpoint(name="nobody", url="http://127.0.0.1:9/v1", model="gone"))
        yield running


@contextmanager
def inside(app: App) -> Iterator[None]:
    """This process's own store turned to the app's workspace."""
    with mock.patch.dict(os.environ, {"TUNEWISE_WORKSPACE": str(app.workspace)}):
        forget_engines()
        try:
            yield
        finally:
            forget_engines()


def pick(page: Page, *names: str) -> None:
    """Have these answer, and the base not."""
    for name in ("Base", *names):
        page.locator(".st-key-chat_arms button").filter(has_text=name).first.click()
        settle(page)


def ask(page: Page, text: str) -> None:
    page.get_by_test_id("stChatInputTextArea").fill(text)
    page.get_by_test_id("stChatInputTextArea").press("Enter")


def asked(page: Page, number: int) -> None:
    """Wait until so many questions are answered."""
    expect(page.locator(".st-key-answer").first).to_contain_text(f"{number} question", timeout=60_000)
    page.locator(".st-key-chat_regenerate").wait_for()
    settle(page)


def test_four_arms_one_of_them_down_and_the_keyboard_alone(browser: Browser, app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, app.address(CHAT))
        pick(page, "one", "two", "three", "nobody")
        ask(page, TEXT)
        asked(page, 1)
        assert page.evaluate(FOCUS) == "stChatInputTextArea"
        assert page.get_by_text("nobody can't be reached").count() == 1
        assert page.get_by_text("not in the text").count() == 3
        screenshot(page, "chat-four-arms")
        page.keyboard.type("and again")
        page.keyboard.press("Enter")
        asked(page, 2)
        assert tab.errors == []
        assert tab.strangers == []
        url = page.url
    with visit(browser, width=390, theme="dark") as tab:
        goto(tab.page, url)
        expect(tab.page.locator(".st-key-answer").first).to_contain_text("2 questions")
        screenshot(tab.page, "chat-four-arms-narrow-dark")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390


def scroll_by_hand(page: Page) -> None:
    """Leave the bottom, to which the page keeps until a hand scrolls; a slow machine may still be following it just then."""
    page.mouse.move(600, 400)
    for _ in range(10):
        page.mouse.wheel(0, -5000)
        page.wait_for_timeout(300)
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(500)
        if 100 < page.evaluate(SCROLLED) < 300:
            return
    raise AssertionError("the page runs to its bottom by itself")


def test_a_stop_keeps_what_was_said_and_an_edit_scrolls_nowhere(browser: Browser, app: App, there: StandIn) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, app.address(CHAT))
        pick(page, "one")
        for number in range(1, 4):
            ask(page, f"{TEXT} {number}")
            asked(page, number)
        ask(page, "long")
        page.get_by_text("on and on on and on").first.wait_for()
        page.screenshot(path=SCREENSHOTS / "chat-streaming.png")
        page.locator(".st-key-chat_stop button").click()
        asked(page, 4)
        expect(page.get_by_text("stopped", exact=False).first).to_be_visible()
        screenshot(page, "chat-stopped")
        scroll_by_hand(page)
        before = page.evaluate(SCROLLED)
        page.locator("[class*=st-key-edit_] button").first.click()
        settle(page)
        assert abs(page.evaluate(SCROLLED) - before) < 40
        page.locator("[class*=st-key-text_] textarea").fill("other words")
        page.get_by_role("button", name="Ask this instead").click()
        asked(page, 1)
        page.locator(".st-key-chat_kept button").first.click()
        expect(page.get_by_text("(before the edit)").first).to_be_visible()
        assert tab.errors == []


def test_an_answer_is_corrected_into_a_new_dataset(browser: Browser, app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, app.address(CHAT))
        pick(page, "one")
        ask(page, TEXT)
        asked(page, 1)
        page.locator("[class*=st-key-keep_chat] button").first.click()
        settle(page)
        page.locator("[class*=st-key-keep_answer] textarea").fill('{"person": ["张伟"], "position": ["总经理"]}')
        page.locator(".st-key-keep_dataset input").fill("from-chat")
        page.locator(".st-key-keep_dataset input").press("Enter")
        settle(page)
        screenshot(page, "chat-keep")
        page.get_by_role("button", name="Add to from-chat").click()
        expect(page.get_by_text("Kept as a row of")).to_be_visible()
        screenshot(page, "chat-kept")
        with inside(app):
            row = read_rows("from-chat").to_pylist()[0]
        assert (row["input"], row["output"], row["source"]) == (TEXT, '{"person": ["张伟"], "position": ["总经理"]}', "chat")
        assert tab.errors == []


def test_a_closed_tab_frees_its_answer(browser: Browser, app: App, there: StandIn) -> None:
    before = there.broken_off
    with visit(browser) as tab:
        goto(tab.page, app.address(CHAT))
        pick(tab.page, "two")
        ask(tab.page, "long, and closed")
        tab.page.get_by_text("on and on on and on").first.wait_for()
    end = time.monotonic() + 15
    while there.broken_off == before and time.monotonic() < end:
        time.sleep(0.1)
    assert there.broken_off == before + 1
    end = time.monotonic() + 5
    found = None
    with inside(app):
        while time.monotonic() < end and (found is None or len(found.turns) < 2):
            found = next(talk for talk in list_conversations() if talk.name == "long, and closed")
    assert found is not None
    assert found.turns[1].stopped
    assert found.turns[1].content.startswith("on and on")
