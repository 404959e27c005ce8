"""Saved predictions under other gold answers, predictions from elsewhere, leaks, and gold answers that look wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.cli.evaluation_text import score_lines
from core.data.leaks import LeakReport, leak_report
from core.errors import InputFileError
from core.evaluation import artefacts
from core.evaluation.adjudication import LEAST_ROWS, SUSPECTS, _unlikely, suspects
from core.evaluation.compare import compare
from core.evaluation.rescore import import_predictions, leaked_to_any, rescore, without_leaks
from core.evaluation.runner import run_evaluation
from core.records import Dataset, Evaluation, SilentReporter, Version
from core.store import schema
from core.store.datasets import read_rows, save_version
from core.store.runs import get_evaluation

Make = Callable[..., Evaluation]


def new_version(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Version 2 of ``toy``."""
    rows = change(read_rows("toy", 1).to_pylist())
    table = pa.Table.from_pylist(rows, schema=schema.ROWS)
    save_version(Dataset(name="toy", elements=("人", "地")), Version(dataset="toy", number=2, rows=len(rows)), table)


def test_rescore_after_a_fix(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    run_evaluation(make_evaluation("before", limit=10), SilentReporter(), engine(lambda p: '{"人": ["王五"]}'))

    def fix(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[24]["output"] = '{"人": ["王五"]}'
        rows[25]["input"] += "。"
        return rows[:33]

    new_version(fix)
    after = rescore("before")
    assert after.complete
    assert after.version == 2
    assert after.rows == 8
    assert after.scores["exact_match"] == pytest.approx(1 / 8)
    assert after.scores["left_out"] == {"r-0025": "its question changed in version 2", "r-0033": "not in version 2"}
    assert get_evaluation("before").scores["exact_match"] == 0
    assert artefacts.read_predictions(after.evaluation_id)["nll"].null_count == 1
    assert compare(["before", after.evaluation_id]).rows == 7  # the row with another gold answer isn't the same row


def test_predictions_from_elsewhere(dataset: str, tmp_path: Path) -> None:
    rows = read_rows("toy", 1, split="test").to_pylist()
    lines = [{"row_id": row["row_id"], "prediction": row["output"]} for row in rows[:20]]
    lines += [{"input": row["input"], "prediction": json.loads(row["output"])} for row in rows[20:38]]
    path = tmp_path / "theirs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    done = import_predictions(path, "toy", model="big-model")
    assert (done.rows, done.scores["exact_match"], done.name) == (38, 1, "theirs")
    assert set(done.scores["left_out"].values()) == {"no prediction"}
    assert "tokens_per_request" not in done.scores
    assert done.spec.arm.model.label == "big-model"
    assert score_lines(done.scores)[:2] == ["38 rows", "2 more have no score: no prediction (2)"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prediction": "x"}, "line 1: no 'row_id'"),
        ({"row_id": "r-9999", "prediction": "x"}, "line 1: no row of the split has this row_id"),
        ({"input": "nobody", "prediction": "x"}, "line 1: no row of the split has this input"),
    ],
)
def test_predictions_that_fit_no_row(dataset: str, tmp_path: Path, line: dict[str, Any], message: str) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text(json.dumps(line), "utf-8")
    with pytest.raises(InputFileError, match=message):
        import_predictions(path, "toy")


def test_rows_that_are_named_are_not_taken_by_their_input(dataset: str, tmp_path: Path) -> None:
    def double(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "input": "甲" if row["split"] == "test" else row["input"]} for row in rows]

    new_version(double)
    rows = read_rows("toy", 2, split="test").to_pylist()
    path = tmp_path / "theirs.jsonl"
    lines = [{"input": "甲", "prediction": "other"} for _ in rows[1:]]
    lines.insert(3, {"row_id": rows[0]["row_id"], "prediction": "named \ud83d"})
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    done = import_predictions(path, "toy")
    said = artefacts.read_predictions(done.evaluation_id)["prediction"].to_pylist()
    assert said == ["named \ufffd"] + ["other"] * (len(rows) - 1)
    path.write_text("\n".join(json.dumps(line) for line in [*lines, lines[0]]), "utf-8")
    with pytest.raises(InputFileError, match=f"line {len(lines) + 1}: all rows .* with this input have a prediction already"):
        import_predictions(path, "toy")


