"""Rendering many rows at once: what a template does to one row, done to columns.

A plan holds for the rows that answer its guards as its sample row did (``traced``). It gives each segment as parts,
texts between columns; rows it doesn't hold for, and rows whose texts hold (bits of) control tokens, are rendered one
by one. Knows nothing of token counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import SpecError
from core.prompts.compose import Means, compose
from core.prompts.control import Controls, pick_mark
from core.prompts.rowdata import RowData
from core.prompts.sandbox import Text, run
from core.prompts.templates import PARTS
from core.prompts.traced import Guard, Part, Trace, Traced, UntraceableError, merged
from core.prompts.tracing import apply_traced
from core.records import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COLUMNS = ("instruction", "input", "output")
"""What a part's number stands for."""
_SPACE = r"\t\n\x0b\x0c\r\x1c-\x1f\x85\p{Z}"
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """The parts of prompt and answer, for rows that ``holds``."""

    prompt: tuple[Part, ...]
    answer: tuple[Part, ...]
    guards: tuple[Guard, ...]

    def holds(self, rows: pa.Table) -> Mask:
        """For each row whether it is rendered by this plan."""
        mask = np.ones(rows.num_rows, bool)
        for guard in self.guards:
            answers = _answers(guard, texts(guard.parts, rows))
            mask &= answers.to_numpy(zero_copy_only=False) == guard.answer
        return mask


def make_plan(
    template: Template,
    row: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
) -> Plan:
    """What the template does to this row, a single turn without control tokens; UntraceableError if it can't be said."""
    data = RowData.of({**row, "messages": None, "extra": None}, elements, shots, ())
    fixed = [*(getattr(template, name) for name in PARTS), *elements, str(tokenizer.chat_template)]
    fixed += [text for shot in data.shots for text in shot.values() if isinstance(text, str)]
    trace = Trace(pick_mark([*fixed, *(data.row[name] for name in COLUMNS)]))
    values = [data.row[name] for name in COLUMNS]
    traced: dict[str, Any] = {name: Traced(trace, (place,), values[place]) for place, name in enumerate(COLUMNS)}
    data.row = {**data.row, **traced}
    data.answer = traced["output"]

    def read(text: str) -> Any:
        parts = trace.parts_of(text)
        return Traced(trace, parts, "".join(p if isinstance(p, str) else values[p] for p in parts))

    def write(text: Text, variables: Mapping[str, Any], where: str) -> Any:
        if "extra" in text.names:
            raise UntraceableError("other columns are read")
        return read(run(text, variables, where))

    def turns(tokenizer: PreTrainedTokenizerFast, messages: Any, thinking: bool | None) -> Any:
        return read(apply_traced(tokenizer, messages, thinking, trace.mark))

    try:
        made = compose(template, data, tokenizer, means=Means(write, turns))
    except (SpecError, TypeError, AttributeError) as error:
        raise UntraceableError(str(error)) from error
    (prompt, _), (answer, _) = made.pieces
    return Plan(_parts(prompt), _parts(answer), tuple(dict.fromkeys(trace.guards)))


def _parts(text: Any) -> tuple[Part, ...]:
    return text.parts if isinstance(text, Traced) else merged([text])


def texts(parts: Sequence[Part], rows: pa.Table) -> pa.Array:
    """The texts of a part list, one a row (large_string)."""
    if not any(isinstance(part, int) for part in parts):
        return pa.repeat(pa.scalar("".join(map(str, parts)), pa.large_string()), rows.num_rows)
    columns = [
        pa.scalar(part, pa.large_string()) if isinstance(part, str) else rows[COLUMNS[part]].combine_chunks() for part in parts
    ]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, pa.scalar("", pa.large_string()))


def _answers(guard: Guard, column: pa.Array) -> pa.Array:
    match guard.question:
        case "nonempty":
            return pc.greater(pc.binary_length(column), 0)
        case "equals":
            return pc.equal(column, guard.argument)
        case "contains":
            return pc.match_substring(column, guard.argument)
        case "starts":
            return pc.starts_with(column, guard.argument)
        case "ends":
            return pc.ends_with(column, guard.argument)
        case "stripped":
            inside = _SPACE if not guard.argument else "".join(f"\\x{{{ord(c):x}}}" for c in guard.argument)
            return pc.invert(pc.match_substring_regex(column, f"\\A[{inside}]|[{inside}]\\z"))


def suspicious(rows: pa.Table, known: Controls) -> Mask:
    """For each row whether one of its texts holds a control token or a bit of one at an end (``Controls.suspicious``)."""
    mask = np.zeros(rows.num_rows, bool)
    if not known.tokens:
        return mask
    first = _class({c for t in known.tokens for c in (t[0].lower(), t[0].upper())})
    last = _class({c for t in known.tokens for c in (t[-1].lower(), t[-1].upper())})
    near = f".{{0,{min(known.longest, 900)}}}"
    perhaps = f"(?s){first}{near}{last}|{first}{near}[{_SPACE}]*\\z|\\A[{_SPACE}]*{near}{last}"
    for name in COLUMNS:
        column = pc.dictionary_encode(rows[name].combine_chunks())
        values = column.dictionary
        short = pc.less(pc.utf8_length(values), known.longest + 1)
        found = pc.or_(pc.match_substring_regex(values, perhaps), short).to_numpy(zero_copy_only=False)
        candidates = np.flatnonzero(found)
        sure = np.zeros(len(values), bool)
        sure[candidates] = [known.suspicious(text) for text in values.take(pa.array(candidates)).to_pylist()]
        mask |= sure[column.indices.to_numpy()] if len(values) else False
    return mask


def _class(characters: set[str]) -> str:
    return "[" + "".join(f"\\x{{{ord(c):x}}}" for c in sorted("".join(characters))) + "]"


def at_controls(parts: Sequence[Part], known: Controls) -> list[tuple[Part, ...]]:
    """The parts cut before and behind each control token of the fixed texts."""
    made: list[list[Part]] = [[]]
    splitter = re.compile(f"({known.exact.pattern})")
    for part in parts:
        if isinstance(part, int):
            made[-1].append(part)
            continue
        for place, piece in enumerate(splitter.split(part)):
            if place % 2:
                made += [[piece], []]
            elif piece:
                made[-1].append(piece)
    return [tuple(piece) for piece in made if piece]
