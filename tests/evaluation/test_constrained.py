"""Constrained decoding: whatever a random model says, the answer is a JSON object of the elements."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from core.data.answers import parse_answer
from core.errors import SpecError
from core.evaluation.constrained import answer_pattern
from core.evaluation.runner import run_evaluation
from core.records import Evaluation, GenerationSettings, ModelRef, SilentReporter

pytest.importorskip("outlines_core")


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ("{}", True),
        ('{"人": ["张三", "李\\"四"], "地": "Oslo"}', True),
        ('{"地":[],"人":["\\u4e00"]}', True),
        ('{"时间": []}', False),
        ('{"人": [1]}', False),
        ('{"人": ["张三"]', False),
        ('{"人": ["张三"],}', False),
        ("Sure: {}", False),
        ('{"人": ["a\nb"]}', False),
    ],
)
def test_the_pattern_is_the_form_of_answers(make_evaluation: Callable[..., Evaluation], answer: str, fits: bool) -> None:
    assert bool(re.fullmatch(answer_pattern(make_evaluation()), answer)) == fits
    if fits:
        json.loads(answer)


def test_other_tasks_are_refused(make_evaluation: Callable[..., Evaluation]) -> None:
    for changes in ({"task": "generation"}, {"elements": ()}):
        with pytest.raises(SpecError, match="constrained"):
            answer_pattern(make_evaluation(**changes))


def test_a_random_model_answers_in_form(
    make_evaluation: Callable[..., Evaluation], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from core.models.engine import Engine
    from core.models.load import load_model
    from tests.tiny import make_tiny_model

    model = ModelRef(source="path", name=str(make_tiny_model(tmp_path_factory.mktemp("model"))), dtype="float32")
    evaluation = make_evaluation(limit=12, perplexity=False)
    hot = GenerationSettings(max_new_tokens=200, temperature=1.5)
    arm = evaluation.spec.arm.model_copy(update={"model": model, "constrained": True, "generation": hot})
    evaluation = evaluation.model_copy(update={"spec": evaluation.spec.model_copy(update={"arm": arm})})
    with Engine(load_model(model, device="cpu")) as engine:
        done = run_evaluation(evaluation, SilentReporter(), engine)
        pattern = answer_pattern(evaluation)
        prompts = [[5, 6, 7], [8, 9], [10] * 9, [11, 12]]
        greedy = GenerationSettings(max_new_tokens=60)
        together = engine.generate(prompts, greedy, pattern=pattern)
        alone = [engine.generate([ids], greedy, pattern=pattern)[0] for ids in prompts]
        free = engine.generate(prompts, greedy)
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.text for a in free] != [a.text for a in together]
    from core.evaluation.artefacts import read_predictions

    ended = 0
    for line in read_predictions("e-1").to_pylist():
        assert line["raw"].startswith("{")
        if line["finish"] == "stop":
            ended += 1
            assert re.fullmatch(pattern, line["raw"])
            assert parse_answer(line["raw"]).ok
    assert ended > 0
    assert done.signature["decoding"].startswith("constrained")


@pytest.mark.model
def test_the_default_tokenizer_can_say_every_answer() -> None:
    from core.models.constrain import Constraint
    from core.models.default import is_converted
    from core.models.tokenizer import load_tokenizer

    if not is_converted():
        pytest.skip("the default model isn't in the cache")
    tokenizer = load_tokenizer(ModelRef())
    constraint: Any = Constraint(r'\{"人": ?\["[^"\\]*"\]\}', tokenizer, [tokenizer.eos_token_id])
    for text in ('{"人": ["张三丰𠮷"]}', '{"人":["Ærø é"]}'):
        follow = constraint.start()
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            import torch

            assert follow.allowed(len(tokenizer), torch.device("cpu"))[token]
            follow.advance(token)
        allowed = follow.allowed(len(tokenizer), torch.device("cpu"))
        assert allowed.nonzero().flatten().tolist() == [tokenizer.eos_token_id]
