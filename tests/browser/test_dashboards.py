"""What is chosen on Compare and Metrics stands in the address, clicks on figures too, and a link brings it back; downloads."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Page, expect

from core.demo import EXTRACTION
from pages.ui.registry import COMPARE, METRICS
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
        cells = page.locator(".st-key-matrix .textpoint text").all_text_contents()
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
            page, full_app.address(METRICS, dataset=EXTRACTION, by_dataset=EXTRACTION, metric="Exact match", metrics_view="Rows")
        )
        expect(page.locator(".st-key-answer")).to_contain_text("Exact match")
        click_mark(page, "leaderboard", "0.05")
        assert query(page)["evaluation"] == ["three examples"]
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
