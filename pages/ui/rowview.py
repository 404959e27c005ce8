"""The one view of a row, used everywhere: text with marked values, elements as a table, raw text behind a tab.

Knows nothing of where the row comes from: text, gold and prediction are given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import streamlit as st

from core.data.answers import Answer, parse_answer
from core.evaluation.metrics.error_kinds import match_row
from core.figures import tidy
from pages.ui import marks
from pages.ui.marks import Mark

LONG, HEIGHT = 800, 560
"""Characters from which on a row scrolls within so many pixels, so that what is below it stays within reach."""


def show(
    text: str,
    gold: str,
    predicted: str | None = None,
    *,
    key: str,
    extraction: bool = True,
    instruction: str = "",
    messages: str | None = None,
    hits: Sequence[Mark] = (),
    raw: Mapping[str, str] | None = None,
) -> None:
    """Draw one row. ``key`` must be unique on the page.

    ``gold`` and ``predicted`` are answers as text; for extraction they are JSON objects of elements.
    ``instruction`` is the question where there is no ``text``, but of an extraction. ``messages`` is the JSON list of a
    multi-turn row. ``hits`` are marks of what a check found in ``text``.
    ``raw`` adds texts to the raw tab (e.g. the rendered prompt).
    """
    names = ["Row", "Against gold", "Raw text"] if predicted is not None else ["Row", "Raw text"]
    shown, *middle, source = st.tabs(names, key=f"{key}_tabs")
    long = len(messages or text) > LONG
    with shown, st.container(height=HEIGHT if long else "content", border=False, key=f"{key}_body"):
        if messages:
            _turns(messages)
        elif extraction:
            _extraction(text, gold, predicted, hits)
        else:
            asked = text if text.strip() else instruction  # some data ask by the instruction alone
            empty = '<div class="tw-key">The input is empty.</div>'
            st.html(marks.marked(asked, list(hits) if asked is text else []) if asked.strip() else empty)
            _plain(gold, predicted)
    for tab in middle:
        with tab:
            st.html(marks.diff(alike(gold), alike(predicted or "")))
            st.caption("From the gold answer to the predicted one: struck through is missing, underlaid is added.")
    with source:
        texts = {"Instruction": instruction, "Input": text, "Gold answer": gold}
        if predicted is not None:
            texts["Predicted answer"] = predicted
        for name, value in {**texts, **(raw or {})}.items():
            if value:
                st.caption(name)
                st.code(value, language=None, wrap_lines=True)


def alike(answer: str) -> str:
    """An answer as it is compared by eye: JSON in one way of writing, other text as it is."""
    try:
        return json.dumps(json.loads(answer), ensure_ascii=False, indent=1)
    except ValueError:
        return answer


def _extraction(text: str, gold: str, predicted: str | None, hits: Sequence[Mark]) -> None:
    right, answered = parse_answer(gold), parse_answer(predicted) if predicted is not None else None
    found, gold_values = marks.ground(right, text, "gold")
    told, told_values = marks.ground(answered, text, "predicted") if answered else ([], None)
    st.html(marks.marked(text, [*found, *told, *hits]) if text else '<div class="tw-key">The input is empty.</div>')
    st.html(marks.key(predicted=answered is not None, hits=bool(hits)))
    _unreadable("gold answer", gold, right)
    if answered is not None:
        _unreadable("prediction", predicted or "", answered)
    faults = _faults(right, predicted or "", text) if answered is not None and answered.ok else None
    st.html(marks.elements_table(gold_values, told_values, faults))


def _faults(gold: Answer, predicted: str, text: str) -> dict[str, Counter[str]]:
    """Of each element how many values have which fault, as they are counted; a value under the wrong element is told at both."""
    found: dict[str, Counter[str]] = {}
    for one in match_row(gold, predicted, text).outcomes:
        if one.kind != "correct":
            for element in dict.fromkeys((one.element, one.predicted_element or one.element)):
                found.setdefault(element, Counter())[tidy.ERROR_WORDS[one.kind].lower()] += 1
    return found


def _unreadable(what: str, text: str, answer: Answer) -> None:
    if not answer.ok:
        with st.container(gap="xsmall"):
            st.markdown(f":red[The {what} can't be read as JSON:] {answer.error}.")
            st.code(text or "(empty)", language=None, wrap_lines=True)


def _plain(gold: str, predicted: str | None) -> None:
    columns = st.columns(2 if predicted is not None else 1)
    with columns[0]:
        st.caption("Gold")
        st.html(marks.marked(gold or "(empty)", [Mark(0, len(gold), "gold")] if gold else []))
    if predicted is not None:
        with columns[1]:
            st.caption("Predicted, right" if predicted.strip() == gold.strip() else "Predicted")
            st.html(marks.marked(predicted or "(empty)", [Mark(0, len(predicted), "predicted")] if predicted else []))


def _turns(messages: str) -> None:
    try:
        turns = json.loads(messages)
    except ValueError:
        turns = None
    if not isinstance(turns, list):
        st.code(messages, language=None, wrap_lines=True)
        return
    for turn in turns:
        st.caption(str(turn.get("role", "")).capitalize())
        st.html(marks.marked(str(turn.get("content", "")), []))
