"""A warm server answers within 2 s and draws within 4 s, median of five. Slow: it wants the machine for itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser.harness import App
from tests.browser.times import median_times


@pytest.mark.slow
def test_answers_within_two_seconds_and_charts_within_four(browser: Browser, full_app: App) -> None:
    times = median_times(browser, full_app)
    assert {title: t.answer for title, t in times.items() if t.answer > 2.0} == {}
    assert {title: t.chart for title, t in times.items() if t.chart is not None and t.chart > 4.0} == {}
