"""A comparison is of the same rows, agrees with the rows by hand, and its transitions add up."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.evaluation import artefacts, transitions
from core.evaluation.compare import compare
from core.evaluation.comparison import Comparison
from core.evaluation.report import render_report, write_report
from core.evaluation.runner import run_evaluation
from core.evaluation.scoring import metrics_of
from core.evaluation.statistics import paired, rate_difference
from core.evaluation.verdict import sentence
from core.records import Evaluation, SilentReporter
from tests.evaluation.toy import right_answer

Make = Callable[..., Evaluation]


def sloppy(prompt: str) -> str:
    """Right for half of the rows, else one of several faults."""
    answer = json.loads(right_answer(prompt))
    n = int(answer["人"][0][2:])
    if n % 2 == 0:
        return right_answer(prompt)
    answer = {
        1: {"人": [answer["人"][0][:2]], "地": answer["地"]},
        3: {"人": answer["地"], "地": answer["人"]},
        5: {"人": answer["人"]},
        7: {"人": answer["人"] * 2, "地": ["Bergen"]},
        9: None,
    }[n % 10]
    return json.dumps(answer, ensure_ascii=False) if answer else "{broken"


@pytest.fixture
def comparison(make_evaluation: Make, engine: Callable[..., Any]) -> Comparison:
    run_evaluation(make_evaluation("base"), SilentReporter(), engine(sloppy))
    run_evaluation(make_evaluation("tuned"), SilentReporter(), engine())
    return compare(["base", "tuned"])


def test_difference(comparison: Comparison) -> None:
    assert comparison.rows == 40
    base, tuned = (arm.scores["micro_f1"] for arm in comparison.arms)
    assert tuned == 1
    change = comparison.difference["micro_f1"]
    assert change["value"] == pytest.approx(1 - base)
    assert 0 < change["low"] < change["value"] < change["high"]
    assert change["p"] < 0.001
    assert set(change) == {"value", "low", "high", "p"}
    assert {"exact_match", "json_valid", "bleu", "perplexity", "tokens_per_request", "f1:人"} <= set(comparison.difference)
    assert (comparison.versus[0].won, comparison.versus[0].lost, comparison.versus[0].tied) == (20, 0, 20)
    assert comparison.versus[0].mcnemar == pytest.approx(2 / 2**20)
    assert comparison.versus[0].mcnemar_holm is None
    assert comparison.verdict.startswith("tuned is better than base: micro-F1 1.000 against")
    assert comparison.versus[0].alike == 0


def test_no_difference_on_few_rows_is_no_certainty(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    for name, answer in (("base", "{}"), ("tuned", '{"人": ["x"]}')):
        run_evaluation(make_evaluation(name, limit=6, perplexity=False), SilentReporter(), engine(lambda p, said=answer: said))
    groups = {row_id: f"g{n}" for n, row_id in enumerate(compare(["base", "tuned"]).row_ids)}
    for found in (compare(["base", "tuned"]), compare(["base", "tuned"], clusters=groups)):
        change = found.difference["exact_match"]
        assert (found.rows, change["value"], change["p"]) == (6, 0, 1)
        assert (change["low"], change["high"]) == pytest.approx((-0.390, 0.390), abs=0.001)
        assert [arm.intervals["exact_match"] for arm in found.arms] == [pytest.approx((0, 0.390), abs=0.001)] * 2
        assert "[-0.390, +0.390]" in render_report(found)
        change = found.difference["micro_f1"]
        assert (change["low"], change["high"]) == pytest.approx((-0.390, 0.390), abs=0.001)
        assert [arm.intervals["micro_f1"] for arm in found.arms] == [pytest.approx((0, 0.390), abs=0.001)] * 2
        assert found.versus[0].alike == 6
        assert found.verdict.startswith("No row tells tuned from base: the same score with both on all 6 rows, micro-F1 0.000. ")
        assert "At most 39% of such rows can score otherwise (95 %)." in found.verdict
    assert "score interval" in render_report(found)
    said = sentence(*found.arms, found.difference, "micro_f1", 16, alike=8)  # groups of two rows
    assert "on all 16 rows (of 8 groups), micro-F1 0.000. At most 32% of such groups can score otherwise (95 %)." in said


@pytest.mark.parametrize(
    ("rows", "groups", "looks", "said"),
    [
        (2, 0, 1, " So few rows can't tell: with fewer than 5 no difference is clear, whatever its size."),
        (5, 0, 2, " So few rows can't tell: with fewer than 6 no difference is clear, whatever its size."),
        (60, 4, 1, " So few groups of rows can't tell: with fewer than 5 no difference is clear, whatever its size."),
        (5, 0, 1, " So few rows can't tell how many it would take to see a difference of this size; more than these."),
        (20, 0, 1, " About 30 rows would be needed to see a difference of this size."),
    ],
)
def test_an_unclear_verdict_says_how_many_rows_it_would_take_where_that_can_be_told(
    comparison: Comparison, rows: int, groups: int, looks: int, said: str
) -> None:
    width = 1.96 * 0.1 * (1.5**0.5) / 2.8016  # a standard error with which half as many rows again are needed
    found = {"micro_f1": {"value": 0.1, "low": 0.1 - width, "high": 0.1 + width, "p": 0.2}}
    verdict = sentence(*comparison.arms, found, "micro_f1", rows, groups=groups, looks=looks)
    assert f"p = 0.200.{said}" in verdict
    assert "would be needed" not in verdict.replace(said, "")


def test_a_comparison_knows_its_groups_and_its_arms(
    comparison: Comparison, make_evaluation: Make, engine: Callable[..., Any]
) -> None:
    run_evaluation(make_evaluation("short", limit=12), SilentReporter(), engine())
    pairs = {row: str(place % 6) for place, row in enumerate(compare(["short", "base"]).row_ids)}
    few = compare(["short", "base", "tuned"], clusters=pairs).versus[0]
    assert few.difference["micro_f1"]["p_holm"] >= 0.05
    assert "So few groups of rows can't tell how many it would take" in few.verdict
    run_evaluation(make_evaluation("shorter", limit=5), SilentReporter(), engine())
    assert "So few rows can't tell: with fewer than 6" in compare(["shorter", "base", "tuned"]).versus[0].verdict


def test_the_gold_that_both_are_scored_by_is_said_once(comparison: Comparison) -> None:
    def scored(names: tuple[str, str], versions: tuple[int, int] = (6, 6), **how: Any) -> str:
        arms = [
            replace(arm, evaluation=arm.evaluation.model_copy(update={"name": name, "version": version}))
            for arm, name, version in zip(comparison.arms, names, versions, strict=True)
        ]
        return sentence(*arms, comparison.difference, "micro_f1", 40, **how)

    again = scored(("base, gold of v6", "微调, gold of v6"))
    assert again.startswith("微调 is better than base: micro-F1 1.000 against")
    assert "on 40 rows, by the gold of v6, +" in again
    assert again.count("gold of") == 1
    assert scored(("base, gold of v6", "tuned, gold of v6"), alike=40).count(", by the gold of v6") == 1
    assert scored(("base", "tuned, gold of v6")).startswith("tuned is better than base")  # which was answered on v6
    assert "gold of" not in scored(("base", "tuned"))
    assert "tuned, gold of v7 is better than base, gold of v6" in scored(("base, gold of v6", "tuned, gold of v7"), (6, 7))
    assert "tuned, gold of v6 is better" in scored(("tuned", "tuned, gold of v6"))  # else both would be called the same


def test_shares_have_score_intervals_and_the_rest_the_bootstraps(comparison: Comparison) -> None:
    change = comparison.difference["exact_match"]
    assert (change["low"], change["high"]) == rate_difference(0, 20, 40)
    both = [artefacts.read_statistics(arm.evaluation.evaluation_id)[1] for arm in comparison.arms]
    drawn = paired(*both, metrics_of(both[0].names))
    assert comparison.difference["micro_f1"] == drawn["micro_f1"]._asdict()
    assert change["p"] == drawn["exact_match"].p
    assert (change["low"], change["high"]) != drawn["exact_match"][1:3]


def test_the_better_arm_is_named_first_whichever_side_it_is_on(comparison: Comparison) -> None:
    turned = compare(["tuned", "base"])
    forth, back = (found.verdict.split(". ")[0] for found in (comparison, turned))
    assert forth == back  # the same finding: better against worse, with a plus
    assert turned.difference["micro_f1"]["value"] == pytest.approx(-comparison.difference["micro_f1"]["value"])
    assert turned.difference["micro_f1"]["value"] < 0
    found = comparison.difference["micro_f1"]
    assert f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]" in forth


def test_transitions_add_up(comparison: Comparison) -> None:
    matrix = comparison.versus[0].matrix
    base = Counter(artefacts.read_pairs("base")["kind"].to_pylist())
    tuned = Counter(artefacts.read_pairs("tuned")["kind"].to_pylist())
    for kind, line in matrix.items():
        if kind != transitions.ABSENT:
            assert sum(line.values()) == base[kind]
            assert sum(other[kind] for other in matrix.values()) == tuned[kind]
    rows = transitions.rows_behind(comparison.versus[0].moves, "boundary", "correct")
    assert rows == ["r-0031", "r-0041", "r-0051", "r-0061"]
    assert transitions.rows_behind(comparison.versus[0].moves, "hallucinated", "absent") == [
        "r-0027",
        "r-0037",
        "r-0047",
        "r-0057",
    ]


def test_frame(comparison: Comparison) -> None:
    frame = comparison.frame.to_pylist()
    results = Counter(row["result_1"] for row in frame)
    assert results == {"won": 20, "tied": 20}
    broken = next(row for row in frame if row["row_id"] == "r-0029")
    assert (broken["prediction_0"], broken["score_0"], broken["score_1"]) == ("{broken", 0, 1)


def test_only_common_rows_and_the_rest_named(comparison: Comparison, make_evaluation: Make, engine: Callable[..., Any]) -> None:
    run_evaluation(make_evaluation("short", limit=10), SilentReporter(), engine())
    found = compare(["short", "base", "tuned"])
    assert found.rows == 10
    assert {key: len(rows) for key, rows in found.left_out.items()} == {"short": 0, "base": 30, "tuned": 30}
    assert len(found.versus) == 2
    assert found.versus[0].difference["micro_f1"]["p_holm"] >= found.versus[0].difference["micro_f1"]["p"]
    assert found.versus[1].difference["micro_f1"]["value"] == 0
    assert [versus.mcnemar for versus in found.versus] == pytest.approx([0.0625, 1])
    assert [versus.mcnemar_holm for versus in found.versus] == pytest.approx([0.125, 1])
    assert found.versus[1].verdict.startswith("No row tells tuned from short: the same score with both on all 10 rows")


def test_arms_counted_differently_are_counted_anew(
    comparison: Comparison, make_evaluation: Make, engine: Callable[..., Any]
) -> None:
    other = run_evaluation(make_evaluation("other", elements=()), SilentReporter(), engine(sloppy))
    assert other.signature["f1"] != comparison.arms[0].evaluation.signature["f1"]
    found = compare(["base", "other"])
    assert found.difference["micro_f1"]["value"] == 0
    assert set(found.versus[0].matrix) > {"correct", "boundary"}


def test_faults(comparison: Comparison, make_evaluation: Make, engine: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="can't be compared"):
        compare(["base"])
    with pytest.raises(UserError, match="given twice"):
        compare(["base", "base"])
    on_train = make_evaluation("train")
    on_train = on_train.model_copy(update={"spec": on_train.spec.model_copy(update={"split": "train"})})
    run_evaluation(on_train, SilentReporter(), engine())
    with pytest.raises(UserError, match="no row in common"):
        compare(["base", "train"])


def test_json_and_report(comparison: Comparison, tmp_path: Path) -> None:
    found = json.loads(json.dumps(comparison.to_json()))
    assert found["rows"] == 40
    assert [arm["evaluation"] for arm in found["arms"]] == ["base", "tuned"]
    assert found["difference"]["micro_f1"]["low"] > 0
    page = render_report(comparison)
    assert "<script" not in page
    assert "src=" not in page
    assert "href=" not in page
    assert comparison.verdict in html.unescape(page)
    assert page.count("{broken") == 4
    assert "<td>micro-F1 ↑</td>" in page
    assert "micro_f1" not in page
    assert all(
        f"<b>{letter}</b> is {arm.evaluation.short_name}" in page for letter, arm in zip("AB", comparison.arms, strict=True)
    )
    write_report(comparison, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text("utf-8") == page


def test_a_report_without_texts_names_rows_and_quotes_none(comparison: Comparison) -> None:
    page = render_report(comparison, texts=False)
    assert "{broken" not in page
    assert "张三" not in page
    assert all(row["row_id"] in page for row in comparison.frame.to_pylist() if row["result_1"] != "tied")
    assert comparison.verdict in html.unescape(page)


def test_elements_that_only_answers_have_are_not_named(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    for name, answer in (("base", '{"王小二": ["x"]}'), ("tuned", "{}")):
        run_evaluation(make_evaluation(name, perplexity=False), SilentReporter(), engine(lambda p, said=answer: said))
    found = compare(["base", "tuned"])
    assert "f1:王小二" in found.difference
    assert set(found.named) == {"人", "地"}
    assert "王小二" not in render_report(found, texts=False)


def test_a_report_cuts_long_texts(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    run_evaluation(make_evaluation("base", perplexity=False), SilentReporter(), engine(lambda p: "{broken " + "x" * 50_000))
    run_evaluation(make_evaluation("tuned", perplexity=False), SilentReporter(), engine())
    page = render_report(compare(["base", "tuned"]))
    assert "x" * 1900 in page
    assert "x" * 2001 not in page
    assert len(page) < 300_000


def test_report_escapes_what_models_say(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    run_evaluation(make_evaluation("base"), SilentReporter(), engine(lambda p: "<script>alert(1)</script>"))
    run_evaluation(make_evaluation("tuned"), SilentReporter(), engine())
    page = render_report(compare(["base", "tuned"]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
