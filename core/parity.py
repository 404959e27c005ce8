"""The parity gate as a command: every template on rows of a dataset and on rows that tend to come apart.

The comparison itself is ``core.prompts.parity``, which training asks before it starts; here our own server's way from a
request to ids comes beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from core.models.tokenizer import load_tokenizer
from core.prompts.parity import ODD_ROWS, Asked, Parity, check_parity
from core.prompts.templates import list_templates
from core.records import ModelRef, Template
from core.serving.protocol import ChatRequest
from core.serving.questions import question_of
from core.serving.served import ServedModel
from core.store import datasets

ROWS = 200


def check_dataset(
    dataset: str,
    version: int | None = None,
    *,
    models: Sequence[ModelRef] = (ModelRef(),),
    templates: Sequence[Template] | None = None,
    limit: int = ROWS,
) -> dict[str, list[Parity]]:
    """For each model (by its label) each template's parity on the first ``limit`` rows and on ``ODD_ROWS``."""
    elements = datasets.get_dataset(dataset).elements
    rows = [*datasets.read_rows(dataset, version, limit=limit).to_pylist(), *ODD_ROWS]
    found: dict[str, list[Parity]] = {}
    for model in models:
        tokenizer = load_tokenizer(model)
        known = list_templates() if templates is None else templates
        found[model.label] = [
            check_parity(t, rows, tokenizer=tokenizer, elements=elements, also={"server": _asked_of_our_server}) for t in known
        ]
    return found


def _asked_of_our_server(asked: Asked) -> list[int]:
    """The row as a request to ``/v1/chat/completions`` of ``core.serving``, any kind of template."""
    row = asked.row
    told = row.get("messages") or ()
    messages: list[dict[str, Any]] = list(json.loads(told) if isinstance(told, str) else told)
    served = ServedModel("run", asked.template, 0, elements=tuple(asked.elements), conversational=bool(messages))
    request: dict[str, Any] = {"model": "run", "messages": [{"role": "user", "content": row.get("input", "")}]}
    if messages:
        request["messages"] = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    else:
        extra = row.get("extra") or {}
        request["extra"] = json.loads(extra) if isinstance(extra, str) else extra
        request["instruction"] = row.get("instruction") or ""
    return question_of(ChatRequest.model_validate(request), served, asked.tokenizer).ids
