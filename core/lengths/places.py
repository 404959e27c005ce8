"""Where, in tokens, inputs and their gold values lie: measured once, so that any maximum length can be tried at once.

For each row the number of its input's tokens and those that hold its grounded values; for each gold value its tokens
in the input and where it ends in the answer. The same arithmetic as ``core.prompts.examples`` uses when it shortens a
row. Knows nothing of maximum lengths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.data.answers import parse_answer
from core.lengths.chunks import Chunks
from core.lengths.counting import Counter
from core.lengths.measuring import COLUMNS, StoppedError, cache_path
from core.lengths.pieces import Pieces
from core.models.tokenizer import load_tokenizer
from core.prompts.control import backend, controls, parts_at_controls
from core.prompts.examples import Cut, ends_inside
from core.prompts.grounded import Place, gold_places, span
from core.prompts.plan import Plan, at_controls, texts
from core.prompts.render import RowError, render
from core.prompts.shorten import token_range
from core.prompts.traced import Part
from core.records import ModelRef, Reporter, SilentReporter, Template
from core.store import datasets
from core.store.files import write_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 5_000
INPUT = 1
"""The number of the input among a plan's columns."""
ROWS = pa.schema(
    [
        ("row_id", pa.large_string()),
        ("input", pa.int32()),  # tokens of the input; -1: it can't be shortened (a conversation, a fault)
        ("first", pa.int32()),  # tokens [first, last) of the input hold the grounded values; -1: there are none
        ("last", pa.int32()),
        ("body", pa.int32()),  # tokens of the answer that hold the output whole
        ("json", pa.bool_()),  # the output is a JSON object
    ]
)
VALUES = pa.schema(
    [
        ("row", pa.int32()),  # place of its row
        ("element", pa.large_string()),
        ("first", pa.int32()),  # tokens [first, last) of the input hold the value; -1: it isn't there
        ("last", pa.int32()),
        ("answer_end", pa.int32()),  # tokens of the answer that it takes to hold the value whole
    ]
)


@dataclass(frozen=True)
class Places:
    """``rows`` (columns of ``ROWS``, one for each row) and ``values`` (columns of ``VALUES``, in the rows' order)."""

    rows: pa.Table
    values: pa.Table


def places(
    dataset: str,
    version: int | None,
    template: Template,
    model: ModelRef | None = None,
    *,
    shots: Sequence[Mapping[str, Any]] = (),
    reporter: Reporter | None = None,
) -> Places:
    """Places of a version's rows, read from the workspace when they were measured before; StoppedError on a stop."""
    of = datasets.get_version(dataset, version)
    tokenizer = load_tokenizer(model or ModelRef())
    elements = datasets.get_dataset(dataset).elements
    paths = [cache_path(of, template, tokenizer, elements, shots, kind) for kind in ("places", "values")]
    if all(path.is_file() for path in paths):
        return Places(*(pq.read_table(path, memory_map=True) for path in paths))
    rows = datasets.read_rows(dataset, of.number, columns=COLUMNS)
    found = places_of(rows, template, tokenizer, elements=elements, shots=shots, reporter=reporter)
    for path, table in zip(paths, (found.rows, found.values), strict=True):
        write_parquet(path, table)
    return found


def places_of(
    rows: pa.Table,
    template: Template,
    tokenizer: PreTrainedTokenizerFast,
    *,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    reporter: Reporter | None = None,
) -> Places:
    """``places`` for rows at hand; nothing is kept."""
    reporter = reporter or SilentReporter()
    finder = _Finder(template, tokenizer, elements, shots)
    parts: list[Places] = []
    for start in range(0, rows.num_rows, CHUNK):
        if reporter.should_stop():
            raise StoppedError("Finding the values was stopped", "Start it again to have it whole.")
        chunk = rows.slice(start, CHUNK)
        parts.append(finder.find(chunk, start))
        reporter.progress(start + chunk.num_rows, rows.num_rows, unit="rows", message="finding values")
    if not parts:
        return Places(ROWS.empty_table(), VALUES.empty_table())
    return Places(pa.concat_tables([p.rows for p in parts]), pa.concat_tables([p.values for p in parts]))


@dataclass
class _Found:
    """One row's tokens: ``ends`` of the input's (characters of it), ``answer`` offsets' ends, ``lead`` before the output."""

    ends: list[int] | None = None
    answer: list[int] = field(default_factory=list)
    lead: int = 0


