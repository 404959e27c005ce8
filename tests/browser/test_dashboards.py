"""What is chosen on Compare and Metrics stands in the address, clicks on figures too, and a link brings it back; downloads."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from core.demo import EXTRACTION
from pages.ui.registry import COMPARE, METRICS, TOKENS
from tests.browser.harness import App, goto, settle, visit


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def click_mark(page: Page, chart: str, words: str) -> None:
    """Click the mark of a figure that carries these words."""
    box = page.locator(f".st-key-{chart} .textpoint text, .st-key-{chart} .bartext").filter(has_text=words).first.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settle(page)


def test_a_cell_opens_its_rows_and_its_address_does_so_again(browser: Browser, full_app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, full_app.address(COMPARE, dataset=EXTRACTION))
        texts = page.locator(".st-key-matrix .textpoint text")
        texts.first.wait_for()  # drawn after the page has come to rest, on a busy machine
        cells = texts.all_text_contents()
        click_mark(page, "matrix", max(cells, key=lambda text: int(text.replace(",", ""))))
        chosen = query(page)
        assert {"before", "after"} <= set(chosen)
        head = page.locator(".st-key-result").locator("..").inner_text()
        goto(page, page.url)
        assert query(page)["before"] == chosen["before"]
        assert page.locator(".st-key-result").locator("..").inner_text() == head
        assert tab.errors == []


def test_metrics_is_a_link(browser: Browser, full_app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(
            page, full_app.address(METRICS, dataset=EXTRACTION, by_dataset=EXTRACTION, metric="exact_match", metrics_view="Rows")
        )
        expect(page.locator(".st-key-answer")).to_contain_text("Exact match")
        best = query(page)["evaluation"]
        click_mark(page, "leaderboard", "0.05")
        assert len(query(page)["evaluation"]) == 1
        assert query(page)["evaluation"] != best
        expect(page.locator('[data-testid="stTabs"]').first).to_contain_text("Rows of three examples")
        goto(page, page.url)
        expect(page.locator('[data-testid="stTabs"]').first).to_contain_text("Rows of three examples")
        assert query(page)["metrics_view"] == ["Rows"]


def test_charts_come_as_pages_of_their_own_and_tables_as_parquet(browser: Browser, full_app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, full_app.address(METRICS, dataset=EXTRACTION))
        page.locator(".st-key-leaderboard_more button").first.click()
        sizes = {}
        for kind in ("html", "parquet", "csv"):
            with page.expect_download() as waiting:
                page.locator(f".st-key-leaderboard_{kind} button").first.click()
            path = waiting.value.path()
            sizes[waiting.value.suggested_filename] = path.stat().st_size
        assert set(sizes) == {"leaderboard.html", "leaderboard.parquet", "leaderboard.csv"}
        assert sizes["leaderboard.html"] > 1_000_000  # Plotly itself is inside
        for kind in ("png", "svg"):
            picture = page.locator(f'.st-key-leaderboard_take button[data-format="{kind}"]')
            if not picture.count():  # a download of a picture closes the list
                page.locator(".st-key-leaderboard_more button").first.click()
            with page.expect_download() as waiting:
                picture.click()
            assert waiting.value.suggested_filename == f"leaderboard.{kind}"
            assert waiting.value.path().stat().st_size > 1000


def click_one(page: Page, marks: str) -> None:
    """Click the mark in the middle of those that a selector finds and that can be seen."""
    page.locator(marks).first.wait_for()
    settle(page)
    found = [mark for mark in page.locator(marks).all() if (box := mark.bounding_box()) and box["height"] > 4]
    mark = found[len(found) // 2]
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settle(page)


def test_a_point_of_lengths_and_of_likelihoods_opens_its_rows(browser: Browser, full_app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        link = full_app.address(METRICS, dataset=EXTRACTION, by_dataset=EXTRACTION, metrics_view="Lengths")
        goto(page, link)
        view = page.locator('[data-testid="stTabs"]').first
        expect(view).to_contain_text("Rows whose gold answers demo-qlora finds least likely")
        expect(view).not_to_contain_text("characters")
        click_one(page, ".st-key-lengths .scatterlayer .point")
        said = re.search(r"Rows of (.+) with gold answers of (\d+) to (\d+) characters", view.inner_text())
        assert said, view.inner_text()
        assert said[1] in ("prompt alone", "three examples", "demo-qlora")
        assert int(said[2]) <= int(said[3])
        assert page.locator(".st-key-length_rows_table").count() == 1
        click_one(page, ".st-key-likelihoods .scatterlayer .trace:first-child .point")
        said = re.search(r"(\d+) rows? of three examples with gold answers of perplexity ([\d.]+) or less", view.inner_text())
        assert said, view.inner_text()
        assert 1 <= int(said[1]) <= 100
        assert tab.errors == []


def test_a_bar_and_a_group_of_lengths_open_their_rows(browser: Browser, full_app: App) -> None:
    with visit(browser) as tab:
        page = tab.page
        goto(page, full_app.address(TOKENS, dataset=EXTRACTION, tokens_view="Groups"))
        window = page.locator('[data-testid="stDialog"]')
        heads = {
            ".st-key-lengths .barlayer .point": r"([\d,]+) rows? of (\d+ to \d+ tokens|\d+ tokens?)",
            ".st-key-groups .point": r"([\d,]+) rows? of at most \d+ tokens in (train|dev|test)",
        }
        for marks, words in heads.items():
            click_one(page, marks)
            head = window.locator('[role="dialog"]').first.inner_text().splitlines()[0]
            assert re.fullmatch(words, head), head
            assert window.locator('[data-testid="stDataFrame"]').count() == 1
            page.keyboard.press("Escape")
            window.wait_for(state="detached")
        assert tab.errors == []


@pytest.mark.parametrize("view", ["By element", "Errors", "Lengths"])
def test_titles_keys_and_plots_keep_apart_on_a_telephone(browser: Browser, full_app: App, view: str) -> None:
    with visit(browser, width=390) as tab:
        page = tab.page
        goto(page, full_app.address(METRICS, dataset=EXTRACTION, by_dataset=EXTRACTION, metrics_view=view))
        figures = page.locator('[data-testid="stTabs"] .js-plotly-plot')
        figures.first.locator(".nsewdrag").first.wait_for()
        settle(page)
        for figure in figures.all():
            title, key, plot = (figure.locator(part).first.bounding_box() for part in (".gtitle", ".legend", ".nsewdrag"))
            assert title
            assert key
            assert plot
            assert title["y"] + title["height"] <= key["y"] + 1
            assert key["y"] + key["height"] <= plot["y"] + 1
            assert plot["width"] >= 150
            assert plot["height"] >= 120
