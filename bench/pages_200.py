"""Metrics and Compare on a workspace with 200 evaluations of 2,000 rows, on a warm server.

    python bench/pages_200.py [--workspace FOLDER] [--evaluations 200] [--rows 2000] [--repeats 5]

makes the workspace (``bench/pages_workspace.py``) unless one is given, and prints medians: answer sentence and main chart
in a real browser, a change of a filter there, each also as a ratio against the same page of a workspace with next to
nothing in it, in the same run; the first visit, which has to compare; and the script alone (AppTest). Exits 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Page, sync_playwright

from bench.pages_workspace import NAME, build
from core.store.database import forget_engines
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


def filter_seconds(page: Page, repeats: int) -> float:
    """Median seconds from the choice of another metric to the changed answer sentence, nothing running any more."""
    taken = []
    for turn in range(repeats):
        was = page.locator(".st-key-answer").first.inner_text()
        page.locator(".st-key-metric input").first.click()
        option = page.get_by_role("option").nth(1 - turn % 2)
        option.wait_for(state="visible")
        begun = time.monotonic()
        option.click()
        page.wait_for_function(_ANSWER_IS, arg=was, polling=20)
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)


def timed(app: App, page: Page, entry: Entry, repeats: int) -> dict[str, float]:
    """Medians of visits, and of a filter where the page has one that changes its answer."""
    address = app.address(entry, dataset=NAME)
    visits = [measure(page, address) for _ in range(repeats)]
    charts = [t.chart for t in visits if t.chart is not None]
    found = {"answer": statistics.median(t.answer for t in visits), "chart": statistics.median(charts)}
    if entry is METRICS:
        goto(page, address)
        found["filter"] = filter_seconds(page, 2 * repeats)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="one that pages_workspace.py made")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright, chromium(playwright) as browser:
        full, small = (options.workspace or Path(name) / "full").resolve(), Path(name) / "small"
        for workspace, evaluations, rows in ((small, 9, 60), (full, options.evaluations, options.rows)):
            os.environ["TUNEWISE_WORKSPACE"] = str(workspace)
            if not workspace.exists():
                workspace.mkdir(parents=True)
                build(workspace, evaluations, rows)
            forget_engines()
        with (
            running_app(full, Path(name) / "full.log") as app,
            running_app(small, Path(name) / "small.log") as other,
            visit(browser) as tab,
        ):
            for entry in (METRICS, COMPARE):
                first = measure(tab.page, app.address(entry, dataset=NAME))
                measure(tab.page, other.address(entry, dataset=NAME))
                baseline, found = (timed(which, tab.page, entry, options.repeats) for which in (other, app))
                over = [key for key, bound in BOUNDS.items() if found.get(key, 0.0) > bound]
                missed += len(over)
                shown = ", ".join(f"{key} {value:.2f} s (x {value / baseline[key]:.2f})" for key, value in found.items())
                print(
                    f"{entry.title:<8} {shown}, first visit {first.answer:.2f} s, "
                    f"script {script_seconds(entry, options.repeats):.2f} s{'; missed: ' + ', '.join(over) if over else ''}",
                    flush=True,
                )
    print("x: against the same page with 9 evaluations of 60 rows, in this run")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
