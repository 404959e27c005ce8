"""Metrics and Compare on a workspace with 200 evaluations of 2,000 rows, on a warm server.

    python bench/pages_200.py [--workspace FOLDER] [--evaluations 200] [--rows 2000] [--repeats 5]

makes the workspace (``bench/pages_workspace.py``) unless one is given, opens each page once, and prints medians: script time
of a whole run (AppTest), answer sentence and main chart in a real browser, and a change of a filter in the browser. The first
visit of Compare, which has to compare, is told apart from the later ones. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Page, sync_playwright

from bench.pages_workspace import NAME, build
from pages.ui.registry import COMPARE, METRICS, Entry
from tests.browser.harness import App, chromium, goto, measure, running_app, visit

BOUNDS = {"answer": 2.0, "chart": 4.0, "filter": 0.5}
_ANSWER_IS = """was => {
  const app = document.querySelector('[data-testid="stApp"]');
  const said = document.querySelector('.st-key-answer');
  return said && said.innerText !== was && app.dataset.testScriptState === 'notRunning';
}"""


def script_seconds(page: Entry, repeats: int) -> float:
    """Median seconds of one run of a page's script, warm, without a browser."""
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(Path(__file__).resolve().parent.parent / "Home.py"), default_timeout=120)
    app.session_state["dataset"] = NAME
    app.run().switch_page(page.path).run()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        app.run()
        taken.append(time.perf_counter() - begun)
    if app.exception:
        raise SystemExit(str([e.value for e in app.exception]))
    return statistics.median(taken)


def filter_seconds(page: Page, press: Callable[[int], None], repeats: int) -> float:
    """Median seconds from a press to the changed answer sentence, nothing running any more."""
    taken = []
    for turn in range(repeats):
        was = page.locator(".st-key-answer").first.inner_text()
        begun = time.monotonic()
        press(turn)
        page.wait_for_function(_ANSWER_IS, arg=was, polling=20)
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)


def metrics_filter(page: Page) -> Callable[[int], None]:
    """Takes another metric by the keyboard, so that no list has to open and close in the measured time."""
    box = page.locator(".st-key-metric input").first

    def press(turn: int) -> None:
        box.click()
        page.get_by_role("option").nth(1 - turn % 2).click()

    return press


def visited(app: App, page: Page, entry: Entry, repeats: int) -> dict[str, float]:
    """First visit, and medians of later ones."""
    address = app.address(entry, dataset=NAME)
    first = measure(page, address)
    later = [measure(page, address) for _ in range(repeats)]
    found = {"first answer": first.answer, "answer": statistics.median(t.answer for t in later)}
    charts = [t.chart for t in later if t.chart is not None]
    return found | {"first chart": first.chart or 0.0, "chart": statistics.median(charts)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="one that pages_workspace.py made")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright, chromium(playwright) as browser:
        workspace = (options.workspace or Path(name) / "workspace").resolve()
        workspace.mkdir(parents=True, exist_ok=True)
        os.environ["TUNEWISE_WORKSPACE"] = str(workspace)
        if options.workspace is None:
            build(workspace, options.evaluations, options.rows)
        missed = 0
        with running_app(workspace, Path(name) / "server.log") as app, visit(browser) as tab:
            goto(tab.page, app.url)
            for entry in (METRICS, COMPARE):
                found = visited(app, tab.page, entry, options.repeats)
                if entry is METRICS:
                    goto(tab.page, app.address(entry, dataset=NAME))
                    found["filter"] = filter_seconds(tab.page, metrics_filter(tab.page), 2 * options.repeats)
                found["script"] = script_seconds(entry, options.repeats)
                over = [key for key, bound in BOUNDS.items() if found.get(key, 0.0) > bound]
                missed += len(over)
                shown = ", ".join(f"{key} {value:.2f} s" for key, value in found.items())
                print(f"{entry.title:<8} {shown}{' MISSED: ' + ', '.join(over) if over else ''}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
