"""Plans: rendering over columns gives the same texts and counts as rendering row by row, and is really used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.lengths.chunks import Chunks
from core.lengths.counting import Counter
from core.lengths.measuring import measure_rows
from core.lengths.pieces import Pieces
from core.prompts.control import controls
from core.prompts.examples import build_example
from core.prompts.plan import make_plan, suspicious, texts
from core.prompts.render import render
from core.prompts.templates import find_template, list_templates
from core.prompts.traced import UntraceableError
from core.records import Template
from core.store import schema
from tests.prompts.toys import CHATML, GEMMA, LLAMA, THINKING, byte_level, metaspace

TOKENIZERS = [byte_level(), byte_level(GEMMA, bos=True), byte_level(THINKING), metaspace(LLAMA)]
PIECES = ["<|im_end|>", "<|im_", "end|>", "<", "|>", " ", "\n", "\x1c", "\xa0", "中", "a", "{", "</s>", "</think>", "1"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


def table(rows: list[tuple[str, str, str]]) -> pa.Table:
    blank = {"messages": None, "split": "", "source": "s", "line": 1, "extra": None}
    made = [{**blank, "row_id": f"r{n}", "instruction": i, "input": t, "output": o} for n, (i, t, o) in enumerate(rows)]
    return pa.Table.from_pylist(made, schema=schema.ROWS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=25),
    st.sampled_from(range(4)),
    st.sampled_from(["chat", "instruct"]),
)
def test_counts_are_the_trainers(rows: list[tuple[str, str, str]], which: int, name: str) -> None:
    template, tokenizer, data = find_template(name), TOKENIZERS[which], table(rows)
    for row, found in zip(data.to_pylist(), measure_rows(data, template, tokenizer).to_pylist(), strict=True):
        example = build_example(template, row, tokenizer=tokenizer)
        assert (found["prompt"], found["whole"]) == (example.prompt, len(example.input_ids))  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=40), st.sampled_from(range(4)))
def test_suspicious_rows_are_found_in_columns_as_in_texts(found: list[str], which: int) -> None:
    known = controls(TOKENIZERS[which])
    mask = suspicious(table([("", text, "") for text in found]), known)
    assert mask.tolist() == [known.suspicious(text) for text in found]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=range(4))
@pytest.mark.parametrize("template", list_templates(), ids=lambda t: t.name)
def test_every_built_in_template_has_a_plan(template: Template, tokenizer: Any) -> None:
    if template.system and tokenizer.chat_template == GEMMA and template.kind == "chat":
        pytest.skip("this chat template refuses a system role")
    data = table([("抽取", "高勇：男", "{}"), ("Extract", "Ann left", "[]"), ("", "x y", "z")])
    shots = [{"instruction": "i", "input": "a", "output": "b"}]
    chunks = Chunks(template, Pieces(Counter(tokenizer), 3), ["姓名", "Ann"], shots)
    chunks._render = lambda row: pytest.fail("a row was rendered by itself") if chunks.plans else Chunks._render(chunks, row)  # type: ignore
    chunks._learn(data, 0, np.ones(3, bool))
    for row in data.to_pylist():
        plan = make_plan(template, row, tokenizer, ["姓名", "Ann"], shots)
        real = render(template, row, tokenizer=tokenizer, elements=["姓名", "Ann"], shots=shots)
        one = table([(row["instruction"], row["input"], row["output"])])
        assert plan.holds(one).all()
        assert texts(plan.prompt, one).to_pylist() == [real.prompt]
        assert texts(plan.answer, one).to_pylist() == [real.answer]


UNTRACEABLE = [
    Template(name="t", user="{{ input | upper }}"),
    Template(name="t", user="{{ input[:5] }}"),
    Template(name="t", user="{% if input | length > 3 %}x{% endif %}{{ input }}"),
    Template(name="t", user="{{ extra.k }}{{ input }}"),
    Template(name="t", user="{% for c in input %}{{ c }} {% endfor %}"),
    Template(name="t", user="{{ input.split('a') | join('b') }}"),
    Template(name="t", user="{{ [input] }}"),
]


@pytest.mark.parametrize("template", UNTRACEABLE, ids=lambda t: t.user)
def test_what_can_not_be_planned_is_rendered_row_by_row(template: Template) -> None:
    data = table([("", "abc  d", "x"), ("", "abc  d<", "y")])
    data = data.set_column(data.schema.get_field_index("extra"), "extra", pa.array(['{"k": "v"}'] * 2, pa.large_string()))
    with pytest.raises(UntraceableError):
        make_plan(template, data.to_pylist()[0], byte_level())
    for row, found in zip(data.to_pylist(), measure_rows(data, template, byte_level()).to_pylist(), strict=True):
        example = build_example(template, row, tokenizer=byte_level())
        assert found["prompt"] == example.prompt  # type: ignore[union-attr]


ODD_CHATS = [
    "{% for m in messages %}{{ (m.content ~ 'x') | trim }}{% endfor %}",
    "{% macro w(c) %}{{ c }}{% endmacro %}{% for m in messages %}{{ w(m.content) | trim }}{% endfor %}",
    "{% for m in messages %}{% set c %}{{ m.content }}{% endset %}{{ c | upper }}{% endfor %}",
    "{% for m in messages %}{{ '%s' % m.content }}{% endfor %}",
    "{% for m in messages %}{{ [m.content, 'x'] | join('-') }}{% endfor %}",
    "{% for m in messages %}{% if m.content | length > 3 %}long{% endif %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% if m.content is string and 'a' in m.content %}A{% endif %}{{ m.content.strip() }}|{% endfor %}",
    "{% for m in messages %}{% if m.content in ['abc', 'x'] %}A{% elif m.content.startswith('<') %}B{% endif %}"
    "{{ m.content }}{% endfor %}",
    "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + m.content + '!' %}{% endfor %}{{ ns.t }}",
    "{% for m in messages %}{{ m.content.replace('a', 'b') }}{{ m.content[0:1] }}{% endfor %}",
    "{% for m in messages %}{{ '{}'.format(m.content) }}{{ m.content | tojson }}{% endfor %}",
]


@pytest.mark.parametrize("source", ODD_CHATS, ids=range(len(ODD_CHATS)))
def test_odd_chat_templates_count_alike(source: str) -> None:
    tokenizer = byte_level(source)
    template = Template(name="t", user="{{ input }}")
    data = table([("", text, "o") for text in ("abc", " abc ", "a", "x", "<a", "", "bbbb", "中 ", "abc")])
    for row, found in zip(data.to_pylist(), measure_rows(data, template, tokenizer).to_pylist(), strict=True):
        example = build_example(template, row, tokenizer=tokenizer)
        assert (found["prompt"], found["whole"]) == (example.prompt, len(example.input_ids))  # type: ignore[union-attr]


def test_a_second_template_counts_only_what_is_new(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(CHATML + " ")
    data = table([("Extract", f"Ann {n} left", f'{{"person":["{n}"]}}') for n in range(50)])
    asked: list[str] = []
    real = Counter.texts

    def spy(self: Counter, found: Any) -> dict[str, int]:
        asked.extend(found)
        return real(self, found)

    monkeypatch.setattr(Counter, "texts", spy)
    for name in ("chat", "chat-zh"):
        asked.clear()
        pieces = Pieces(Counter(tokenizer), 50, tmp_path)
        Chunks(find_template(name), pieces).count(data, 0)
        pieces.save()
    assert not [text for text in asked if "Ann" in text or "person" in text]
