"""The main way, by hand in a real browser: open the sample, clean it, see its lengths, train, compare, chat.

Small numbers (sixteen rows to learn from, four to answer), but the real server, the real workers and the default model.
Leaves a screenshot of every page on the way.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.models.default import is_converted
from tests.browser.harness import ANSWER, running_app, screenshot, settle, visit

PATIENCE_MS = 240_000

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not is_converted(), reason="the default model is not in the cache: python -m core.models.default"),
]


def button(page: Page, key: str) -> None:
    """Press the button of a key."""
    page.locator(f".st-key-{key} button").first.click()


def number(page: Page, key: str, value: int) -> None:
    """Type into a number field and wait for the page to take it."""
    field = page.locator(f".st-key-{key} input").first
    field.fill(str(value))
    field.press("Enter")
    settle(page)


def go(page: Page, title: str) -> None:
    """Follow the navigation to a page."""
    page.get_by_test_id("stTopNavLink").filter(has_text=re.compile(f"{title}$")).first.click()
    expect(page).to_have_title(f"{title} · Tunewise")
    settle(page)


def answer(page: Page) -> str:
    """The page's answer sentence."""
    return page.locator(ANSWER).first.inner_text()


def wait_for_answer(page: Page, pattern: str) -> None:
    """Wait until the answer sentence says something."""
    expect(page.locator(ANSWER).first).to_contain_text(re.compile(pattern), timeout=PATIENCE_MS)
    settle(page)


def let_answer(page: Page, rows: int) -> None:
    """Let the chosen arm answer a few test rows."""
    number(page, "arm_limit_test", rows)
    number(page, "arm_tokens", 24)
    button(page, "arm_start")


def test_from_an_empty_workspace_to_a_comparison(browser: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path / "workspace", tmp_path / "server.log") as app, visit(browser) as tab:
        page = tab.page
        page.goto(app.url)
        settle(page)
        screenshot(page, "way-1-home")
        page.get_by_role("button", name="Open the sample").click()

        expect(page).to_have_title("Data · Tunewise")
        wait_for_answer(page, r"of 1,242 rows")
        button(page, "recipe_apply")
        wait_for_answer(page, r"of 1,1\d\d rows")
        screenshot(page, "way-2-data")

        go(page, "Tokens")
        assert "tokens" in answer(page)
        screenshot(page, "way-3-tokens")

        go(page, "Train")
        page.locator(".st-key-train_name input").fill("by-hand")
        page.locator(".st-key-train_name input").press("Enter")
        settle(page)
        page.locator(".st-key-train_dev label").first.click()
        settle(page)
        number(page, "train_limit", 16)
        number(page, "train_length", 256)
        button(page, "train_start")
        wait_for_answer(page, r"by-hand is trained")
        screenshot(page, "way-4-train")

        go(page, "Compare")
        let_answer(page, 4)
        wait_for_answer(page, r"Only .+ has answered rows of samples yet")
        expect(page.get_by_role("combobox", name="Who answers")).to_have_value(re.compile("^by-hand"))
        let_answer(page, 4)
        wait_for_answer(page, r"\b4 rows\b")
        screenshot(page, "way-5-compare")

        go(page, "Metrics")
        wait_for_answer(page, r"Best on samples")
        screenshot(page, "way-6-metrics")

        go(page, "Chat")
        button(page, "chat_settings")
        field = page.locator("[class*=st-key-chat_tokens_own] input").first
        field.fill("16")
        field.press("Enter")
        settle(page)
        page.keyboard.press("Escape")
        page.get_by_test_id("stChatInputTextArea").fill("Dana Holt joined Harbor Mills on 3 May 2021.")
        page.get_by_test_id("stChatInputSubmitButton").click()
        wait_for_answer(page, r"1 question")
        screenshot(page, "way-7-chat")
        assert not page.get_by_test_id("stException").count()
        assert tab.errors == []
        assert tab.strangers == []
