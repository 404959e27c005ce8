"""Rendering: golden texts in Chinese and English, turns, worked examples, refusals."""

from __future__ import annotations

import json

import pytest

from core.errors import SpecError
from core.prompts.examples import Dropped, Example, build_example
from core.prompts.render import RowError, render
from core.prompts.templates import find_template
from core.records import Template
from tests.prompts.toys import CHATML, GEMMA, LLAMA, THINKING, byte_level, metaspace

ZH = {"row_id": "z1", "instruction": "抽取姓名", "input": "高勇：男", "output": '{"姓名":["高勇"]}'}
EN = {"row_id": "e1", "instruction": "Extract persons", "input": "Ann left.", "output": '{"person":["Ann"]}'}
TALK = {
    "row_id": "m1",
    "messages": json.dumps(
        [
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "您好"},
            {"role": "user", "content": "Ann?"},
            {"role": "assistant", "content": "yes"},
        ],
        ensure_ascii=False,
    ),
}

GOLDEN = [
    ("chat", ZH, "<|im_start|>user\n抽取姓名\n高勇：男<|im_end|>\n<|im_start|>assistant\n", '{"姓名":["高勇"]}<|im_end|>'),
    (
        "chat",
        EN,
        "<|im_start|>user\nExtract persons\nAnn left.<|im_end|>\n<|im_start|>assistant\n",
        '{"person":["Ann"]}<|im_end|>',
    ),
    (
        "instruct",
        ZH,
        "你是一个要素抽取机器人，根据指令从输入中抽取要素。\n<|instruction|>:抽取姓名<eoh>\n<|input|>:高勇：男<eoh>\n<|output|>:",
        '{"姓名":["高勇"]}<eoa><|im_end|>',
    ),
    (
        "instruct",
        EN,
        "你是一个要素抽取机器人，根据指令从输入中抽取要素。\n"
        "<|instruction|>:Extract persons<eoh>\n<|input|>:Ann left.<eoh>\n<|output|>:",
        '{"person":["Ann"]}<eoa><|im_end|>',
    ),
    (
        "chat",
        TALK,
        "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n您好<|im_end|>\n<|im_start|>user\nAnn?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "yes<|im_end|>",
    ),
]


@pytest.mark.parametrize(("name", "row", "prompt", "answer"), GOLDEN)
def test_golden(name: str, row: dict[str, str], prompt: str, answer: str) -> None:
    made = render(find_template(name), row, tokenizer=byte_level())
    assert (made.prompt, made.answer) == (prompt, answer)


def test_stop_strings() -> None:
    assert render(find_template("chat"), ZH, tokenizer=byte_level()).stop == ("<|im_end|>",)
    assert render(find_template("instruct"), ZH, tokenizer=byte_level()).stop == ("<eoa>",)


def test_worked_examples_are_turns_for_chat_and_text_for_raw() -> None:
    shots = [{"instruction": "I", "input": "a", "output": "b"}]
    chat = render(find_template("chat"), ZH, tokenizer=byte_level(), shots=shots).prompt
    assert chat.startswith("<|im_start|>user\nI\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\n抽取姓名")
    raw = render(find_template("instruct"), ZH, tokenizer=byte_level(), shots=shots).prompt
    assert "\n<|instruction|>:I<eoh>\n<|input|>:a<eoh>\n<|output|>:b<eoa>\n<|instruction|>:抽取姓名<eoh>" in raw


def test_a_template_may_place_worked_examples_itself() -> None:
    own = Template(name="own", user="{% for s in shots %}{{ s.input }}={{ s.output }};{% endfor %}{{ input }}=")
    made = render(own, EN, tokenizer=byte_level(), shots=[{"input": "a", "output": "b"}])
    assert made.prompt == "<|im_start|>user\na=b;Ann left.=<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("name", ["chat", "instruct"])
def test_chat_history_reads_like_a_conversation_row(name: str) -> None:
    turns = json.loads(TALK["messages"])
    asked = render(find_template(name), {"input": "Ann?"}, tokenizer=byte_level(), history=turns[:2])
    row = render(find_template(name), TALK, tokenizer=byte_level())
    assert asked.prompt == row.prompt
    assert asked.answer == ""


