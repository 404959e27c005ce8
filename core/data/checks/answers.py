"""Checks of answers: empty, unreadable, with elements, types or values that shouldn't be.

Knows nothing of how the issues are shown or mended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import Answer, load_object, parse_answer
from core.data.checks.base import Finding, of_details, of_mask
from core.data.codes import distinct
from core.data.duplicates import Tick, no_tick
from core.data.grounding import Source
from core.data.keys import source_texts
from core.data.repair import propose_repair
from core.data.rules import empty_rows, unreadable_answers
from core.records import Task

DOMINANT = 0.9
"""A type that this share of an element's values have is the element's type."""
_TICK = 5_000
"""Rows between two moments at which the look for values can be stopped."""
REPAIRS = 2_000
"""Repairs are proposed for at most so many rows of a profile."""


def empty_findings(rows: pa.Table, task: Task) -> list[Finding]:
    """Rows without a question or an answer."""
    no_question, no_answer = empty_rows(rows, task)
    details = {int(place): "nothing is asked" for place in np.flatnonzero(no_question)}
    details |= {int(place): "the answer is empty" for place in np.flatnonzero(no_answer)}
    return [of_details("empty", details)]


class Answers:
    """The answers of a table, each distinct text parsed once."""

    def __init__(self, rows: pa.Table) -> None:
        texts, codes = distinct(rows["output"])
        self.texts: list[str] = texts.to_pylist()
        self.codes: list[int] = codes.tolist()
        self.parsed: list[Answer] = [parse_answer(text) for text in self.texts]
        self.single: list[bool] = pc.is_null(rows["messages"]).to_pylist()
        self.rows = rows

    def rows_where(self, told: Sequence[str]) -> dict[int, str]:
        """For each row what is told of its answer, where something is."""
        return {row: told[code] for row, code in enumerate(self.codes) if told[code] and self.single[row]}


def answer_findings(rows: pa.Table, elements: Sequence[str], tick: Tick = no_tick) -> list[Finding]:
    """All findings about answers of an extraction dataset, with counts of elements and values as facts."""
    answers = Answers(rows)
    mask, errors = unreadable_answers(rows)
    outputs = rows["output"]
    tried = np.flatnonzero(mask)[:REPAIRS].tolist()
    repairs = {place: fixed for place in tried if (fixed := propose_repair(outputs[place].as_py())) is not None}
    known = set(elements)
    unknown = [", ".join(name for name in answer.elements if name not in known) for answer in answers.parsed]
    repeated = [", ".join(answer.repeated) for answer in answers.parsed]
    nothing = ["nothing found" if answer.ok and not answer.pairs else "" for answer in answers.parsed]
    return [
        Finding("invalid_json", np.flatnonzero(mask), [errors[place] for place in np.flatnonzero(mask).tolist()]),
        of_details("repairable_json", repairs),
        of_details("unknown_element", answers.rows_where(unknown)),
        of_details("repeated_key", answers.rows_where(repeated)),
        of_details("value_type", answers.rows_where(_odd_types(answers))),
        Finding(
            "empty_answer",
            np.array(sorted(answers.rows_where(nothing)), dtype=np.int64),
            facts={"elements": _element_counts(answers, elements)},
        ),
        *grounding_findings(answers, tick),
    ]


def _type_of(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "truth value"
    return {type(None): "null", list: "list", dict: "object"}.get(type(value), "number")


def _odd_types(answers: Answers) -> list[str]:
    """For each distinct answer the values whose type, or whose being in a list, differs from their element's others."""
    sizes = Counter(answers.codes)
    inner: dict[str, Counter[str]] = {}
    outer: dict[str, Counter[bool]] = {}
    shapes: list[list[tuple[str, bool, list[str]]]] = []
    for code, text in enumerate(answers.texts):
        shape = []
        if answers.parsed[code].ok:
            for name, value in load_object(text):
                kinds = [_type_of(item) for item in (value if isinstance(value, list) else [value])]
                shape.append((name, isinstance(value, list), kinds))
                outer.setdefault(name, Counter())[isinstance(value, list)] += sizes[code]
                for kind in kinds:
                    inner.setdefault(name, Counter())[kind] += sizes[code]
        shapes.append(shape)
    usual = {name: _dominant(counts) for name, counts in inner.items()}
    listed = {name: _dominant(counts) for name, counts in outer.items()}
    told: list[str] = []
    for shape in shapes:
        odd: list[str] = []
        for name, is_list, kinds in shape:
            want = usual.get(name)
            odd += [
                f"{name}: {kind} where others are {want}" for kind in dict.fromkeys(kinds) if want is not None and kind != want
            ]
            if listed[name] is not None and is_list != listed[name]:
                odd.append(f"{name}: {'a list' if is_list else 'no list'} where others are {'lists' if listed[name] else 'none'}")
        told.append("; ".join(odd))
    return told


