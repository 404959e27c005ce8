"""Foreign chat templates: each ends within its budget, leaks nothing, and writes what transformers writes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import SpecError
from core.lengths import measure_rows
from core.prompts import chat
from core.prompts.bounded import FAULTS, render_chat
from core.prompts.budget import TooMuchError
from core.prompts.plan import make_plan
from core.prompts.render import render
from core.prompts.traced import UntraceableError
from core.records import ModelRef, Template
from core.settings import get_settings
from tests.prompts.test_plan import ODD_CHATS, table
from tests.prompts.toys import CHATML, GEMMA, LLAMA, QWEN3, THINKING, ZEPHYR, byte_level

EVERY = "{% for m in messages %}{{ m.content }}{% endfor %}"
DOUBLED = "{% set a = [1, 1] %}" + "{% set a = [a, a] %}" * 40
SPACES = "{% set ns = namespace(x=[1]) %}" + "".join(
    f"{{% set n{i} = namespace(x=[{'ns' if not i else f'n{i - 1}'}, {'ns' if not i else f'n{i - 1}'}]) %}}" for i in range(40)
)
HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000000 }}",
    "{{ 10000000000 * 'x' }}",
    "{{ [1] * 10000000000 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{% if false %}{{ 10 ** (10 ** 10) }}{{ 'x' * 10000000000 }}{{ 'x' | center(9999999999) }}{% endif %}"
    + EVERY
    + "{{ 1 // 0 }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '%(a)9999999999d' % {'a': 1} }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ '{0:>{w}}'.format('x', w=999999999) }}",
    "{{ 'x' | center(9999999999) }}",
    "{{ 'x'.center(9999999999) }}",
    "{{ ('\t' * 1000000).expandtabs(1000000) }}",
    "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
    "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
    "{{ ('x' * 100000).join(['a'] * 100000) }}",
    "{{ ['a'] * 100000 | join('x' * 100000) }}",
    "{{ (['a'] * 100000) | join('x' * 100000) }}",
    "{{ ('a\n' * 100000) | indent(100000) }}",
    "{{ [[[1]]] | tojson(indent=1000000) }}",
    "{{ 'abc'.translate({97: 'x' * 1000000}) }}",
    "{{ 'x'.encode().center(9999999) }}",
    "{{ lipsum(n=1000000) }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% for a in [1, 2] recursive %}{% if loop.depth0 < 60 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
    "{% set ns = namespace(t='x') %}{% for a in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(t='x') %}{% for a in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(n=3) %}{% for a in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    DOUBLED + "{{ a }}",
    DOUBLED + "{{ a | string }}",
    DOUBLED + "{{ a | tojson }}",
    DOUBLED + "{{ a == a }}",
    "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {t: 1} }}",
    "{% macro f(a, n) %}{% if n %}{{ f([a, a], n - 1) }}{% else %}{{ a }}{% endif %}{% endmacro %}{{ f([1], 40) }}",
    SPACES + "{{ n39 }}",
    "{% for a in range(99999) %}{% set x %}" + "y" * 50_000 + "{% endset %}{% endfor %}",
    "{% set x %}{% for a in range(99999) %}{% for b in range(99999) %}y{% endfor %}{% endfor %}{% endset %}",
    "{% for a in range(99999) %}{{ 'abc' * 1000 | upper | lower | title }}{% endfor %}",
    "{{ messages | map('string') | batch(999999999) | list }}",
    "{{ ('x ' * 100000) | wordwrap(1, wrapstring='y' * 1000000) }}",
    "{{ messages.append(1) }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages[0]['__class__'].mro() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ raise_exception }}",
    "{{ range }}",
    "{{ dict }}",
    "{{ cycler }}",
    "{{ messages | map('upper') }}",
    "{{ 'a'.upper }}",
    "{{ [cycler] }}",
    "{{ [cycler] | string }}",
    "{{ cycler ~ 'x' }}",
    "{{ '%s' % cycler }}",
    "{{ '{}'.format(cycler) }}",
    "{{ [1, 2, 3] | random }}",
    "{{ strftime_now('%9999999d') }}",
    "{{ raise_exception('x' * 3000000) }}",
    "{% if true %}" * 500 + "{% endif %}" * 500,
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "{{ " + "9" * 10_000 + " }}",
    "{{ 1" + " + 1" * 5000 + " }}",
    "{% for a in messages %}",
    "{% include 'x' %}",
    "x" * 600_000,
]


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_chat_template_is_a_quick_fault(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.prompts.budget.SECONDS", 0.2)
    tokenizer = byte_level(source)
    began = time.thread_time()
    for ask in (
        lambda: chat.apply(tokenizer, [{"role": "user", "content": "q"}], thinking=None, open_turn=True),
        lambda: render(Template(name="t"), {"input": "q", "output": "a"}, tokenizer=tokenizer),
        lambda: measure_rows(table([("", "q", "a")] * 3), Template(name="t"), tokenizer),
    ):
        with pytest.raises(SpecError) as caught:
            ask()
        assert len(caught.value.message) < 700
        assert "object at 0x" not in caught.value.message
        assert caught.value.hint
    with pytest.raises(UntraceableError):
        make_plan(Template(name="t"), {"input": "q", "output": "a"}, tokenizer)
    assert time.thread_time() - began < 5  # five renders, each of at most 0.2 s and what one step takes


UNSEEN = [
    "{{ messages.__class__ }}",
    "{{ namespace.__init__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ '{a[__class__]}'.format(a=messages) }}",
    "{{ messages | attr('__class__') }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages['__class__'] }}",
]


@pytest.mark.parametrize("source", UNSEEN)
def test_attributes_of_python_are_not_seen(source: str) -> None:
    try:
        made = render_chat(source, {"messages": [{"role": "user", "content": "q"}]})
    except FAULTS:
        return
    assert made in ("", "[Undefined]")


FAMILIES = [CHATML, GEMMA, LLAMA, THINKING, QWEN3, ZEPHYR, *(s for s in ODD_CHATS)]
HARMLESS = [
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | upper }}: {{ m.content | trim | indent(2) }}"
    "{{ eos_token }}{% endfor %}",
    "{% set ns = namespace(found=false) %}{% for m in messages[::-1] %}{% if m.role == 'user' and not ns.found %}"
    "{% set ns.found = true %}{{ m.content }}{% endif %}{% endfor %}",
    "{% macro turn(m, last=false) %}[{{ m.role }}]{{ m.content }}{% if not last %}|{% endif %}{% endmacro %}"
    "{% for m in messages %}{{ turn(m, last=loop.last) }}{% endfor %}",
    "{% for m in messages %}{%- if loop.first and m.role == 'system' %}S{% continue %}{% endif -%} "
    "{{ m | tojson }} {%- endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% if loop.index > 3 %}{% break %}{% endif %}"
    "{% endfor %}",
    "{{ messages | map(attribute='content') | join(', ') }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ '%s-%03d' % (messages[0].content, 7) }}{{ '{} {:>4}'.format(messages[0].role, 5) }}{{ messages[0].items() | list }}",
    "{{ messages[0] }}{{ messages | length ** 2 }}{{ 'ab' * 3 }}{{ 7 // 2 }}{{ none }}{{ true }}{{ missing }}{{ 1.5 }}",
    "{% if tools is not none %}T{% endif %}{% if documents %}D{% endif %}{{ add_generation_prompt }}{{ date_string }}",
    "{{ messages[-1].content.split('a')[0].strip().replace('b', 'cc').ljust(4, '.') }}{{ dict(a=1).get('a') }}",
]


@pytest.mark.parametrize("source", [*FAMILIES, *HARMLESS], ids=range(len(FAMILIES) + len(HARMLESS)))
def test_what_is_written_is_what_transformers_writes(source: str) -> None:
    tokenizer = byte_level(source)
    turns = [{"role": "user", "content": "abc 中"}, {"role": "assistant", "content": "<think>x</think>y"}]
    for messages in (turns[:1], turns, [*turns, {"role": "user", "content": " b\n"}]):
        for opened in (True, False):
            ours = chat.apply(tokenizer, messages, thinking=False, open_turn=opened)
            theirs = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opened, date_string=chat.FIXED_DATE, enable_thinking=False
            )
            assert ours == theirs


def test_a_chat_template_that_writes_something_else_each_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(CHATML + "  ")
    real = type(tokenizer).apply_chat_template
    monkeypatch.setattr(type(tokenizer), "apply_chat_template", lambda *a, **k: real(*a, **k) + "!")
    with pytest.raises(SpecError, match="something else each time"):
        chat.answer_frame(tokenizer, None)


def test_todays_date_is_not_written() -> None:
    assert render_chat("{{ strftime_now('%d %b %Y') }}{{ strftime_now('%B') }}", {}) == "26 Jul 2024July"


@pytest.mark.parametrize("source", [THINKING, QWEN3, ZEPHYR], ids=["thinking", "qwen3", "zephyr"])
def test_a_long_conversation_is_within_the_budget(source: str) -> None:
    """Also where the template asks at every turn how many there are."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": "字" * 1_000} for n in range(999)]
    assert len(chat.apply(byte_level(source), messages, thinking=None, open_turn=True)) > 999_000


