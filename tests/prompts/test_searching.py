"""Loops that only look for something: they end when they have found it, and what a template writes stays the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.prompts import bounded
from core.prompts.bounded import FAULTS, render_chat
from core.prompts.budget import TooMuchError
from tests.prompts.toys import QWEN3

START = "{% set ns = namespace(on=true, off=false, at=0) %}"
END = "{{ ns.at }}{{ ns.on }}"
HEAD = "{% for m in messages[::-1] %}"
SEARCHES = [
    HEAD + "{% if ns.on and m.role == 'user' %}{% set ns.on = false %}{% set ns.at = loop.index %}{% endif %}{% endfor %}",
    HEAD
    + "{% set i = messages | length - loop.index %}{% if ns.on %}{% set ns.at = i %}{% set ns.on = 0 %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if ns.off and m.role %}{{ m.content }}{% endif %}{% endfor %}",
]
OTHERS = [
    HEAD + "{% if ns.on and m.role == 'user' %}{% set ns.on = false %}{% endif %} {% endfor %}",
    HEAD + "{% if ns.on %}{% set ns.on = false %}{% else %}{% set ns.at = ns.at + 1 %}{% endif %}{% endfor %}",
    HEAD + "{% if ns.on %}{% set ns.on = false %}{% endif %}{% if ns.off %}{% endif %}{% set ns.at = loop.index %}{% endfor %}",
    HEAD + "{% if ns.on or m.role == 'user' %}{% set ns.on = false %}{% set ns.at = loop.index %}{% endif %}{% endfor %}",
    HEAD + "{% if not ns.off %}{% set ns.at = loop.index %}{% endif %}{% endfor %}",
    HEAD + "{% set n = m.content + 1 %}{% if ns.off %}{% endif %}{% endfor %}",
    "{% for m in [1, 'x'] %}{% set n = m + 1 %}{% if ns.off %}{% endif %}{% endfor %}",
    "{% for ns in [ns, namespace(on=true)] %}{% if ns.off %}{% endif %}{% endfor %}",
]


def _talk(turns: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(turns)]


def _told(source: str, messages: list[dict[str, str]]) -> str:
    try:
        return render_chat(source, {"messages": messages, "add_generation_prompt": True})
    except (TooMuchError, *FAULTS) as fault:
        return re.sub(r"0x[0-9a-f]+", "", f"{type(fault).__name__} {fault}")


def _both(source: str, messages: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, int, int]:
    """What is written, and in how many turns of loops, with loops that end and with loops that don't."""
    found: list[Any] = []
    for ending in (True, False):
        bounded._compiled.cache_clear()
        turns: list[int] = []
        with monkeypatch.context() as patch:
            real = bounded.Bounded.tick
            patch.setattr(bounded.Bounded, "tick", lambda self, written, t=turns, r=real: (t.append(1), r(self, written))[0])
            if not ending:
                patch.setattr(bounded, "end_searches", lambda tree: None)
            found += [_told(source, messages), len(turns)]
    bounded._compiled.cache_clear()
    return found[0], found[2], found[1], found[3]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_ends_when_it_has_found(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, turns, all_turns = _both(START + search + END, _talk(9), monkeypatch)
    assert ours == theirs
    assert turns <= 2
    assert all_turns == 9


@pytest.mark.parametrize("other", OTHERS)
def test_a_loop_that_does_more_goes_to_its_end(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, turns, all_turns = _both(START + other + END, _talk(9), monkeypatch)
    assert ours == theirs
    assert turns == all_turns


def test_qwen3_looks_no_further_than_the_last_question(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, turns, all_turns = _both(QWEN3, _talk(101), monkeypatch)
    assert ours == theirs
    assert (turns, all_turns) == (102, 202)


STATEMENTS = [
    "{% set i = loop.index0 %}",
    "{% set i = messages | length - 1 %}",
    "{% set ns.at = ns.at + 1 %}",
    "{{ ns.at }}",
    " ",
]
STATEMENTS += ["{% set i = i + 1 %}", "{% set i = m.role + 1 %}", "{% set ns = namespace(on=false) %}", "{% set m = i %}"]
INSIDE = [
    "{% set ns.on = false %}",
    "{% set ns.at = i %}",
    "{% set ns.off = true %}",
    "{{ m.role }}",
    "{% continue %}",
    "{% break %}",
]
TESTS = [
    "ns.on",
    "ns.on and m.role == 'user'",
    "ns.off and ns.on",
    "ns.on and loop.last",
    "not ns.off",
    "ns.at",
    "m.role",
    "loop.first",
]
IFS = st.tuples(st.sampled_from(TESTS), st.lists(st.sampled_from(INSIDE), max_size=3)).map(
    lambda made: "{% if " + made[0] + " %}" + "".join(made[1]) + "{% endif %}"
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(STATEMENTS), IFS, IFS), max_size=4),
    st.sampled_from(["m in messages", "m in messages[::-1]"]),
)
def test_no_template_writes_anything_else(body: list[str], over: str) -> None:
    source = START + "{% for " + over + " %}" + "".join(body) + "{% endfor %}" + END + "{{ i }}"
    with pytest.MonkeyPatch.context() as monkeypatch:
        ours, theirs, _, _ = _both(source, _talk(5), monkeypatch)
    assert ours == theirs
