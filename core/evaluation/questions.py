"""The rows of an evaluation as the model is asked them. Knows nothing of answers and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import UserError
from core.evaluation.answerer import answerer
from core.evaluation.passages import Library, Retrieved, library_for
from core.evaluation.shots import shots_for
from core.models.tokenizer import load_tokenizer
from core.prompts.examples import answer_ids, prompt_ids
from core.prompts.render import RowError, chat_messages
from core.records import Evaluation
from core.store.datasets import read_rows


@dataclass(frozen=True)
class Question:
    """A row as the model is asked it: ``prompt`` and ``gold`` are token identifiers, or ``messages`` for an endpoint."""

    row: Mapping[str, Any]
    prompt: list[int]
    gold: list[int]
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def row_id(self) -> str:
        """The row's identifier."""
        return str(self.row["row_id"])


def load_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows that are evaluated, ``output`` being the answer to give (of a conversation its last turn). UserError if none."""
    spec = evaluation.spec
    rows: list[dict[str, Any]] = read_rows(spec.dataset, evaluation.version, split=spec.split, limit=spec.limit).to_pylist()
    if not rows:
        raise UserError(
            f"Version {evaluation.version} of {spec.dataset!r} has no rows in split {spec.split!r}",
            "Split the dataset first (`python -m core split`), or name another split.",
        )
    for row in rows:
        if row["messages"]:
            last = json.loads(row["messages"])[-1]
            row["output"] = (last.get("content") or "") if last.get("role") == "assistant" else row["output"]
    return rows


@dataclass
class Asked:
    """All rows as questions, why rows were left out, and the passages that were found for each."""

    questions: list[Question] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    found: dict[str, list[Retrieved]] = field(default_factory=dict)
    library: Library | None = None


def ask(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> Asked:
    """The rows as prompts, and the reason for each row that the template can't put into words."""
    choose, asked = shots_for(evaluation), Asked(library=library_for(evaluation))
    for row in rows:
        given = row
        if asked.library is not None:
            found = asked.found[str(row["row_id"])] = asked.library.find(row, evaluation.task)
            given = {**row, "passages": [{"title": one.passage.title, "text": one.passage.text} for one in found]}
        try:
            asked.questions.append(_question(evaluation, row, given, choose(row)))
        except RowError as fault:
            asked.left_out[str(row["row_id"])] = fault.message
    return asked


def _question(
    evaluation: Evaluation, row: Mapping[str, Any], given: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]
) -> Question:
    template, elements = evaluation.template, evaluation.elements
    if evaluation.spec.arm.endpoint is not None:
        return Question(row, [], [], chat_messages(template, given, tokenizer=None, elements=elements, shots=shots))
    tokenizer = load_tokenizer(answerer(evaluation.spec.arm).model)
    prompt = prompt_ids(template, given, tokenizer=tokenizer, elements=elements, shots=shots)
    wanted = evaluation.spec.perplexity and row["output"]
    gold = answer_ids(template, row, tokenizer=tokenizer, elements=elements) if wanted else []
    return Question(row, prompt, gold)