def _dominant(counts: Counter[Any]) -> Any:
    kind, count = counts.most_common(1)[0]
    return kind if count >= DOMINANT * counts.total() and count > math.ceil(counts.total() / 2) else None


def _element_counts(answers: Answers, elements: Sequence[str]) -> dict[str, dict[str, int]]:
    """For each element: rows that have it, values, distinct values. The dataset's elements first, then others by rows."""
    sizes = Counter(code for code, single in zip(answers.codes, answers.single, strict=True) if single)
    rows: Counter[str] = Counter()
    values: dict[str, Counter[str]] = {}
    for code, answer in enumerate(answers.parsed):
        for name, found in answer.elements.items():
            rows[name] += sizes[code] if found else 0
            counted = values.setdefault(name, Counter())
            for value in found:
                counted[value] += sizes[code]
    order = [*elements, *(name for name, _ in rows.most_common() if name not in set(elements))]
    empty: Counter[str] = Counter()
    return {
        name: {"rows": rows[name], "values": values.get(name, empty).total(), "distinct": len(values.get(name, empty))}
        for name in order
    }


def grounding_findings(answers: Answers, tick: Tick = no_tick) -> list[Finding]:
    """Values that aren't in the text, that stand there in another form, or only nearly; counts of each kind as facts."""
    sources = source_texts(answers.rows).to_pylist()
    told: dict[str, dict[int, str]] = {"absent": {}, "normalised": {}, "fuzzy": {}}
    counts: Counter[str] = Counter()
    for row, (text, code) in enumerate(zip(sources, answers.codes, strict=True)):
        if row % _TICK == 0:
            tick()
        pairs = answers.parsed[code].pairs
        if not pairs or not answers.single[row]:
            continue
        source: Source | None = None
        for element, value in pairs:
            if value in text and value.strip():
                counts["exact"] += 1
                continue
            source = source or Source(text)
            match = source.locate(value)
            counts[match.kind] += 1
            if match.kind in told:
                place = f" → {text[match.start : match.end]}" if match.start >= 0 else ""
                before = told[match.kind].get(row)
                word = f"{element}: {value}{place}"
                told[match.kind][row] = f"{before}; {word}" if before else word
    kinds = {kind: counts[kind] for kind in ("exact", "normalised", "fuzzy", "absent")}
    absent = of_details("ungrounded_value", told["absent"])
    return [
        Finding("ungrounded_value", absent.positions, absent.details, facts={"values": kinds}),
        of_details("normalised_value", told["normalised"]),
        of_details("fuzzy_value", told["fuzzy"]),
    ]


def no_answer_findings() -> list[Finding]:
    """The same issues, none found: for datasets whose answers aren't elements."""
    names = ("invalid_json", "repairable_json", "unknown_element", "repeated_key", "value_type", "empty_answer")
    empty = np.zeros(0, dtype=np.bool_)
    return [of_mask(name, empty) for name in (*names, "ungrounded_value", "normalised_value", "fuzzy_value")]
