"""The real app in a real browser: starts the server on a workspace, opens pages, says when they are ready.

Used by the browser tests and by the scripts ``shoot`` and ``times``. Knows nothing of what pages show,
but for two hooks: the answer sentence stands in ``.st-key-answer``, the main chart in ``.st-key-chart``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, Response

from pages.ui.registry import PAGES, Entry

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).with_name("screenshots")
ANSWER = ".st-key-answer"
CHART = ".st-key-chart"
MAIN = '[data-testid="stMain"], [data-testid="stAppScrollToBottomContainer"]'
"""The scrolling part of a page; a page with a chat input has the second."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Theme = Literal["light", "dark"]
HEIGHT = 800
_PATIENCE_MS = 60_000
_START_SECONDS = 180
_SETTLED = """() => {
  const app = document.querySelector('[data-testid="stApp"]');
  if (!app || app.dataset.testScriptState !== 'notRunning') return false;
  if (document.querySelector('[data-testid="stSkeleton"], [data-stale="true"]')) return false;
  return [...document.querySelectorAll('[data-testid="stPlotlyChart"]')].every(e => e.querySelector('.main-svg'));
}"""
_CHART_DRAWN = """() => {
  const place = document.querySelector('.st-key-chart');
  return !!place && !!place.querySelector('.js-plotly-plot .main-svg .plot, .js-plotly-plot .main-svg .subplot, canvas');
}"""


def find_chromium() -> str | None:
    """Debian's chromium, or another that is on the path."""
    return next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)


def existing_pages() -> tuple[Entry, ...]:
    """The pages of the registry whose file is there."""
    return tuple(page for page in PAGES if (ROOT / page.path).is_file())


def address(page: Entry) -> str:
    """A page's path in the address: Home is the root."""
    return "" if page.title == "Home" else Path(page.path).stem.partition("_")[2]


@dataclass
class App:
    """A running server and the workspace it shows."""

    url: str
    workspace: Path
    process: subprocess.Popen[bytes]
    log: Path

    def address(self, page: Entry, **query: str) -> str:
        """The full address of a page, with a selection."""
        return f"{self.url}/{address(page)}" + (f"?{urlencode(query)}" if query else "")


@contextmanager
def running_app(workspace: Path, log: Path, **environment: str) -> Iterator[App]:
    """Start ``Home.py`` on a free port of this machine; ready when its health page answers, ended with the block."""
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", "Home.py", "--server.address=127.0.0.1", f"--server.port={port}"]
    settings = {**os.environ, "TUNEWISE_WORKSPACE": str(workspace), "HF_HUB_OFFLINE": "1", **environment}
    settings.pop("TUNEWISE_DATABASE_URL", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--server.headless=true"], cwd=ROOT, env=settings, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        app = App(f"http://127.0.0.1:{port}", workspace, process, log)
        _wait_for_health(app)
        yield app
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_health(app: App) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if app.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{app.url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the app did not start:\n{app.log.read_text(errors='replace')[-3000:]}")


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's chromium, headless; nothing is downloaded."""
    path = find_chromium()
    if path is None:
        raise RuntimeError("there is no chromium: apt-get install chromium")
    browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), headless=True)
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visit:
    """One tab, and what went wrong in it: console errors, and requests that would have left this machine."""

    page: Page
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, *, width: int = 1280, theme: Theme = "light") -> Iterator[Visit]:
    """A fresh tab of a given width; the theme follows the system's, as for a user who set none."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme=theme, reduced_motion="reduce", accept_downloads=True
    )
    context.set_default_timeout(_PATIENCE_MS)
    tab = Visit(context.new_page())

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):  # see on_response
            tab.errors.append(message.text)

    def on_response(response: Response) -> None:
        # On a page's address the client first looks for the server below it (/Data/_stcore/health): a 404 by design.
        if response.status >= 400 and "/_stcore/" not in response.url:
            tab.errors.append(f"{response.status} {response.url}")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            tab.strangers.append(request.url)

    tab.page.on("console", on_console)
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("request", on_request)
    tab.page.on("response", on_response)
    try:
        yield tab
    finally:
        context.close()


def goto(page: Page, url: str) -> None:
    """Open an address and wait until the page has settled."""
    page.goto(url, wait_until="domcontentloaded")
    settle(page)


def settle(page: Page) -> None:
    """Wait until no script runs, nothing is stale and every chart is drawn, twice in a row."""
    for _ in range(2):
        page.wait_for_function(_SETTLED)
        page.wait_for_timeout(150)
    page.wait_for_function(_SETTLED)


@dataclass(frozen=True)
class Times:
    """Seconds from the click on an address to the answer sentence and to the main chart; None: the page has none."""

    answer: float
    chart: float | None


def measure(page: Page, url: str) -> Times:
    """Open an address and time it."""
    page.goto("about:blank")
    begun = time.monotonic()
    page.goto(url, wait_until="commit")
    page.locator(ANSWER).first.wait_for(state="visible")
    answered = time.monotonic() - begun
    drawn: float | None = None
    while not page.evaluate(_CHART_DRAWN):
        if page.locator(CHART).count() == 0 and page.evaluate(_SETTLED):
            break
        page.wait_for_timeout(20)
    else:
        drawn = time.monotonic() - begun
    return Times(answered, drawn)


def screenshot(page: Page, name: str) -> Path:
    """The whole page, however long, into ``screenshots/NAME.png``; the window keeps its size."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    size = page.viewport_size or {"width": 1280, "height": HEIGHT}
    height = page.locator(MAIN).first.evaluate("e => e.scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(HEIGHT, min(int(height) + 8, 6000))})
    page.wait_for_timeout(300)
    settle(page)
    page.screenshot(path=path)
    page.set_viewport_size(size)
    return path
