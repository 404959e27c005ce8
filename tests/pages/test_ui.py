"""Number formats and marked text: golden tables, and that nothing of a row is lost or run as HTML."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.answers import parse_answer
from pages.ui import charts, formats, marks, rowview
from pages.ui.marks import Mark


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1234567, "1,234,567"),
        (1230, "1,230"),
        (0.71428, "0.714"),
        (12.3456, "12.3"),
        (0, "0"),
        (-0.5, "−0.500"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_number(value: float | None, written: str) -> None:
    assert formats.number(value) == written


@pytest.mark.parametrize(
    ("given_", "written"),
    [((0.714, 0.641, 0.772), "0.71 [0.64, 0.77]"), ((0.5, None, None), "0.50"), ((None, 0.1, 0.2), "–")],
)
def test_interval(given_: tuple[float | None, float | None, float | None], written: str) -> None:
    assert formats.interval(*given_) == written


def test_a_difference_has_a_sign_and_zero_has_none() -> None:
    assert formats.interval(0.33, 0.24, 0.42, signed=True) == "+0.33 [+0.24, +0.42]"
    assert [formats.difference(v) for v in (0.334, -0.05, 0.0, -0.001)] == ["+0.33", "−0.05", "0.00", "0.00"]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.42, "0.4 s"),
        (45, "45 s"),
        (59.7, "1 min"),
        (125, "2 min 05 s"),
        (720, "12 min"),
        (4320, "1 h 12 min"),
        (273600, "3 d 4 h"),
        (None, "–"),
        (-1, "–"),
    ],
)
def test_duration(seconds: float | None, written: str) -> None:
    assert formats.duration(seconds) == written


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0, "0 %"),
        (0.0004, "<0.1 %"),
        (0.034, "3.4 %"),
        (0.5, "50 %"),
        (0.99, "99 %"),
        (0.9948, "99.5 %"),
        (0.9996, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_percent(share: float, written: str) -> None:
    assert formats.percent(share) == written


def test_free_memory_is_told_without_the_name_of_the_processor() -> None:
    assert formats.free(21.5e9, "cpu") == "21.5 GB of memory are free"
    assert formats.free(71.2e9, "cuda:0") == "71.2 GB are free on cuda:0"


def test_ago_and_sizes_and_splits() -> None:
    now = datetime(2026, 1, 20, 12, tzinfo=UTC)
    assert [formats.ago(now - timedelta(seconds=s), now) for s in (5, 300, 7200, 90000, 200000)] == [
        "just now", "5 min ago", "2 h ago", "1 day ago", "2 days ago",
    ]  # fmt: skip
    assert [formats.size(b) for b in (12, 412_000_000, 1_500_000_000)] == ["12 bytes", "412 MB", "1.50 GB"]
    assert formats.splits({"test": 20, "train": 1200, "": 3}) == "1,200 train, 20 test, 3 in no split"


@given(
    st.text(max_size=80),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.sampled_from(["gold", "predicted"])), max_size=6),
)
def test_marked_text_keeps_every_character_and_runs_nothing(text: str, spans: list[tuple[int, int, str]]) -> None:
    made = marks.marked(text, [Mark(min(a, b), min(max(a, b), len(text)), look) for a, b, look in spans])
    bare = re.sub(r"</?(?:mark|div|span)(?: class=\"[a-z\- ]+\")?>", "", made)
    assert html.unescape(bare) == text
    assert "<" not in bare


def test_values_are_marked_where_they_stand_and_absent_ones_said_to_be() -> None:
    text = "王建国于2023年5月6日加入<b>华远</b>。"
    found, values = marks.ground(parse_answer('{"person": ["王建国"], "organization": ["Nobody"]}'), text, "gold")
    assert [(text[m.start : m.end], m.label) for m in found] == [("王建国", "person")]
    shown = marks.elements_table(values, None)
    assert "absent" in shown
    assert "not in the text" in shown
    assert '<mark class="gold">王建国</mark>' in marks.marked(text, found)
    assert "&lt;b&gt;" in marks.marked(text, found)


def test_elements_table_tells_right_from_wrong() -> None:
    text = "Anna met Tom."
    _, gold = marks.ground(parse_answer('{"person": ["Anna", "Tom"], "date": []}'), text, "gold")
    _, told = marks.ground(parse_answer('{"person": ["Anna", "<i>Bob</i>"]}'), text, "predicted")
    shown = marks.elements_table(gold, told)
    assert "1 missed, 1 wrong" in shown
    assert "&lt;i&gt;Bob&lt;/i&gt;" in shown


def test_a_row_names_the_faults_that_are_counted() -> None:
    text = "Anna Lee met Tom in Oslo."
    gold = parse_answer('{"person": ["Anna Lee", "Tom"], "town": ["Oslo"], "year": ["1999"], "<b>": ["met"]}')
    said = '{"person": ["Anna", "Oslo"], "town": ["Bergen"], "<b>": ["met", "met"]}'
    faults = rowview._faults(gold, said, text)
    assert {element: dict(counted) for element, counted in faults.items()} == {
        "town": {"under the wrong element": 1, "not in the text": 1},
        "person": {"under the wrong element": 1, "cut at the wrong place": 1, "missed": 1},
        "year": {"missed": 1},
        "<b>": {"said twice": 1},
    }
    right, told = (marks.ground(answer, text, "gold")[1] for answer in (gold, parse_answer(said)))
    shown = marks.elements_table(right, told, faults)
    assert "1 under the wrong element, 1 not in the text" in shown
    assert "<b>" not in shown


@given(st.text(max_size=60), st.text(max_size=60))
def test_diff_is_escaped(before: str, after: str) -> None:
    shown = marks.diff(before, after)
    assert "<" not in re.sub(r"</?(?:del|ins|div)(?: class=\"[a-z\- ]+\")?>", "", shown)


def test_diff_shows_what_went_and_came() -> None:
    assert "<del>b</del>" in marks.diff("abc", "adc")
    assert "<ins>d</ins>" in marks.diff("abc", "adc")
    assert "‹U+200B›" in marks.diff("a\u200bb", "ab")


def test_csv_disarms_formulas() -> None:
    written = charts.to_csv(pd.DataFrame({"a": ["=1+1", "ok", "@x"], "n": [-1, 2, 3]})).decode("utf-8-sig")
    assert written.splitlines()[1:] == ["'=1+1,-1", "ok,2", "'@x,3"]
