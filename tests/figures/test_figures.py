"""Figures: nothing lost of the frames, and colours that stay apart for people who see fewer of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.figures import data, evaluation, lengths, matrices, style, training

# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of colour vision deficiency", severity 1.0.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
MEANINGS = (style.BASE, style.TUNED, style.GOLD, style.FAULT, style.NEUTRAL)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    bright = sorted((float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, other)), reverse=True)
    return (bright[0] + 0.05) / (bright[1] + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_with_a_meaning_stay_apart(vision: str) -> None:
    seen = [lab(np.array(VISIONS[vision]) @ linear(colour)) for colour in MEANINGS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 25


@pytest.mark.parametrize("colour", MEANINGS)
@pytest.mark.parametrize("ground", ["#ffffff", "#12171d"])
def test_marks_stand_out_on_both_grounds(colour: str, ground: str) -> None:
    assert contrast(colour, ground) >= 2.2


@pytest.mark.parametrize("ground", [matrices.GOLD_DARK, style.FAULT, matrices.GREY_DARK])
def test_white_figures_can_be_read_on_their_squares(ground: str) -> None:
    assert contrast("#ffffff", ground) >= 4


def test_an_ecdf_has_a_point_for_each_different_length() -> None:
    many = np.random.default_rng(1).integers(1, 300, 50_000)
    for made in (lengths.histogram(many, 128), lengths.ecdf_overlay({"a": many, "b": many[:9]})):  # type: ignore[arg-type]
        curve = next(trace for trace in made.data if isinstance(trace, go.Scatter))
        assert len(curve.x) <= 302
        at = dict(zip(curve.x, curve.y, strict=True))
        assert at[150] == pytest.approx(np.mean(many <= 150))
    wide = lengths.histogram(np.arange(1, 20_000), 128)  # type: ignore[arg-type]
    assert len(next(trace for trace in wide.data if isinstance(trace, go.Scatter)).x) <= lengths.MOST_STEPS + 2


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=200), st.integers(8, 6000))
def test_histogram_counts_every_row_once(tokens: list[int], limit: int) -> None:
    made = lengths.histogram(tokens, limit)
    bars = [trace for trace in made.data if isinstance(trace, go.Bar)]
    assert sum(sum(bar.y) for bar in bars) == len(tokens)
    end = made.layout.xaxis.range[1]
    assert (10**end if made.layout.xaxis.type == "log" else end) >= max(max(tokens), limit)


def test_issue_bars_keep_order_and_keys() -> None:
    frame = pd.DataFrame(
        {
            "key": ["leak_exact", "empty", "markup"],
            "label": ["Leaks", "Empty", "Markup"],
            "rows": [3, 40, 12],
            "share": [0.003, 0.04, 0.012],
            "severity": ["error", "error", "note"],
        }
    )
    made = data.issue_bars(frame)
    assert list(made.layout.yaxis.categoryarray)[::-1] == list(frame["label"])
    assert {key for bar in made.data for key, _ in bar.customdata} == set(frame["key"])


def test_forest_tells_sure_from_unsure_by_shape() -> None:
    frame = pd.DataFrame(
        {"label": ["a", "b", "c"], "value": [0.3, 0.02, -0.2], "low": [0.2, -0.05, -0.3], "high": [0.4, 0.09, -0.1]}
    )
    marks = [(t.marker.symbol, t.marker.color) for t in evaluation.forest(frame).data]
    assert marks == [("circle", style.TUNED), ("circle-open", style.NEUTRAL), ("circle", style.FAULT)]
    near = frame.assign(value=[-0.001, 0.02, -0.2], low=[-0.004, -0.05, -0.3], high=[0.004, 0.09, -0.1])
    assert [note.text for note in evaluation.forest(near).layout.annotations] == [
        "0.00 [0.00, 0.00]", "+0.02 [−0.05, +0.09]", "−0.20 [−0.30, −0.10]",
    ]  # fmt: skip
    by_p = evaluation.forest(frame.assign(p=[0.06, 0.6, 0.01])).data  # an interval without 0 beside a p that isn't clear
    assert {y: trace.marker.symbol for trace in by_p for y in trace.y} == {"a": "circle-open", "b": "circle-open", "c": "circle"}


def test_leaderboard_puts_the_best_on_top_whatever_the_direction() -> None:
    frame = pd.DataFrame(
        {
            "name": ["x", "y"],
            "value": [9.0, 4.0],
            "low": [8.0, None],
            "high": [10.0, None],
            "kind": ["base", "tuned"],
            "key": ["1", "2"],
        }
    )
    assert evaluation.leaderboard(frame, metric="f1").layout.yaxis.categoryarray[-1] == "x"
    assert evaluation.leaderboard(frame, metric="perplexity", higher_is_better=False).layout.yaxis.categoryarray[-1] == "y"


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert training.smoothed(pd.Series([3.0, 3.0, 3.0])).round(9).tolist() == [3.0, 3.0, 3.0]
    assert training.smoothed(pd.Series([2.0, 0.0]))[0] == pytest.approx(2.0)
    noise = pd.Series(np.random.default_rng(1).normal(size=100_000))
    assert float(training.smoothed(noise)[10_000:].std()) < 0.05  # a line, not a band


def test_a_curve_of_one_step_is_seen_and_few_steps_have_no_halves() -> None:
    one = training.curves(pd.DataFrame({"step": [1], "loss": [2.0]}), total=4)
    assert [trace.mode for trace in one.data] == ["lines+markers"] * 2
    assert one.layout.xaxis.dtick == 1
    two = training.curves(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0]}), total=400)
    assert [trace.mode for trace in two.data] == ["lines"] * 2
    assert two.layout.xaxis.dtick is None


def test_curves_share_their_steps() -> None:
    steps = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0]})
    dev = pd.DataFrame({"step": [3], "micro_f1": [0.5], "eval_loss": [1.5]})
    made = training.curves(steps, dev, total=10)
    assert {trace.name for trace in made.data} == {"loss of each step", "loss, smoothed", "loss on dev", "micro-F1 on dev"}
    assert made.layout.xaxis.matches == "x2"


@pytest.mark.parametrize(("text", "cut"), [("abc", "abc"), ("中" * 20, "中" * 13 + "…"), ("x" * 40, "x" * 27 + "…")])
def test_labels_are_cut_by_width(text: str, cut: str) -> None:
    assert style.wrapped(text) == cut


def test_a_hundred_thousand_steps_keep_their_spikes_and_holes_in_few_points() -> None:
    values = np.sin(np.arange(100_000) / 900)
    values[[13, 50_001, 99_998]] = (9.0, -9.0, 8.0)
    values[60_000:70_000] = np.nan
    frame = pd.DataFrame({"step": np.arange(100_000), "loss": values})
    part = training.thinned(frame, "loss")
    assert len(part) <= 1502
    assert {0, 13, 50_001, 99_998, 99_999} <= set(part["step"])
    assert part["step"].is_monotonic_increasing
    assert not part["step"].between(60_200, 69_800).any()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
@settings(deadline=None)
def test_smoothing_is_the_corrected_moving_average(values: list[float]) -> None:
    kept, wanted = 0.0, []
    for place, value in enumerate(values):
        kept = 0.8 * kept + 0.2 * value
        wanted.append(kept / (1 - 0.8 ** (place + 1)))
    assert training.smoothed(pd.Series(values)).tolist() == pytest.approx(wanted, abs=1e-9)


def test_runs_are_laid_over_each_other_smoothed_but_for_looks_at_dev() -> None:
    runs = {name: pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 1.0, 2.0], "dev_loss": [None, 1.5, 1.0]}) for name in "ab"}
    loss, looks = training.overlay(runs), training.overlay(runs, column="dev_loss")
    assert loss.data[1].y[1] == pytest.approx(float(training.smoothed(runs["b"]["loss"])[1]))
    assert (list(looks.data[0].x), list(looks.data[0].y), looks.data[0].mode) == ([2, 3], [1.5, 1.0], "lines+markers")


def test_every_axis_separates_thousands() -> None:
    steps = pd.DataFrame({"step": [1, 20_000], "loss": [3.0, 1.0], "micro_f1": [0.1, 0.2], "tokens": [1e4, 2e4]})
    arms = pd.DataFrame(
        {"arm": ["a", "a"], "error": ["missed"] * 2, "label": ["Missed"] * 2, "key": ["k"] * 2, "rows": [1, 12_345]}
    )
    summary = {"p50": 10, "p95": 20, "max": 30_000}
    figures = [
        lengths.histogram([20_000, 30_000], 4096),
        lengths.ecdf_overlay({"a": [20_000, 30_000]}),
        lengths.group_ranges({"a": {"whole": summary}}, 64),
        lengths.budget_bars({"packed": (1_204_332, 40_000)}),
        training.curves(steps, steps),
        training.overlay({"a": steps}),
        training.measure(steps, "tokens"),
        evaluation.error_bars(arms.assign(kind="base")),
        data.share_bars(pd.DataFrame({"label": ["a"], "rows": [12_345]})),
    ]
    for made in figures:
        for axis in (*made.select_xaxes(), *made.select_yaxes()):
            if axis.overlaying is None:  # the second axis of a histogram is in per cent
                assert (axis.separatethousands, axis.exponentformat) == (True, "none"), made.layout.title.text
    assert [text for bar in figures[-2].data for text in bar.text] == ["1", "12,345"]


def test_a_click_on_the_curve_of_lengths_means_the_bar_that_it_passes() -> None:
    tokens = np.random.default_rng(3).integers(5, 400, 3000)
    made = lengths.histogram(tokens, 256)  # type: ignore[arg-type]
    bars = {
        tuple(ends): count
        for bar in made.data
        if isinstance(bar, go.Bar)
        for ends, count in zip(bar.customdata, bar.y, strict=True)
    }
    assert all(count == ((tokens >= first) & (tokens <= last)).sum() for (first, last), count in bars.items())
    curve = next(trace for trace in made.data if isinstance(trace, go.Scatter))
    for length, ends in list(zip(curve.x, curve.customdata, strict=True))[1:]:
        assert tuple(ends) in bars
        assert ends[0] <= length <= ends[1]


@given(st.lists(st.text("ab中文", min_size=1, max_size=90), unique=True, max_size=8), st.integers(8, 30), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_names_beside_an_axis_stay_apart(names: list[str], width: int, lines: int) -> None:
    assert len(set(style.labels(names, width, lines))) == len(names)


def test_a_name_beside_an_axis_is_cut_unless_another_would_look_the_same() -> None:
    assert style.labels(["x" * 30, "y" * 30, "y" * 31], 20, lines=1) == ["x" * 19 + "…", "y" * 30, "y" * 31]
    assert style.labels(["a word and many more of them, up to here"], 20) == ["a word and many more<br>of them, up to…"]


@pytest.mark.parametrize(
    ("title", "lines"),
    [("short", 1), ("one two three four", 2), ("中文标题很长，" * 3, 3), ("中文，标题 and words", 2)],
)
def test_a_title_is_folded_between_words_and_chinese_characters(title: str, lines: int) -> None:
    made = style.folded(title, 16)
    assert made.count("<br>") + 1 == lines
    assert made.replace("<br>", " ").replace(" ", "") == title.replace(" ", "")
    assert not any(line.startswith("，") for line in made.split("<br>"))
