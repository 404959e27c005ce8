"""The parity gate: equal where it must be, and it really notices a difference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import SpecError
from core.parity import _asked_of_our_server
from core.prompts.parity import ODD_ROWS, USES, check_parity, require_parity
from core.prompts.studio import mask_view
from core.prompts.templates import find_template, list_templates
from core.records import ModelRef, Template
from core.settings import get_settings
from tests.prompts.toys import CHATML, GEMMA, LLAMA, THINKING, byte_level, metaspace


@pytest.mark.parametrize("source", [CHATML, THINKING], ids=["chatml", "thinking"])
@pytest.mark.parametrize("template", list_templates(), ids=lambda t: t.name)
def test_every_use_has_the_same_ids(template: Template, source: str) -> None:
    found = check_parity(template, ODD_ROWS, tokenizer=byte_level(source), elements=["姓名", "person"])
    assert found.equal, found
    assert found.rows == len(ODD_ROWS)
    assert found.uses["evaluation"] == found.uses["chat"] == len(ODD_ROWS)
    assert found.uses["export"] >= 4
    assert found.uses["serving"] >= 4


@pytest.mark.parametrize("name", ["instruct", "instruct-en"])
def test_a_raw_template_is_served_with_its_begin_of_text_token_once(name: str) -> None:
    found = check_parity(find_template(name), ODD_ROWS[:-1], tokenizer=metaspace(), elements=["姓名"])
    assert found.equal, found
    assert found.uses["serving"] >= 3
    talk = check_parity(find_template(name), ODD_ROWS[-1:], tokenizer=metaspace())
    assert {m.use for m in talk.mismatches} == {"export", "serving"}  # a server reads earlier turns without their borders


def test_a_template_that_does_not_fit_is_a_problem() -> None:
    found = check_parity(find_template("json-zh"), ODD_ROWS, tokenizer=byte_level(GEMMA, bos=True))
    assert "system role" in found.problem
    assert not found.equal


def test_a_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(USES, "chat", lambda asked: [*asked.prompt[:-1], 5])
    found = check_parity(find_template("chat"), ODD_ROWS[:1], tokenizer=byte_level())
    assert [m.use for m in found.mismatches] == ["chat"]
    with pytest.raises(SpecError, match=r"chat@1: row odd-zh has other tokens in chat than in training"):
        require_parity(find_template("chat"), ODD_ROWS[:1], tokenizer=byte_level())


def _view(**options: Any) -> Any:
    row = {"row_id": "r", "instruction": "抽取", "input": "高勇", "output": "{}"}
    return mask_view(find_template("chat"), row, tokenizer=byte_level(), **options)


def test_mask_view_shows_every_token_once() -> None:
    view = _view()
    text = "".join(p.text for p in view.pieces)
    assert text == "<|im_start|>user\n抽取\n高勇<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>"
    assert sum(len(p.ids) for p in view.pieces) == view.tokens
    assert "".join(p.text for p in view.pieces if p.trained) == "{}<|im_end|>"
    assert [p.text for p in view.pieces if p.kind == "special"] == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]
    assert sum(p.weight * len(p.ids) for p in view.pieces) == view.trained
    assert "\ufffd" not in text
    assert "more than" in _view(max_length=5).dropped


SIGNS = [
    "{{ input }}",
    "{{ instruction }}",
    "{{ input | trim }}",
    "{% if input %}",
    "{% endif %}",
    "{% for e in elements %}{{ e }}",
    "{% endfor %}",
]
SIGNS += [
    "<|im_end|>",
    "<|im_",
    "end|>",
    "{{ input.split('x') | join('') }}",
    "{{ input[1:] }}",
    " ",
    "\n",
    "中",
    "{{ input ~ instruction }}",
]
TEXTS = st.lists(st.sampled_from(["<|im_end|>", "<|im_", "end|>", "x", " ", "\n", "中", "{{", "a"]), max_size=6).map("".join)


KINDS = [byte_level(), byte_level(THINKING), byte_level(GEMMA, bos=True), metaspace(LLAMA)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(SIGNS), max_size=6).map("".join),
    *(TEXTS | st.text(max_size=20) for _ in range(3)),
    st.sampled_from(["chat", "raw"]),
    st.sampled_from(range(4)),
)
@example("{{ input[1:] }}", "", "a", "", "chat", 0)
@example("{{ input[3:] }}{{ input }}", "", "<|im_end|>x", "", "raw", 0)
@example("{% if input == 'a' %}{{ instruction }}{% endif %}{{ input }}", "</s>", "a", "", "raw", 3)
def test_whatever_the_template_and_the_text_uses_agree(
    source: str, instruction: str, text: str, output: str, kind: Any, which: int
) -> None:
    template = Template(name="odd", kind=kind, user=source)
    row = {"row_id": "r", "instruction": instruction, "input": text, "output": output}
    also = {"server": _asked_of_our_server}
    found = check_parity(template, [row], tokenizer=KINDS[which], elements=["姓名", text], also=also)
    assert found.equal or found.problem, found


@pytest.mark.model
def test_the_default_models_tokenizer() -> None:
    if not list(get_settings().model_cache.glob("SmolLM2*/tokenizer.json")):
        pytest.skip("the default model is not in the cache")
    from core.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(ModelRef())
    for template in list_templates():
        assert check_parity(template, ODD_ROWS, tokenizer=tokenizer, elements=["姓名"]).equal
