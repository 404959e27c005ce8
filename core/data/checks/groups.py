"""Checks of rows against each other: duplicates exact, normalised and near; conflicts; leaks; one wording, many values.

Knows nothing of how the issues are shown or mended.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.checks.base import Finding, of_details, of_mask
from core.data.codes import first_of_group, group_codes, is_first
from core.data.conflicts import conflicting_groups
from core.data.duplicates import Tick, no_tick
from core.data.keys import Codes, question_and_answer_codes
from core.data.near import masked, near_duplicates, near_leaks, near_rows
from core.records import Task

Mask = npt.NDArray[np.bool_]
_SLICE = 10_000
"""Rows whose wordings are Python's texts at a time, so that memory is used again."""
LITERAL = 8
"""A wording counts as a template if it keeps at least so many characters beside its values."""


class Names:
    """Row identifiers by position, for what is said of a row."""

    def __init__(self, rows: pa.Table) -> None:
        self._column = rows["row_id"]

    def __getitem__(self, place: int) -> str:
        name: str = self._column[place].as_py()
        return name


def group_findings(rows: pa.Table, task: Task, threshold: float = 0.8, tick: Tick = no_tick) -> list[Finding]:
    """All findings that compare rows; ``tick`` is called now and then and may raise."""
    names = Names(rows)
    questions, answers = question_and_answer_codes(rows)
    whole = group_codes(questions, answers)
    exact = ~is_first(whole)
    first = first_of_group(whole)
    normal = ~is_first(_normal_codes(rows)) & ~exact
    conflicting = conflicting_groups(questions, answers)
    near = near_rows(rows, threshold, tick)
    like = near_duplicates(rows, near)
    clusters = len(np.unique(near.cluster[list(like)])) if like else 0
    return [
        of_details("exact_duplicate", {int(p): f"equal to {names[int(first[p])]}" for p in np.flatnonzero(exact)}),
        of_mask("normalised_duplicate", normal),
        Finding(
            "near_duplicate",
            np.array(sorted(like), dtype=np.int64),
            [f"like {names[like[p][0]]} ({like[p][1]:.2f})" for p in sorted(like)],
            facts={"near_clusters": clusters},
        ),
        Finding(
            "conflicting_output",
            np.flatnonzero(conflicting),
            [f"question {code}" for code in questions[conflicting].tolist()],
            count=len(np.unique(questions[conflicting])),
        ),
        of_mask("same_template", _templates(rows, tick) if task == "extraction" else np.zeros(rows.num_rows, dtype=np.bool_)),
        *_leaks(rows, names, questions, near),
    ]


def _leaks(rows: pa.Table, names: Names, questions: Codes, near: object) -> list[Finding]:
    in_train = pc.equal(rows["split"], "train").to_numpy()
    held = pc.is_in(rows["split"], pa.array(["dev", "test"], pa.large_string())).to_numpy()
    first_in_train: dict[int, int] = {}
    for place in np.flatnonzero(in_train)[::-1].tolist():
        first_in_train[int(questions[place])] = place
    leaked = held & np.isin(questions, np.unique(questions[in_train]))
    exact = {int(p): f"in train as {names[first_in_train[int(questions[p])]]}" for p in np.flatnonzero(leaked)}
    out, _ = near_leaks(near, questions, in_train, held)  # type: ignore[arg-type]
    nearly = {place: f"nearly in train as {names[other]}" for place, other in out.items() if place not in exact}
    return [of_details("leak_exact", exact), of_details("leak_near", nearly)]


def _normal_codes(rows: pa.Table) -> Codes:
    """Codes of whole rows with width and case folded and white space left out."""
    parts = []
    for name in ("instruction", "input", "output"):
        folded = pc.utf8_lower(pc.utf8_normalize(rows[name], "NFKC"))
        parts.append(pc.replace_substring_regex(folded, r"[\s\x{85}\x{A0}\x{200B}-\x{200F}\x{2028}\x{2029}\x{FEFF}]+", ""))
    if rows["messages"].null_count < rows.num_rows:
        parts.append(rows["messages"])
    return group_codes(*parts)


def _templates(rows: pa.Table, tick: Tick) -> Mask:
    """Rows whose text, its values taken out, is that of another row with other values."""
    wordings, values = _wordings(rows, tick)
    usable: Mask = pc.not_equal(wordings, "").to_numpy()
    if not len(usable):
        return usable
    codes = group_codes(wordings)
    with_values = group_codes(codes, values)
    kinds = np.bincount(codes[is_first(with_values)], minlength=int(codes.max(initial=-1)) + 1)
    found: Mask = usable & (kinds[codes] > 1)
    return found


def _wordings(rows: pa.Table, tick: Tick) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Each row's text without its answer's values, "" where little is left or none was taken out, and those values."""
    texts: list[pa.Array] = []
    values: list[pa.Array] = []
    for part in rows.select(["input", "output"]).to_batches(max_chunksize=_SLICE):
        tick()
        made: list[tuple[str, str]] = []
        for text, answer in zip(part["input"].to_pylist(), part["output"].to_pylist(), strict=True):
            wording, taken = masked(text, answer) if answer.lstrip().startswith("{") and len(answer) > 2 else (text, ())
            literal = len(wording) - sum(len(element) + 2 for element, _ in taken)
            made.append((wording if taken and literal >= LITERAL else "", repr(taken)))
        texts.append(pa.array([wording for wording, _ in made], pa.large_string()))
        values.append(pa.array([taken for _, taken in made], pa.large_string()))
    return pa.chunked_array(texts, pa.large_string()), pa.chunked_array(values, pa.large_string())