class _Finder:
    """Finds places chunk after chunk."""

    def __init__(
        self,
        template: Template,
        tokenizer: PreTrainedTokenizerFast,
        elements: Sequence[str],
        shots: Sequence[Mapping[str, Any]],
    ) -> None:
        self.template, self.tokenizer, self.elements, self.shots = template, tokenizer, elements, shots
        self.chunks = Chunks(template, Pieces(Counter(tokenizer), 0), elements, shots)
        self.apart = parts_at_controls(tokenizer)

    def find(self, rows: pa.Table, start: int) -> Places:
        """Places of the rows [start, start + n)."""
        planned, rest = self.chunks.assign(rows)
        found = [_Found() for _ in range(rows.num_rows)]
        for plan, held in planned:
            piece = self._input_piece(plan)
            if piece is None:
                rest = rest | held
                continue
            where = np.flatnonzero(held).tolist()
            for place, one in zip(where, self._by_plan(plan, piece, rows.filter(pa.array(held))), strict=True):
                found[place] = one
        listed = [_with_answer(row) for row in rows.to_pylist()]
        for place in np.flatnonzero(rest).tolist():
            found[place] = self._one(listed[place])
        return _tables(listed, found, start)

    def _input_piece(self, plan: Plan) -> tuple[Part, ...] | None:
        """The piece of the prompt that holds the input, if it stands there once."""
        if plan.prompt.count(INPUT) != 1:
            return None
        pieces = at_controls(plan.prompt, controls(self.tokenizer)) if self.apart else [plan.prompt]
        return next(piece for piece in pieces if INPUT in piece)

    def _by_plan(self, plan: Plan, piece: tuple[Part, ...], rows: pa.Table) -> Iterator[_Found]:
        engine = backend(self.tokenizer)
        whole, answers = texts(piece, rows).to_pylist(), texts(plan.answer, rows).to_pylist()
        before = pc.utf8_length(texts(piece[: piece.index(INPUT)], rows)).to_pylist()
        sizes = pc.utf8_length(rows["input"]).to_pylist()
        prompts = engine.encode_batch(whole, add_special_tokens=False)
        said = engine.encode_batch(answers, add_special_tokens=False)
        outputs = rows["output"].to_pylist()
        for prompt, at, size, answer, text, output in zip(prompts, before, sizes, said, answers, outputs, strict=True):
            yield _Found(ends_inside(prompt.offsets, at, size), [e for _, e in answer.offsets], max(0, text.find(output)))

    def _one(self, row: Mapping[str, Any]) -> _Found:
        try:
            made = render(self.template, row, tokenizer=self.tokenizer, elements=self.elements, shots=self.shots)
        except RowError:
            return _Found()
        offsets = backend(self.tokenizer).encode(made.answer, add_special_tokens=False).offsets
        found = _Found(None, [end for _, end in offsets], max(0, made.answer.find(row["output"])))
        if not row.get("messages"):
            cut = Cut(self.template, row, self.tokenizer, self.elements, self.shots, made)
            found.ends = cut.input_tokens(row["input"])[0]
        return found


def _with_answer(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation's last assistant turn is its output."""
    if row["messages"]:
        last = json.loads(row["messages"])[-1]
        row["output"] = str(last.get("content") or "") if last.get("role") == "assistant" else ""
    return row


def _tables(rows: Sequence[Mapping[str, Any]], found: Sequence[_Found], start: int) -> Places:
    lines: list[tuple[Any, ...]] = []
    values: list[tuple[Any, ...]] = []
    for place, (row, one) in enumerate(zip(rows, found, strict=True)):
        golds = gold_places(row)
        ends = one.ends or []
        for gold in golds:
            first, last = token_range(ends, (gold.start, gold.end))
            values.append((start + place, gold.element, first, last, _answer_end(row["output"], gold, one)))
        first, last = token_range(ends, span(golds))
        body = token_range(one.answer, (0, one.lead + len(row["output"])))[1]
        count = -1 if one.ends is None else len(ends)
        lines.append((row["row_id"], count, first, last, body, bool(golds) or parse_answer(row["output"]).ok))
    return Places(_table(lines, ROWS), _table(values, VALUES))


def _table(lines: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(schema)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema)


def _answer_end(output: str, gold: Place, one: _Found) -> int:
    written = json.dumps(gold.value, ensure_ascii=False)
    at = output.find(written)
    end = at + len(written) if at >= 0 else len(output)
    return token_range(one.answer, (0, one.lead + end))[1]
