"""What the rows themselves tell about a dataset: its task, and its elements when nobody named them.

Knows nothing of files or versions.
"""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import load_object
from core.records import Task

RARE = 0.01
"""Share of the answered rows below which a name found in answers isn't taken for an element."""
_LABEL_CHARACTERS = 64


def separated_names(text: str) -> tuple[str, ...]:
    """Names that somebody typed one after another, separated by commas of either script or ``、``."""
    return tuple(name for part in re.split("[,，、]", text) if (name := part.strip()))


def infer_elements(rows: pa.Table) -> tuple[str, ...]:
    """Names that occur in at least 1 % of the answered rows, in order of first appearance.

    Answered rows are those whose answer is a JSON object that names at least one element; ``{}`` says nothing of names.
    """
    counts: Counter[str] = Counter()
    answered = 0
    for item in pc.value_counts(rows["output"].combine_chunks()).to_pylist():
        names = _names_in(item["values"])
        if names:
            answered += item["counts"]
            for name in names:
                counts[name] += item["counts"]
    return tuple(name for name, count in counts.items() if count >= RARE * answered)


def _names_in(answer: str) -> tuple[str, ...]:
    if not answer.lstrip().startswith("{"):
        return ()
    try:
        return tuple(dict.fromkeys(name for name, _ in load_object(answer)))
    except ValueError:
        return ()


def guess_task(rows: pa.Table) -> Task:
    """The task of rows: conversations are ``chat``, JSON objects ``extraction``, few short labels ``classification``."""
    if rows.num_rows == 0:
        return "generation"
    if rows["messages"].null_count * 2 < rows.num_rows:
        return "chat"
    outputs = rows["output"]
    answered = outputs.filter(pc.not_equal(outputs, ""))
    if len(answered) == 0:
        return "generation"
    looks = answered.slice(0, 2_000).to_pylist()
    objects = sum(1 for text in looks if text.strip() == "{}" or _names_in(text))
    if objects * 2 >= len(looks):
        return "extraction"
    distinct = pc.count_distinct(answered).as_py()
    longest = pc.max(pc.utf8_length(answered)).as_py()
    lines = pc.any(pc.match_substring(answered, "\n")).as_py()
    if longest <= _LABEL_CHARACTERS and not lines and distinct * 5 <= len(answered):
        return "classification"
    if sum(1 for text in looks if "```" in text) * 2 >= len(looks):
        return "code"
    return "generation"
