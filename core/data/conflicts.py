"""Same question, different answers: which rows, which answer wins, and how answers are united.

Works on the codes of ``core.data.keys``. Knows nothing of recipes.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.data.answers import Answer, dump_answer, parse_answer
from core.data.codes import group_codes, is_first

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def conflicting_groups(questions: Codes, answers: Codes) -> Mask:
    """Rows whose question has more than one answer in these rows."""
    pairs = is_first(group_codes(questions, answers))
    distinct = np.bincount(questions[pairs], minlength=int(questions.max(initial=-1)) + 1)
    found: Mask = distinct[questions] > 1
    return found


def winners(questions: Codes, answers: Codes, conflicting: Mask, *, majority: bool) -> Mask:
    """Of the conflicting rows, those whose answer is the first one given to their question, or the most frequent one."""
    places = np.flatnonzero(conflicting)
    counts: dict[int, Counter[int]] = {}
    for question, answer in zip(questions[places].tolist(), answers[places].tolist(), strict=True):
        counts.setdefault(question, Counter())[answer] += 1
    chosen = {
        question: max(count, key=lambda a: count[a]) if majority else next(iter(count)) for question, count in counts.items()
    }
    kept = np.zeros(len(questions), dtype=np.bool_)
    kept[places] = [chosen[q] == a for q, a in zip(questions[places].tolist(), answers[places].tolist(), strict=True)]
    return kept


def unite(answers: list[Answer], like: str = "") -> str:
    """The union of answers as JSON: elements and values in order of appearance, a value as often as in the answer with most."""
    united: dict[str, list[str]] = {}
    for answer in answers:
        for element, values in answer.elements.items():
            held = united.setdefault(element, [])
            have = Counter(held)
            for value in values:
                if have[value] > 0:
                    have[value] -= 1
                else:
                    held.append(value)
    return dump_answer(united, like=like)


def merged_answers(rows: pa.Table, questions: Codes, conflicting: Mask) -> dict[int, str]:
    """For each conflicting question the row that stays, and the united answer that it gets.

    The row is the first one with a readable answer; where none is (or in conversations) the first one, unchanged.
    """
    outputs, talks = rows["output"], rows["messages"]
    groups: dict[int, list[int]] = {}
    for place in np.flatnonzero(conflicting).tolist():
        groups.setdefault(int(questions[place]), []).append(place)
    merged: dict[int, str] = {}
    for places in groups.values():
        texts = [outputs[place].as_py() for place in places]
        parsed = [
            (place, text, answer)
            for place, text in zip(places, texts, strict=True)
            if not talks[place].is_valid and (answer := parse_answer(text)).ok
        ]
        if parsed:
            place, text, _ = parsed[0]
            merged[place] = unite([answer for *_, answer in parsed], like=text)
        else:
            merged[places[0]] = texts[0]
    return merged
