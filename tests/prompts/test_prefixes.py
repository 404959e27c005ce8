"""Long conversations: one run of a chat template says what many runs would, or says nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import SpecError
from core.prompts import chat, compose
from core.prompts.bounded import FAULTS, render_chat, render_prefixes
from core.prompts.budget import TooMuchError
from core.prompts.compose import Composed, Means
from core.prompts.rowdata import RowData
from core.prompts.templates import find_template
from tests.prompts.test_bounded import FAMILIES, HARMLESS
from tests.prompts.toys import CHATML, GEMMA, LLAMA, QWEN3, THINKING, ZEPHYR, byte_level

QWEN = (
    "{%- if tools %}T{%- else %}{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + "
    "'<|im_end|>\n' }}{%- else %}{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}{%- endif %}"
    "{%- for message in messages %}"
    '{%- if (message.role == "user") or (message.role == "system" and not loop.first) or '
    '(message.role == "assistant" and not message.tool_calls) %}'
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    '{%- elif message.role == "tool" %}{%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}'
    "{{- '<|im_start|>user' }}{%- endif %}{{- '\n<tool_response>\n' }}{{- message.content }}{{- '\n</tool_response>' }}"
    "{%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}{{- '<|im_end|>\n' }}{%- endif %}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
RESTED = (
    "{% set rest = messages %}{% if messages[0].role == 'system' %}{% set first = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{{ bos_token }}{{ first }}"
    "{% for m in rest %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROVEN = {"chatml": CHATML, "thinking": THINKING, "gemma": GEMMA, "llama": LLAMA, "qwen": QWEN, "rested": RESTED}
COUNTING = (
    "{% set ns = namespace(n=0, last=messages | length - 1, name='x') %}{% macro f(m) %}[{{ m.role }}{{ ns.n }}]{% endmacro %}"
    "{% for m in messages %}{% if ns.last > loop.index0 %}{% set ns.n = ns.n + m.content | length %}{% endif %}{{ f(m) }}"
    "{{ m.content }}{% if not loop.last and messages[loop.index].role == 'user' %};{% endif %}{% endfor %}{{ ns.n }}{{ ns.last }}"
)
RESUMED = {
    "qwen3": QWEN3,
    "zephyr": ZEPHYR,
    "counting": COUNTING,
    "last": "{% for m in messages %}{{ m.content }}{% if loop.last %}!{% endif %}{% endfor %}",
    "behind": "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[0].role }}",
    "counted": "{% set x = namespace(n=0) %}{% for m in messages %}{% set x.n = x.n + 1 %}{{ m.content }}{% endfor %}{{ x.n }}",
    "macro": "{% macro f() %}{{ messages | length }}{% endmacro %}{% for m in messages %}{{ m.content }}{% endfor %}{{ f() }}",
}
"""Templates that look ahead, of which one run after the other enters the loop at its last turn."""
LOOKING_AHEAD = [
    "{% set all = messages[0:] if messages | length > 8 else messages | list %}{% for m in all %}{{ m.role }}{{ loop.last }}"
    "{% endfor %}",
    "{% set n = messages | length %}{% for m in messages %}{{ m.role }}{{ n }}{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% for m in messages %}{{ m.role }}{{ ns.n == 5 }}{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% for m in messages %}{{ m.role }}{{ ns.n > 5 }}{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% for m in messages %}{{ m.role }}{{ ns }}{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% for m in messages %}{% set o = ns %}{{ o.n }}{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% macro f() %}{{ ns.n > 5 }}{% endmacro %}{% for m in messages %}{{ f() }}"
    "{{ loop.last }}{% endfor %}",
    "{% set ns = namespace(n=messages | length) %}{% for m in messages %}{{ 5 > ns.n }}{% set ns.n = 4 %}{{ loop.last }}"
    "{% endfor %}",
    "{% for m in messages %}{{ loop.changed(m.role) }}{{ loop.last }}{% endfor %}",
    "{{ messages | length }}{% for m in messages %}{{ m.content }}{{ loop.last }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ loop.length }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ loop['last'] }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ loop.nextitem.role }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ loop | list | length }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ messages[loop.index].role }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ messages[-1].role }}{% endfor %}",
    "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{% else %}nothing{% endfor %}",
    "{% for m in messages %}{{ m.content }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{% endfor %}{% for x in [1] %}{{ x }}{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% for n in messages %}{{ n.content }}{% endfor %}{% endfor %}",
    "{% set all = [messages] %}{% for m in messages %}{{ m.content }}{{ all[0] | length }}{% endfor %}",
    "{% for m in messages.copy() %}{{ m.content }}{% endfor %}",
    "{% for m in messages[1:] %}{{ m.content }}{% endfor %}{% if messages[1:] %}!{% endif %}",
    "{% for m in messages %}{{ m.content }}{{ m == messages[-1] }}{{ m in messages }}{% endfor %}",
    "{% block b %}{% endblock %}{% for m in messages %}{{ m.content }}{% endfor %}{{ self.b() }}",
]


def _variables(messages: list[dict[str, str]]) -> dict[str, Any]:
    options = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    return {**options, "messages": messages}


def _agree(source: str, messages: list[dict[str, str]]) -> bool:
    """Whether one run told of every beginning; what it tells is checked against runs of their own."""
    try:
        found = render_prefixes(source, _variables(messages))
    except (TooMuchError, *FAULTS):
        return False
    if found is None:
        return False
    assert found.text == render_chat(source, _variables(messages))
    for place, cut in found.cuts.items():
        if place:
            assert found.text[:cut] + found.tail(place) == render_chat(source, _variables(messages[:place])), place
    return _wanted(messages) <= found.cuts.keys()


def _wanted(messages: list[dict[str, str]]) -> set[int]:
    """How many messages stand before each answer, and all."""
    return {n for n, m in enumerate(messages) if n and m["role"] == "assistant"} | {len(messages)}


def _talk(turns: int, system: str = "") -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": ("user", "assistant")[n % 2], "content": f"turn {n} 高勇"} for n in range(turns)]


@pytest.mark.parametrize("source", PROVEN.values(), ids=PROVEN)
def test_one_run_tells_every_beginning(source: str) -> None:
    assert _agree(source, _talk(9))
    assert source == GEMMA or _agree(source, _talk(8, "be short"))


@pytest.mark.parametrize("source", [*LOOKING_AHEAD, *FAMILIES, *HARMLESS])
def test_what_is_told_is_true(source: str) -> None:
    told = _agree(source, _talk(11))
    assert source not in LOOKING_AHEAD or not told
    for messages in (_talk(5), _talk(4, "s"), _talk(9), _talk(10, "s"), [{"role": "tool", "content": "b"}] * 3):
        _agree(source, messages)


@pytest.mark.parametrize("source", RESUMED.values(), ids=RESUMED)
def test_a_template_that_looks_ahead_is_entered_at_each_last_turn(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _agree(source, _talk(9))
    assert _agree(source, _talk(10, "be short"))
    tools = [*_talk(2), *[{"role": "tool", "content": "x"}] * 2, {"role": "assistant", "content": "y"}, *_talk(6)]
    assert _agree(source, tools) == (source != QWEN3), "Qwen3's thinks aloud in an answer that a tool's follows"
    turns = []
    monkeypatch.setattr("core.prompts.bounded.Bounded.tick", lambda self, written: turns.append(written))
    render_prefixes(source, _variables(_talk(100)))
    assert len(turns) < 6 * 100, "50 runs of 50 turns on the average would be 2,500"


ATOMS = ["a", "b", "{{ m.content }}", "{{ m.role }}", "{{ messages[0].role }}", "{{ messages[1].role }}", "{{ x }}", "{{ ns.n }}"]
ATOMS += ["{{ loop.index }}", "{{ loop.last }}", "{{ loop.previtem.role }}", "{{ messages[loop.index0 - 1].role }}"]
ATOMS += ["{% set ns.n = ns.n + 1 %}", "{% set x = m.content %}", "{% set rest = messages %}", "{% set rest = messages[1:] %}"]
ATOMS += ["{% set rest = [m] %}", "{% set all = [rest] %}", "{{ f(messages) }}", "{{ rest[0].content }}", "{% continue %}"]
ATOMS += ["{% break %}", "{{ bos_token }}", "{{ loop.first }}", "{% set ns.n = messages | length %}", "{{ ns.k }}"]
ATOMS += ["{% set ns.k = loop.index %}", "{% set k = messages | length %}", "{{ k }}", "{{ loop.nextitem.role }}"]
ATOMS += ["{% set rest = messages[1:] if messages | length > 5 else messages | list %}", "{% set n = m.content + n %}"]
ATOMS += ["{{ messages[loop.index].role }}", "{{ loop.changed(m.role) }}", "{{ ns }}", "{% set ns.k = ns.n %}"]
BLOCKS = ["{% for m in messages %}", "{% for m in rest %}", "{% for m in rest if m.role == 'user' %}", "{% for x in [1, 2] %}"]
BLOCKS += ["{% for m in loop %}", "{% for y in all %}", "{% if loop.first %}", "{% if m.role == 'user' %}", "{% if rest %}"]
BLOCKS += ["{% set x %}", "{% if messages %}", "{% generation %}", "{% if add_generation_prompt %}", "{% macro f(a) %}"]
BLOCKS += ["{% filter upper %}", "{% if loop.last %}", "{% if loop.index0 > ns.n %}", "{% if ns.n >= loop.index %}"]
BLOCKS += ["{% if ns.k < 3 %}", "{% if loop.index <= ns.k %}", "{% for m in messages[::-1] %}", "{% if not ns.k %}"]


def _closed(block: tuple[str, list[str]]) -> str:
    opening, inside = block
    return opening + "".join(inside) + "{% end" + opening.split()[1] + " %}"


NESTED = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.tuples(st.sampled_from(BLOCKS), st.lists(inner, max_size=4)).map(_closed),
    max_leaves=8,
)
WALKED = st.tuples(st.sampled_from(BLOCKS[:3]), st.lists(NESTED, max_size=4)).map(_closed)


@settings(max_examples=300, deadline=None)
@given(st.lists(NESTED, max_size=3), WALKED, st.lists(NESTED, max_size=2))
def test_no_template_is_told_wrong(before: list[str], walked: str, behind: list[str]) -> None:
    start = "{% set ns = namespace(n=0, k=messages | length - 1) %}{% set rest = messages %}"
    for messages in (_talk(4), _talk(9)):
        _agree(start + "".join([*before, walked, *behind]) + "{{ add_generation_prompt }}", messages)


def _composed(source: str, row: dict[str, Any], *, one_run: bool) -> Composed:
    means = compose.REAL if one_run else Means(compose.REAL.text, compose.REAL.turns)
    return compose.compose(find_template("chat"), RowData.of(row, (), (), ()), byte_level(source), means=means)


def _told(source: str, row: dict[str, Any], *, one_run: bool) -> Composed | str:
    try:
        return _composed(source, row, one_run=one_run)
    except SpecError as error:
        return error.message


@pytest.mark.parametrize("source", [*PROVEN.values(), *RESUMED.values(), *LOOKING_AHEAD, *FAMILIES])
def test_segments_are_those_of_many_runs(source: str) -> None:
    for messages in (_talk(6), _talk(11), _talk(9, "be short"), [{"role": "assistant", "content": "first"}, *_talk(4)]):
        row = {"row_id": "r", "messages": messages}
        assert _told(source, row, one_run=True) == _told(source, row, one_run=False)


@pytest.mark.parametrize("source", [QWEN, QWEN3, ZEPHYR], ids=["qwen", "qwen3", "zephyr"])
def test_a_long_conversation_costs_no_more_than_its_length(source: str) -> None:
    """Of 1,600 turns each is written once or twice, so four times the turns are about four times the work (sixteen before)."""
    rows = [{"row_id": "r", "messages": _talk(turns)} for turns in (400, 1_600)]
    _composed(source, rows[0], one_run=True)
    seconds = []
    for row in rows:
        tries = []
        for _ in range(3):
            began = time.thread_time()
            made = _composed(source, row, one_run=True)
            tries.append(time.thread_time() - began)
        seconds.append(min(tries))
    assert len(made.pieces) == 1_600
    assert not made.note
    assert seconds[1] < 8 * seconds[0]


def test_a_template_that_rewrites_is_known_by_its_first_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{% for m in messages %}{% if loop.last %}[{{ m.role }}]{% endif %}{{ m.content }}|{% endfor %}"
    runs = []
    real = chat._apply
    monkeypatch.setattr(chat, "_apply", lambda *asked: runs.append(1) or real(*asked))
    made = _composed(source, {"row_id": "r", "messages": _talk(400)}, one_run=True)
    assert "rewrites" in made.note
    assert len(runs) < 8