def test_system_of_the_conversation_comes_before_the_templates() -> None:
    template = Template(name="t", system="SYS")
    made = render(template, {"input": "q"}, tokenizer=byte_level(), history=[{"role": "system", "content": "mine"}])
    assert made.prompt.startswith("<|im_start|>system\nmine<|im_end|>")
    assert render(template, EN, tokenizer=byte_level()).prompt.startswith("<|im_start|>system\nSYS<|im_end|>")


def test_a_tokenizer_without_chat_template_is_named() -> None:
    with pytest.raises(SpecError, match="no chat template") as caught:
        render(find_template("chat"), ZH, tokenizer=byte_level(None))
    assert "instruct" in caught.value.hint


def test_a_refused_system_role_is_named() -> None:
    with pytest.raises(SpecError, match="refuses a system role"):
        render(Template(name="t", system="S"), ZH, tokenizer=byte_level(GEMMA, bos=True))


def test_turns_that_the_chat_template_refuses_drop_the_row_alone() -> None:
    row = {"row_id": "r7", "messages": [{"role": "user", "content": "a"}] * 2 + [{"role": "assistant", "content": "b"}]}
    dropped = build_example(find_template("chat"), row, tokenizer=byte_level(GEMMA, bos=True))
    assert isinstance(dropped, Dropped)
    assert (dropped.row_id, dropped.kind) == ("r7", "row_fault")
    assert "alternate" in dropped.reason


def test_thinking_is_a_setting_of_the_template() -> None:
    off = Template(name="t", user="{{ input }}", enable_thinking=False)
    assert render(off, EN, tokenizer=byte_level(THINKING)).prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    on = off.model_copy(update={"enable_thinking": True})
    assert render(on, EN, tokenizer=byte_level(THINKING)).prompt.endswith("<|im_start|>assistant\n")


def test_rewritten_earlier_turns_are_not_trained_and_it_is_said() -> None:
    talk = {"messages": [dict(m) for m in json.loads(TALK["messages"])]}
    talk["messages"][1]["content"] = "<think>hm</think>您好"
    example = build_example(find_template("chat"), talk, tokenizer=byte_level(THINKING))
    assert isinstance(example, Example)
    assert "only the last" in example.note
    assert byte_level(THINKING).decode([i for i in example.labels if i >= 0]) == "yes<|im_end|>"


def test_begin_and_end_of_text_where_the_tokenizer_wants_them() -> None:
    made = render(find_template("instruct"), EN, tokenizer=metaspace())
    assert made.prompt.startswith("<s>你是")
    assert made.answer.endswith("<eoa></s>")
    chat = render(find_template("chat"), EN, tokenizer=metaspace(LLAMA))
    assert chat.prompt == "<s>[INST] Extract persons\nAnn left. [/INST]"
    assert chat.answer == ' {"person":["Ann"]} </s>'


def test_missing_variable_names_template_part_and_row() -> None:
    with pytest.raises(SpecError, match=r"Template t@1, user, row z1: .*nothing"):
        render(Template(name="t", user="{{ extra.nothing }}{{ input }}"), ZH, tokenizer=byte_level(CHATML))


def test_a_template_that_cuts_the_input_cuts_the_text_itself() -> None:
    cut = Template(name="t", user="{{ input[1:] }}")
    for text in ("a", "<b", "<|im_end|>x"):  # texts that hold (pieces of) control tokens, where marks are put
        assert f"user\n{text[1:]}<|im_end|>" in render(cut, {"input": text}, tokenizer=byte_level()).prompt
    whole = render(Template(name="t", user="{{ input }}"), {"input": "<|im_end|>x"}, tokenizer=byte_level())
    assert whole.segments[0].literal
    far = Template(name="t", user="{{ input[3:] }}")
    with pytest.raises(RowError, match="cuts or compares"):
        render(far, {"row_id": "r", "input": "<|im_end|>x<|im_end|>"}, tokenizer=byte_level())
