"""What makes two rows the same: the question that is asked, the answer given, all of it.

A row of a single turn asks (instruction, input) and answers output. A conversation asks all of its turns
before the last one of the assistant, which is the answer. Knows nothing of what is done about it.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.data.codes import group_codes

Codes = npt.NDArray[np.int64]


def _last_answer(text: str) -> tuple[str, str]:
    turns = json.loads(text)
    if turns and turns[-1].get("role") == "assistant":
        return json.dumps(turns[:-1], ensure_ascii=False), turns[-1].get("content") or ""
    return text, ""


def _split_messages(rows: pa.Table) -> tuple[pa.Array, pa.Array] | None:
    column = rows["messages"]
    if column.null_count == len(column):
        return None
    halves = [(None, None) if text is None else _last_answer(text) for text in column.to_pylist()]
    asked, answered = zip(*halves, strict=True)
    return pa.array(asked, pa.large_string()), pa.array(answered, pa.large_string())


def question_codes(rows: pa.Table) -> Codes:
    """A number for each row, equal where the same is asked."""
    return question_and_answer_codes(rows)[0]


def question_and_answer_codes(rows: pa.Table) -> tuple[Codes, Codes]:
    """Numbers for what is asked and for what is answered."""
    halves = _split_messages(rows)
    question, answer = [rows["instruction"], rows["input"]], [rows["output"]]
    if halves is not None:
        question.append(pa.chunked_array([halves[0]]))
        answer.append(pa.chunked_array([halves[1]]))
    return group_codes(*question), group_codes(*answer)


def whole_codes(rows: pa.Table) -> Codes:
    """A number for each row, equal where instruction, input, output and conversation are equal."""
    columns = [rows["instruction"], rows["input"], rows["output"]]
    if rows["messages"].null_count < rows.num_rows:
        columns.append(rows["messages"])
    return group_codes(*columns)


def source_texts(rows: pa.Table) -> pa.ChunkedArray:
    """The text that values are looked for in: the input, or the instruction where there is no input."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(rows["input"]), ""), rows["instruction"], rows["input"])


def spoken_texts(rows: pa.Table) -> pa.ChunkedArray:
    """For each conversation the text of its turns, a line each; null for rows of a single turn."""
    column = rows["messages"]
    if column.null_count == len(column):
        return column
    spoken = [
        None if text is None else "\n".join(turn.get("content") or "" for turn in json.loads(text)) for text in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(spoken, pa.large_string())])