def test_without_leaks(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    def leak(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for n in range(24, 34):
            rows[n - 24] = {**rows[n], "row_id": f"r-{n - 24:04d}", "split": "train"}
        return rows

    new_version(leak)
    evaluation = make_evaluation("e", version=2)
    from tests.evaluation.toy import right_answer

    leaked = {f"张三{n} " for n in range(24, 34)}
    remembered = engine(lambda p: right_answer(p) if any(name in p for name in leaked) else "{}")
    run_evaluation(evaluation, SilentReporter(), remembered)
    found = without_leaks("e", near=None)
    assert found["leaked"] == [f"r-{n:04d}" for n in range(24, 34)]
    assert found["all"]["scores"]["exact_match"] == pytest.approx(0.25)
    assert found["without"]["scores"]["exact_match"] == 0
    assert found["without"]["intervals"]["exact_match"][0] == 0
    run_evaluation(make_evaluation("other", version=2), SilentReporter(), engine())
    assert leaked_to_any(["e", "other"], near=None) == found["leaked"]
    clean = compare(["e", "other"], without=found["leaked"])
    assert (clean.rows, clean.difference["exact_match"]["value"]) == (30, 1)


def test_a_question_in_the_other_script_is_leaked(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    def leak(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0] = {**rows[0], "input": "陈晓明现任国内贸易部金属材料流通司副司长"}
        rows[30] = {**rows[30], "input": "陳曉明現任國內貿易部金屬材料流通司副司長"}
        return rows

    new_version(leak)
    run_evaluation(make_evaluation("e", version=2), SilentReporter(), engine())
    leaked = without_leaks("e", near=1)["leaked"]
    assert leaked == ["r-0030"]
    assert leak_report(read_rows("toy", 2), 1) == LeakReport(exact=0, near=len(leaked))  # as the page of the data counts


def test_gold_that_both_arms_contradict_is_suspect(make_evaluation: Make, engine: Callable[..., Any]) -> None:
    def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[30]["output"] = '{"人": ["张三30"], "地": ["Bergen"]}'
        rows[31]["output"] = '{"人": ["张三31"]}'
        return rows

    new_version(spoil)
    for name in ("a", "b"):
        run_evaluation(make_evaluation(name, version=2), SilentReporter(), engine())
    found = suspects(["a", "b"])
    assert found.schema.equals(SUSPECTS)
    by_row = {row["row_id"]: row for row in found.to_pylist()}
    assert set(by_row) == {"r-0030", "r-0031"}
    assert json.loads(by_row["r-0030"]["gold"]) == ["Bergen"]
    assert json.loads(by_row["r-0030"]["suggested"]) == {"人": ["张三30"], "地": ["Oslo2"]}
    assert json.loads(by_row["r-0031"]["suggested"])["地"] == ["Oslo3"]
    run_evaluation(make_evaluation("c", version=2), SilentReporter(), engine(lambda p: '{"地": ["Atlantis"]}'))
    assert suspects(["c", "a"]).num_rows == 0  # they don't agree


def test_unlikely_gold_is_suspect(make_evaluation: Make, engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answering = engine()
    scores = [(1.0 + 0.1 * (i % 5), 10) for i in range(39)] + [(40.0, 10)]

    def score(prompts: Any, answers: Any, adapter: Any = None, *, should_stop: Any = None, on_row: Any = None) -> list[Any]:
        for place, value in enumerate(scores):
            on_row(place, value)
        return scores

    monkeypatch.setattr(answering, "score", score)
    run_evaluation(make_evaluation("a"), SilentReporter(), answering)
    (row,) = suspects(["a"]).to_pylist()
    assert (row["row_id"], row["sign"], row["nll_per_token"]) == ("r-0063", "unlikely_gold", 4.0)


def test_commands(make_evaluation: Make, engine: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from core.__main__ import main

    run_evaluation(make_evaluation("base"), SilentReporter(), engine(lambda p: "{}"))
    run_evaluation(make_evaluation("tuned"), SilentReporter(), engine())

    def run(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    compared = run("compare", "base", "tuned", "--report", str(tmp_path / "r.html"))
    assert compared["difference"]["micro_f1"]["value"] == 1
    assert (tmp_path / "r.html").stat().st_size > 1000
    assert run("rescore", "tuned")["scores"]["exact_match"] == 1
    assert run("slices", "base")["metric"] == "micro_f1"
    assert run("suspects", "base", "tuned")["suspects"] == []
    assert run("leaks", "base")["leaked"] == []
    assert run("compare", "base", "tuned", "--no-leaked")["leaked"] == []
    assert len(run("nearest", "base", "r-0024", "--limit", "2")["nearest"]) == 2
    assert {e["evaluation"] for e in run("evaluations", "toy")["evaluations"]} >= {"base", "tuned"}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"row_id": "r-0024", "prediction": "{}"}), "utf-8")
    found = run("evaluate", "toy", "--predictions", str(path), "--label", "theirs")
    assert (found["rows"], found["state"]) == (1, "finished")
    assert main(["learning-curve", "base", "tuned"]) == 2
    assert "has no training run" in capsys.readouterr().err
    for arguments in (["compare", "base", "tuned"], ["slices", "base"], ["leaks", "base"], ["nearest", "base", "r-0024"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("others", "last", "found"),
    [
        (LEAST_ROWS - 1, 4.0, 1),
        (LEAST_ROWS - 2, 4.0, 0),  # one row too few
        (39, 0.44, 0),  # far from the others, and yet the model would have written it: a perplexity of 1.55
        (39, 0.72, 1),
    ],
)
def test_gold_is_unlikely_only_among_enough_rows_and_from_a_perplexity_on(others: int, last: float, found: int) -> None:
    nll = [0.10 + 0.01 * (i % 5) for i in range(others)] + [last]
    size = len(nll)
    rows = {name: [f"{name} {i}" for i in range(size)] for name in ("row_id", "input", "output")}
    table = pa.table({**rows, "nll": [10 * value for value in nll], "nll_tokens": [10] * size})
    assert len(_unlikely([table])) == found
