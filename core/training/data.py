"""The rows that a run is trained on, as ids and labels: datasets mixed by weight, left-out rows with their reasons.

Ids come from ``core.prompts.examples`` alone. Knows nothing of torch: the page's preview uses it too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from core.models.context import known_context, local_folder
from core.prompts.examples import IGNORED, Dropped, Example, answer_ids, build_example, prompt_ids
from core.prompts.parity import require_parity
from core.prompts.render import RowError
from core.records import DatasetUse, Template, TrainSpec
from core.store.datasets import get_dataset, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMED_IN_LOG = 20
PARITY_ROWS = 50


@dataclass(frozen=True)
class TrainingData:
    """What is trained on. ``examples`` has a row as often as it is seen in an epoch (its dataset's weight)."""

    examples: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    rows: int

    @property
    def shortened(self) -> int:
        """Rows whose input was shortened."""
        return len({example.row_id for example in self.examples if example.kept is not None})

    @property
    def tokens(self) -> int:
        """Tokens of an epoch, prompt and answer, without padding."""
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def learnt_share(self) -> float:
        """The part of the tokens that is learnt."""
        return sum(label != IGNORED for example in self.examples for label in example.labels) / self.tokens

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example.input_ids) for example in self.examples]

    def report(self) -> list[str]:
        """Lines for the log: counts, and each left-out row (the first of them) with its reason."""
        seen = len(self.examples)
        lines = [f"{self.rows:,} rows, {seen:,} examples an epoch, {self.tokens:,} tokens, longest {max(self.lengths):,}"]
        if self.shortened:
            lines.append(f"{self.shortened:,} rows have a shortened input")
        if self.dropped:
            kinds = Counter(row.kind for row in self.dropped)
            lines.append(f"{len(self.dropped):,} rows are left out: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items()))
            lines += [f"  left out {row.row_id}: {row.reason}" for row in self.dropped[:NAMED_IN_LOG]]
        if len(self.dropped) > NAMED_IN_LOG:
            lines.append(f"  and {len(self.dropped) - NAMED_IN_LOG:,} more, all in dropped.jsonl")
        return lines


def training_data(spec: TrainSpec, template: Template, tokenizer: PreTrainedTokenizerFast) -> TrainingData:
    """Examples of all datasets of a spec. UserError if not one row is left.

    A dataset's ``weight`` is how often each of its rows is seen in an epoch: 2 is twice, 0.5 is a seeded half of them.
    """
    examples: list[Example] = []
    dropped: list[Dropped] = []
    rows = 0
    for number, use in enumerate(spec.data):
        made = list(examples_of(use, spec, template, tokenizer))
        rows += len(made)
        dropped += [item for item in made if isinstance(item, Dropped)]
        kept = [item for item in made if isinstance(item, Example)]
        examples += _weighted(kept, use.weight, spec.seed + number)
    if not examples:
        reason = f"the first: {dropped[0].reason}" if dropped else "its datasets are empty"
        raise UserError(f"No row is left to train on ({reason})", "Raise max_length, or look at the data.")
    return TrainingData(tuple(examples), tuple(dropped), rows)


def examples_of(
    use: DatasetUse, spec: TrainSpec, template: Template, tokenizer: PreTrainedTokenizerFast
) -> list[Example | Dropped]:
    """The rows of one dataset's split, in order, each as an example or as left out.

    SpecError where a chat or an evaluation would read the first rows with other tokens than they are trained with.
    """
    spec = within_context(spec)
    elements = get_dataset(use.dataset).elements
    rows = read_rows(use.dataset, use.version, split=use.split, limit=use.limit).to_pylist()
    require_parity(template, rows[:PARITY_ROWS], tokenizer=tokenizer, elements=elements)
    return [example_of(row, spec, template, tokenizer, elements) for row in rows]


def within_context(spec: TrainSpec) -> TrainSpec:
    """The spec with no greater ``max_length`` than its model reads: a longer row could be learnt, but never be answered.

    One token of the model's window is left for an answer to begin with, as the engine asks for.
    """
    folder = local_folder(spec.model)
    context = None if folder is None else known_context(folder)
    if context is None or spec.max_length < context:
        return spec
    return spec.model_copy(update={"max_length": context - 1})


def example_of(
    row: Mapping[str, Any], spec: TrainSpec, template: Template, tokenizer: PreTrainedTokenizerFast, elements: Sequence[str]
) -> Example | Dropped:
    """One row as an example, or as left out."""
    example = build_example(
        template,
        row,
        tokenizer=tokenizer,
        elements=elements,
        max_length=spec.max_length,
        overflow=spec.overflow,
        loss_on=spec.loss_on,
        turns=spec.turns,
        grounded=_grounded(row) if spec.overflow == "shorten_around" else None,
    )
    if isinstance(example, Example) and all(label == IGNORED for label in example.labels[1:]):
        return Dropped(example.row_id, "it has no token to learn", "no_answer")
    return example


def dev_examples(
    use: DatasetUse, spec: TrainSpec, template: Template, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[dict[str, Any], list[int], list[int]]]:
    """Rows of dev with an answer, spread over it so that ``eval_rows`` or a few more remain: row, prompt, gold answer.

    The row's ``output`` is its last answer. They may be longer than ``max_length``.
    """
    elements = get_dataset(use.dataset).elements
    table = read_rows(use.dataset, use.version, split=use.split, limit=use.limit)
    for row in table[:: max(1, table.num_rows // spec.eval_rows)].to_pylist():
        row["output"] = last_answer(row)
        try:
            prompt = prompt_ids(template, row, tokenizer=tokenizer, elements=elements)
            gold = answer_ids(template, row, tokenizer=tokenizer, elements=elements)
        except RowError:
            continue
        if gold:
            yield row, prompt, gold


def last_answer(row: Mapping[str, Any]) -> str:
    """A row's gold answer: its output, or what the last message of its conversation says."""
    return str(json.loads(row["messages"])[-1].get("content") or "") if row["messages"] else str(row["output"] or "")


def dropped_lines(data: TrainingData) -> str:
    """All left-out rows as JSON Lines: ``row_id``, ``kind``, ``reason``, ``tokens``."""
    keys = ("row_id", "kind", "reason", "tokens")
    return "".join(json.dumps({key: getattr(row, key) for key in keys}, ensure_ascii=False) + "\n" for row in data.dropped)


def _weighted(examples: list[Example], weight: float, seed: int) -> list[Example]:
    whole, part = divmod(weight, 1.0)
    extra = round(part * len(examples))
    if whole < 1 and examples:
        extra = max(1, extra)
    chosen = sorted(np.random.default_rng(seed).choice(len(examples), size=extra, replace=False)) if extra else []
    return examples * int(whole) + [examples[int(place)] for place in chosen]


def _grounded(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """The characters [from, to) of the input that hold all gold values that are in it; none if there are none."""
    from core.data.answers import parse_answer
    from core.data.grounding import locate

    text = str(row.get("input") or "")
    found = [locate(value, text) for _, value in parse_answer(str(row.get("output") or "")).pairs]
    spans = [(match.start, match.end) for match in found if match.kind != "absent"]
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None
