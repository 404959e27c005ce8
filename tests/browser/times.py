"""``python -m tests.browser.times``: seconds to each page's answer sentence and main chart, warm server, median of 5."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from core.demo import EXTRACTION
from tests.browser.harness import App, Times, chromium, existing_pages, goto, measure, running_app, visit
from tests.browser.prepared import prepare

REPEATS = 5


def median_times(browser: Browser, app: App, dataset: str = EXTRACTION, repeats: int = REPEATS) -> dict[str, Times]:
    """Each page's median times; every page is opened once before, so that the server is warm."""
    found = {}
    with visit(browser) as tab:
        for page in existing_pages():
            goto(tab.page, app.address(page, dataset=dataset))
        for page in existing_pages():
            times = [measure(tab.page, app.address(page, dataset=dataset)) for _ in range(repeats)]
            charts = [t.chart for t in times if t.chart is not None]
            answer = statistics.median(t.answer for t in times)
            found[page.title] = Times(answer, statistics.median(charts) if len(charts) == repeats else None)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Time every page in a real browser.")
    parser.add_argument("--workspace", type=Path, help="a workspace of your own in place of the prepared one")
    parser.add_argument("--dataset", default=EXTRACTION, help="what is selected there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright, chromium(playwright) as browser:
        folder = Path(name)
        workspace = options.workspace.resolve() if options.workspace else prepare(folder / "full")
        with running_app(workspace, folder / "server.log") as app:
            print(f"{'page':<10} {'answer':>8} {'chart':>8}")
            for title, times in median_times(browser, app, options.dataset).items():
                print(f"{title:<10} {times.answer:>7.2f}s {'–' if times.chart is None else f'{times.chart:.2f}s':>8}")


if __name__ == "__main__":
    main()