@pytest.mark.model
def test_the_default_models_chat_template_is_written_alike() -> None:
    if not list(get_settings().model_cache.glob("SmolLM2*/tokenizer.json")):
        pytest.skip("the default model is not in the cache")
    from core.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(ModelRef())
    messages = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "a"}]
    for some in (messages[:1], messages):
        ours = chat.apply(tokenizer, some, thinking=None, open_turn=True)
        assert ours == tokenizer.apply_chat_template(some, tokenize=False, add_generation_prompt=True)


SIGNS = [*"~|.()[]'\"9a+-*/%,:=中\n", "{{ ", " }}", "{% ", " %}", "**", "==", "10**9", "99999"]
WORDS = ["messages", "m.content", "m", "loop", "range(99999)", "namespace(a=1)", "cycler", "joiner", "dict", "ns", "ns.a", "x"]
CALLS = [
    ".format(",
    ".center(",
    ".join(",
    ".replace(",
    "| string",
    "| tojson",
    "| join(",
    "| list",
    "| map('upper')",
    "| attr('__class__')",
]
BLOCKS = ["{% for m in messages %}", "{% for x in range(99999) %}", "{% endfor %}", "{% if m %}", "{% endif %}", "{% set x = "]
BLOCKS += [
    "{% set ns = namespace(a=[]) %}",
    "{% set ns.a = ns.a ~ ns.a %}",
    "{% macro f(x) %}",
    "{% endmacro %}",
    "{{ f(x) }}",
    "{% endset %}",
]
BLOCKS += ["{{ m.content }}", "{{ messages }}", "{{ x }}", "{{ x * 99999 }}", "{% set x %}"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SIGNS, *WORDS, *CALLS, *BLOCKS]), max_size=30).map("".join), st.text(max_size=50))
def test_no_chat_template_hangs_or_leaks(source: str, text: str) -> None:
    variables: dict[str, Any] = {"messages": [{"role": "user", "content": text}] * 2, "add_generation_prompt": True}
    began = time.thread_time()
    try:
        made = render_chat(source, variables)
    except (TooMuchError, *FAULTS):
        made = ""
    assert time.thread_time() - began < 4
    told = made.replace(text, "")
    for leak in ("object at 0x", "<class", "<function", "built-in", "<Namespace", "<bound method"):
        assert leak not in told
    if made:
        assert render_chat(source, variables) == made
