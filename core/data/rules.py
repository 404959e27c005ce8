"""The counting rules that profile and operations share: empty rows, readable answers, known elements.

Each takes a table of rows (``core.store.schema.ROWS``) and returns masks over it. Knows nothing of what is
done about the rows that it finds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.answers import Answer, parse_answer
from core.data.codes import distinct
from core.data.elements import infer_elements
from core.records import Dataset, Task

Mask = npt.NDArray[np.bool_]


def blank(column: pa.ChunkedArray) -> Mask:
    """Cells that hold nothing but white space."""
    column = pc.fill_null(column, "")
    found: Mask = pc.or_(pc.equal(column, ""), pc.utf8_is_space(column)).to_numpy()
    return found


def empty_rows(rows: pa.Table, task: Task) -> tuple[Mask, Mask]:
    """Rows that ask nothing, and rows whose answer is blank. ``{}`` is an answer.

    A blank input beside an instruction asks nothing only where the input is the rule: in extraction and
    classification, when at least nine rows in ten have one. A conversation is judged by its turns instead.
    """
    single = pc.is_null(rows["messages"]).to_numpy()
    no_instruction, no_input, no_answer = (blank(rows[name]) for name in ("instruction", "input", "output"))
    needed = task in ("extraction", "classification") and single.any() and (~no_input[single]).mean() >= 0.9
    return single & no_input & (no_instruction | needed), single & no_answer


def parse_column(outputs: pa.ChunkedArray) -> list[Answer]:
    """All answers, each distinct text parsed once."""
    texts, codes = distinct(outputs)
    parsed = [parse_answer(text) for text in texts.to_pylist()]
    return [parsed[code] for code in codes.tolist()]


def known_elements(dataset: Dataset, rows: pa.Table, given: tuple[str, ...] = ()) -> tuple[tuple[str, ...], bool]:
    """The elements of a dataset, and whether they are inferred from these rows rather than given."""
    chosen = given or (() if dataset.elements_inferred else dataset.elements)
    return (chosen, False) if chosen else (infer_elements(rows), True)


def unreadable_answers(rows: pa.Table) -> tuple[Mask, dict[int, str]]:
    """Rows whose answer isn't blank and is no JSON object, and the fault of each by position. Conversations aside."""
    texts, codes = distinct(rows["output"])
    faults = [parse_answer(text).error for text in texts.to_pylist()]
    bad = np.array([bool(fault) for fault in faults], dtype=np.bool_)
    mask: Mask = bad[codes] & ~blank(rows["output"]) & pc.is_null(rows["messages"]).to_numpy()
    return mask, {int(place): faults[codes[place]] for place in np.flatnonzero(mask)}
