"""The template language: what it does, what it refuses, and that nothing makes it hang or leak."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError

from core.errors import SpecError
from core.prompts.sandbox import compile_text, run

VARIABLES = {
    "instruction": "抽取",
    "input": "abc ",
    "elements": ["姓名", "机构"],
    "shots": [{"input": "x"}],
    "extra": {"k": None},
}

WRITES = [
    ("{{ instruction }}\n{{ input }}\n", "抽取\nabc \n"),
    ("{{ elements | join('、') }}", "姓名、机构"),
    ("{{ elements }}", '["姓名", "机构"]'),
    ("{% for e in elements %}{{ loop.index }}.{{ e }};{% endfor %}", "1.姓名;2.机构;"),
    ("{{ input.strip() ~ '!' }}", "abc!"),
    ("{{ input[1:3] }}", "bc"),
    ("{{ extra.k }}|{{ true }}|{{ 3 }}", "|true|3"),
    ("{% if shots %}{{ shots[0].input }}{% endif %}", "x"),
    ("{{ 'none' if not input else input | upper }}", "ABC "),
    ("{{ extra.nothing is defined }}", "false"),
    ("{% raw %}{{ kept }}{% endraw %}", "{{ kept }}"),
    ("  {% if true %}\na\n  {% endif %}\nb", "a\nb"),
]


@pytest.mark.parametrize(("source", "text"), WRITES)
def test_writes(source: str, text: str) -> None:
    assert run(compile_text(source), VARIABLES, "T") == text


REFUSED = [
    "{{ input.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ input | attr('__class__') }}",
    "{{ 'a' * 1000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{0.__class__}'.format(input) }}",
    "{{ elements.append('x') }}",
    "{{ input.strip }}",
    "{{ self }}",
    "{{ range(10) }}",
    "{{ lipsum() }}",
    "{{ cycler }}",
    "{% for e in elements %}{{ loop }}{% endfor %}",
    "{% for a in elements recursive %}{{ loop(elements) }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}",
    "{% for a in input %}{% for b in big %}{% for c in big %}{% endfor %}{% endfor %}{% endfor %}",
    "{% set a = input ~ input %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "{% set a = [1, 1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "9" * 10_000 + " }}",
    "{% if true %}" * 100 + "{% endif %}" * 100,
    "x" * 100_000,
    "{{ [" + "big[1:]," * 3000 + "1] | length }}",
    "{{ big == big2 }}" * 3000,
    "{% set x = big | upper %}" * 2500,
    "{{ input",
    "{% if input %}",
    "{% endfor %}",
    "{{ missing }}",
    "{{ 5 % 0 }}",
    "{{ -input }}",
]


@pytest.mark.parametrize("source", REFUSED, ids=range(len(REFUSED)))
def test_refuses_quickly(source: str) -> None:
    began = time.thread_time()
    with pytest.raises((SpecError, TemplateSyntaxError)) as caught:
        run(compile_text(source), {**VARIABLES, "big": "x" * 1_000_000, "big2": "x" * 999_999 + "x"}, "T")
    assert time.thread_time() - began < 4
    assert "object at 0x" not in str(caught.value)


SIGNS = [*"~|.()[]'\"9a+-%,:中\n", "{{", "}}", "{%", "%}", "{#", "#}", "=="]
WORDS = ["input", "elements", "extra", "loop", "strip", "split", "items()", "tojson", "upper", "join", "__class__", "defined"]
KEYWORDS = [" for a in ", "if ", "endif", "endfor", "set a = ", " is ", " in ", " not ", "else", "raw", "endraw"]
PIECES = st.sampled_from([*SIGNS, *WORDS, *KEYWORDS])


@settings(max_examples=400, deadline=4000)
@given(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200))
def test_no_text_hangs_or_leaks(source: str, text: str) -> None:
    try:
        made = run(compile_text(source), {**VARIABLES, "input": text}, "T")
    except (SpecError, TemplateSyntaxError):
        return
    assert "object at 0x" not in made.replace(text, "")
    assert "<class" not in made.replace(text, "")
    assert "built-in" not in made.replace(text, "")


@settings(max_examples=100, deadline=4000)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_data_is_never_read_as_a_template(text: str) -> None:
    assert run(compile_text("{{ input }}"), {"input": text}, "T") == text
    assert run(compile_text("{{ input }}"), {"input": "{{ 7 }}" + text}, "T") == "{{ 7 }}" + text
