"""The ``evaluate.Metric`` wrappers give the numbers of ``score``, without a network."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import NotFoundError
from core.evaluation.hf_metrics import load_metric
from core.evaluation.scoring import score_frame

GOLD = ['{"人": ["张三"]}', '{"地": ["Oslo"]}']
SAID = ['{"人": ["张三"]}', '{"地": ["Bergen"]}']


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a metric reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_same_numbers_as_score(tmp_path: Path) -> None:
    import evaluate

    expected = score_frame({"output": GOLD, "prediction": SAID}, with_intervals=False).scores
    metric = load_metric("extraction", cache=tmp_path)
    assert isinstance(metric, evaluate.Metric)
    assert metric.compute(predictions=SAID, references=GOLD) == expected
    for said, gold in zip(SAID, GOLD, strict=True):
        metric.add(predictions=said, references=gold)
    assert metric.compute() == expected
    with_inputs = metric.compute(predictions=SAID, references=GOLD, inputs=["张三", "Oslo"], elements=["人", "地"])
    assert with_inputs["errors"]["hallucinated"] == 1
    for name in ("bleu", "chrf"):
        assert load_metric(name, cache=tmp_path).compute(predictions=SAID, references=GOLD)[name] == pytest.approx(expected[name])
    texts = score_frame(
        {"output": ["张三在奥斯陆", "a b"], "prediction": ["李四在奥斯陆", "a"]}, "generation", with_intervals=False
    ).scores
    rouge = load_metric("rouge_l", cache=tmp_path).compute(predictions=["李四在奥斯陆", "a"], references=["张三在奥斯陆", "a b"])
    assert rouge["rouge_l"] == pytest.approx(texts["rouge_l"]) == pytest.approx(2 / 3)
    labels = load_metric("classification", cache=tmp_path).compute(predictions=["a", "b"], references=["a", "a"])
    assert labels["accuracy"] == 0.5


def test_perplexity_is_token_weighted(tmp_path: Path) -> None:
    found = load_metric("perplexity", cache=tmp_path).compute(nll=[2.0, 9.0], tokens=[1, 10])
    assert found == {"perplexity": pytest.approx(math.exp(1)), "tokens": 11}


def test_unknown_name() -> None:
    with pytest.raises(NotFoundError, match="no metric 'rouge9'"):
        load_metric("rouge9")


def test_importing_the_wrappers_imports_neither_evaluate_nor_torch() -> None:
    code = (
        "import sys, json, core.evaluation.hf_metrics, core.evaluation.compare, core.evaluation.runner, core.evaluation.report;"
    )
    code += "print(json.dumps([m for m in ('torch', 'evaluate', 'transformers', 'datasets', 'scipy') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout) == []
