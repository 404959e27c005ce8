"""``python -m tests.browser.shoot``: every page, 1280 and 900 wide, light and dark, empty and full, into ``screenshots/``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from core.demo import EXTRACTION
from tests.browser.harness import SCREENSHOTS, Theme, chromium, existing_pages, goto, running_app, screenshot, visit
from tests.browser.prepared import prepare

WIDTHS = (1280, 900)
THEMES: tuple[Theme, ...] = ("light", "dark")


def main() -> None:
    """Shoot all of them, or those of some pages."""
    parser = argparse.ArgumentParser(description="Shoot every page in a real browser.")
    parser.add_argument("pages", nargs="*", help="titles, e.g. Data Compare; all if none is given")
    parser.add_argument("--workspace", type=Path, help="a workspace of your own in place of the prepared one")
    parser.add_argument("--dataset", default=EXTRACTION, help="what is selected there")
    options = parser.parse_args()
    chosen = [page for page in existing_pages() if not options.pages or page.title in options.pages]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright, chromium(playwright) as browser:
        folder = Path(name)
        full = options.workspace.resolve() if options.workspace else prepare(folder / "full")
        for state, workspace, selected in (("empty", folder / "empty", {}), ("full", full, {"dataset": options.dataset})):
            with running_app(workspace, folder / f"{state}.log") as app:
                for page in chosen:
                    for width in WIDTHS:
                        for theme in THEMES:
                            with visit(browser, width=width, theme=theme) as tab:
                                goto(tab.page, app.address(page, **selected))
                                print(screenshot(tab.page, f"{page.title.lower()}-{width}-{theme}-{state}").name, flush=True)
    print(f"in {SCREENSHOTS}")


if __name__ == "__main__":
    main()
