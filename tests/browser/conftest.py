"""A browser and two running apps, one on an empty workspace and one on a full one, for all tests of a process.

Where there is no chromium the tests are skipped, saying so; with ``TUNEWISE_REQUIRE_BROWSER`` set they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.harness import App, chromium, find_chromium, running_app
from tests.browser.prepared import prepare

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All browser tests run in one process, one after the other: they share the servers."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless chromium."""
    if find_chromium() is None:
        reason = "browser test: there is no chromium (apt-get install chromium)"
        if os.environ.get("TUNEWISE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright, chromium(playwright) as launched:
        yield launched


@pytest.fixture(scope="session")
def empty_app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on a workspace with nothing in it."""
    folder = tmp_path_factory.mktemp("empty")
    with running_app(folder / "workspace", folder / "server.log") as app:
        yield app


@pytest.fixture(scope="session")
def full_app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on a workspace with the samples, a run and evaluations."""
    folder = tmp_path_factory.mktemp("full")
    prepare(folder / "workspace")
    with running_app(folder / "workspace", folder / "server.log") as app:
        yield app
