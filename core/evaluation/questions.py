"""The rows of an evaluation as the model is asked them. Knows nothing of answers and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.evaluation.answerer import answerer
from core.evaluation.shots import shots_for
from core.models.tokenizer import load_tokenizer
from core.prompts.examples import answer_ids, prompt_ids
from core.prompts.render import RowError
from core.records import Evaluation
from core.store.datasets import read_rows


@dataclass(frozen=True)
class Question:
    """A row as the model is asked it."""

    row: Mapping[str, Any]
    prompt: list[int]
    gold: list[int]

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


def ask(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Question], dict[str, str]]:
    """The rows as prompts, and the reason for each row that the template can't put into words."""
    template, elements = evaluation.template, evaluation.elements
    tokenizer = load_tokenizer(answerer(evaluation.spec.arm).model)
    choose = shots_for(evaluation)
    questions, left_out = [], {}
    for row in rows:
        try:
            prompt = prompt_ids(template, row, tokenizer=tokenizer, elements=elements, shots=choose(row))
            wanted = evaluation.spec.perplexity and row["output"]
            gold = answer_ids(template, row, tokenizer=tokenizer, elements=elements) if wanted else []
        except RowError as fault:
            left_out[str(row["row_id"])] = fault.message
            continue
        questions.append(Question(row, prompt, gold))
    return questions, left_out
