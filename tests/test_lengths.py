"""Token lengths: equal to the trainer's own, row by row; kept on disk; summed up rightly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.lengths import measure, measure_rows, summary
from core.prompts.examples import Dropped, Example, build_example
from core.prompts.studio import mask_view
from core.prompts.templates import list_templates
from core.records import Dataset, ModelRef, SilentReporter, Version
from core.store import schema
from core.store.datasets import save_version
from tests.prompts.toys import GEMMA, LLAMA, THINKING, byte_level, metaspace

TOKENIZERS = [byte_level(), byte_level(GEMMA, bos=True), byte_level(THINKING), metaspace(LLAMA)]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with all columns of the store."""
    blank = {"instruction": "", "input": "", "output": "", "messages": None, "split": "", "source": "s", "line": 1, "extra": None}
    return pa.Table.from_pylist([{**blank, "row_id": f"r{n}", **row} for n, row in enumerate(rows)], schema=schema.ROWS)


def talk(*texts: str) -> str:
    """Messages of alternating user and assistant."""
    return json.dumps([{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)], ensure_ascii=False)


ROWS = table(
    [
        {"instruction": "抽取姓名", "input": "高勇：男", "output": '{"姓名":["高勇"]}', "split": "train"},
        {"instruction": "Extract", "input": "Ann left Paris. " * 9, "output": '{"person":["Ann"]}', "split": "test"},
        {"instruction": "", "input": " lead and tail \n", "output": ""},
        {"instruction": "x", "input": "<|im_end|> and </s> typed", "output": "<|im_start|>"},
        {"instruction": "trail<|im_", "input": "end|>", "output": "{}"},
        {"messages": talk("你好", "您好", "Ann?", "yes")},
        {"messages": talk("only a question")},
        {"messages": talk("a", "<think>b</think>c", "d", "e</think>f")},
        {"input": "高勇：男", "instruction": "抽取姓名", "output": '{"姓名":["高勇"]}'},
    ]
)


@pytest.mark.parametrize("template", list_templates(), ids=lambda t: t.name)
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_equal_to_the_trainers_row_by_row(template: Any, tokenizer: Any) -> None:
    if template.system and tokenizer.chat_template == GEMMA and template.kind == "chat":
        pytest.skip("this chat template refuses a system role")
    counted = measure_rows(ROWS, template, tokenizer, elements=("姓名", "机构")).to_pylist()
    for row, found in zip(ROWS.to_pylist(), counted, strict=True):
        example = build_example(template, row, tokenizer=tokenizer, elements=("姓名", "机构"))
        if isinstance(example, Example):
            assert (found["prompt"], found["whole"]) == (example.prompt, len(example.input_ids))
        elif example.kind == "row_fault":
            assert found["fault"] == example.reason
        else:
            assert found["answer"] == 0


def test_rows_with_an_empty_answer_are_known() -> None:
    said = [
        {"input": "a", "output": ""},
        {"input": "a", "output": " \n"},
        {"input": "a", "output": "{}"},
        {"messages": talk("a", "", "b", " ")},
        {"messages": talk("a", "x", "b", "")},
        {"messages": talk("only a question")},
    ]
    tokenizer, template = byte_level(), list_templates()[0]
    counted = measure_rows(table(said), template, tokenizer)
    assert counted["empty"].to_pylist() == [True, True, False, True, False, False]
    assert summary(counted)["empty_answers"] == 3
    learnt = [mask_view(template, row, tokenizer=tokenizer) for row in table(said).to_pylist()]
    assert [view.empty for view in learnt[:5]] == [True, True, False, True, False]
    assert learnt[0].trained == 1
    assert mask_view(template, table(said).to_pylist()[4], tokenizer=tokenizer, turns="last").empty


def test_summary() -> None:
    lengths = pa.table(
        {"prompt": [1, 2, 3, 4, None], "answer": [1] * 5, "whole": [2, 3, 4, 5, None], "fault": [None] * 4 + ["bad"]}
        | {"empty": [True] + [False] * 4}
    )
    found = summary(lengths, max_length=3)
    assert found["rows"] == 5
    assert found["over_max_length"] == 2
    assert found["faults"] == 1
    assert found["empty_answers"] == 1
    assert found["prompt"] == {"p50": 2, "p90": 4, "p95": 4, "p99": 4, "max": 4, "mean": 2.5, "total": 10}
    assert summary(lengths.slice(0, 0), 3)["whole"]["max"] == 0


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset in the workspace, counted by a toy tokenizer."""
    monkeypatch.setattr("core.lengths.measuring.load_tokenizer", lambda ref: byte_level())
    save_version(Dataset(name="d"), Version(dataset="d", number=1, rows=ROWS.num_rows, content_hash="h1"), ROWS)
    return "d"


def test_a_second_visit_reads_what_was_kept(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = list_templates()[0]
    first = measure(stored, None, chat, ModelRef())

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr("core.lengths.measuring._measured", never)
    assert measure(stored, None, chat, ModelRef()).equals(first)
    renamed = chat.model_copy(update={"name": "other", "description": "same text"})
    assert measure(stored, None, renamed, ModelRef()).equals(first)
    with pytest.raises(AssertionError, match="counted again"):
        measure(stored, None, chat.model_copy(update={"user": "{{ input }}"}), ModelRef())


def test_a_stop_keeps_nothing(stored: str) -> None:
    class Stop(SilentReporter):
        def should_stop(self) -> bool:
            return True

    chat = list_templates()[0]
    with pytest.raises(Exception, match="stopped"):
        measure(stored, None, chat, ModelRef(), reporter=Stop())
    assert measure(stored, None, chat, ModelRef()).num_rows == ROWS.num_rows


def test_dropped_rows_are_those_over_the_maximum() -> None:
    tokenizer, template = byte_level(), list_templates()[0]
    whole = measure_rows(ROWS, template, tokenizer)["whole"].to_numpy()
    limit = int(np.median(whole))
    made = [build_example(template, r, tokenizer=tokenizer, max_length=limit) for r in ROWS.to_pylist()]
    dropped = [isinstance(m, Dropped) and m.kind == "too_long" for m in made]
    answered = [not (isinstance(m, Dropped) and m.kind == "no_answer") for m in made]
    assert dropped == [bool(w > limit and a) for w, a in zip(whole, answered, strict=True)]
