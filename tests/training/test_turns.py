"""A conversation's loss: on every assistant turn, or on its last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from core.data.importing import import_file
from core.models.tokenizer import tokenizer_in
from core.prompts.examples import Example
from core.prompts.templates import find_template
from core.records import DatasetUse, TrainSpec
from core.training.data import examples_of
from tests.tiny import make_tiny_tokenizer

TALK = [
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "FIRST"},
    {"role": "user", "content": "and now?"},
    {"role": "assistant", "content": "LAST"},
]


@pytest.mark.parametrize(("turns", "learnt"), [("all", ["FIRST", "LAST"]), ("last", ["LAST"])])
def test_the_spec_decides_which_turns_are_learnt(tmp_path: Path, turns: Literal["all", "last"], learnt: list[str]) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": TALK}, ensure_ascii=False) + "\n", encoding="utf-8")
    import_file(path, "talk", task="chat", split="train")
    use = DatasetUse(dataset="talk")
    tokenizer = tokenizer_in(make_tiny_tokenizer(tmp_path / "tiny"))
    [example] = examples_of(use, TrainSpec(data=(use,), turns=turns), find_template("chat"), tokenizer)
    assert isinstance(example, Example)
    text = tokenizer.decode([label for label in example.labels if label >= 0])
    assert [word for word in ("FIRST", "LAST") if word in text] == learnt


def test_every_turn_is_learnt_unless_said() -> None:
    assert TrainSpec(data=(DatasetUse(dataset="x"),)).turns == "all"
