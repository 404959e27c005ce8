"""The parity gate: that a row's tokens are the same ids in every use, before anything is trained on them.

Compares what the uses really call. Knows nothing of datasets in the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from core.errors import SpecError
from core.prompts import chat
from core.prompts.control import backend, controls, text_ids
from core.prompts.examples import Dropped, Example, answer_ids, build_example, prompt_ids
from core.prompts.render import chat_messages, render
from core.records import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = Mapping[str, Any]
Use = Callable[["Asked"], list[int] | None]


@dataclass(frozen=True)
class Asked:
    """A row under a template, and how training writes it."""

    template: Template
    row: Row
    tokenizer: PreTrainedTokenizerFast
    elements: Sequence[str]
    example: Example

    @property
    def prompt(self) -> list[int]:
        """The ids before the answer, in training."""
        return self.example.input_ids[: self.example.prompt]


@dataclass(frozen=True)
class Mismatch:
    """Two uses that differ: the first place, and the text around it in training and in the other use."""

    use: str
    row_id: str
    at: int
    trained: str
    other: str


@dataclass(frozen=True)
class Parity:
    """What was compared for a template and a tokenizer; ``problem``: why the template doesn't fit at all."""

    template: str
    rows: int
    uses: dict[str, int]
    mismatches: tuple[Mismatch, ...] = ()
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether every use has the same ids as training."""
        return not self.mismatches and not self.problem


def _evaluation(asked: Asked) -> list[int]:
    """An evaluation's prompt with the gold answer that perplexity scores."""
    bare = {**asked.row, "output": None} if not asked.row.get("messages") else asked.row
    options: dict[str, Any] = {"tokenizer": asked.tokenizer, "elements": asked.elements}
    return [*prompt_ids(asked.template, bare, **options), *answer_ids(asked.template, asked.row, **options)]


def _chat(asked: Asked) -> list[int]:
    """The same question typed into a chat, earlier turns as its history."""
    messages = _messages(asked.row)
    options: dict[str, Any] = {"tokenizer": asked.tokenizer, "elements": asked.elements}
    if not messages:
        typed = {name: asked.row.get(name, "") for name in ("instruction", "input", "extra")}
        return prompt_ids(asked.template, typed, **options)
    *before, question = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    return prompt_ids(asked.template, {"input": question["content"]}, **options, history=before)


def _export(asked: Asked) -> list[int] | None:
    """The rendered text, encoded in one piece by an engine that knows only the tokenizer's file.

    Not comparable where a row holds control tokens (such an engine can't tell them from real ones).
    """
    made = render(asked.template, asked.row, tokenizer=asked.tokenizer, elements=asked.elements)
    if any(segment.literal for segment in made.segments):
        return None
    ids: list[int] = backend(asked.tokenizer).encode(made.prompt, add_special_tokens=False).ids
    return ids


def _serving(asked: Asked) -> list[int] | None:
    """What a server without our templates makes of it: of a raw template's text in ``/completions``, else of the messages,
    which it puts into the model's own chat template. Neither knows control tokens typed in a row from real ones.
    """
    if asked.template.kind != "chat":
        made = render(asked.template, asked.row, tokenizer=asked.tokenizer, elements=asked.elements)
        return None if any(segment.literal for segment in made.segments) else text_ids(asked.tokenizer, made.prompt)
    messages = chat_messages(asked.template, asked.row, tokenizer=asked.tokenizer, elements=asked.elements)
    if any(controls(asked.tokenizer).suspicious(m["content"]) for m in messages):
        return None
    text = chat.apply(asked.tokenizer, messages, thinking=asked.template.enable_thinking, open_turn=True)
    ids: list[int] = asked.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


USES: dict[str, Use] = {"evaluation": _evaluation, "chat": _chat, "export": _export, "serving": _serving}


def check_parity(
    template: Template,
    rows: Iterable[Row],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    most: int = 20,
    also: Mapping[str, Use] = MappingProxyType({}),
) -> Parity:
    """Compare every use (of ``USES`` and ``also``) with training on these rows; at most ``most`` mismatches are named.

    Rows that can't be trained on are passed over. ``uses`` counts the rows that each use could be compared on.
    """
    uses = {**USES, **also}
    compared = dict.fromkeys(uses, 0)
    found: list[Mismatch] = []
    count = 0
    try:
        for row in rows:
            example = build_example(template, row, tokenizer=tokenizer, elements=elements)
            if isinstance(example, Dropped):
                continue
            count += 1
            asked = Asked(template, row, tokenizer, elements, example)
            for name, use in uses.items():
                ids = use(asked)
                if ids is None:
                    continue
                compared[name] += 1
                expected = example.input_ids if name == "evaluation" else asked.prompt
                if ids != expected and len(found) < most:
                    found.append(_mismatch(name, str(row.get("row_id", "")), expected, ids, tokenizer))
    except SpecError as error:
        return Parity(template.ref, count, compared, tuple(found), error.message)
    return Parity(template.ref, count, compared, tuple(found))


def require_parity(
    template: Template, rows: Iterable[Row], *, tokenizer: PreTrainedTokenizerFast, elements: Sequence[str] = ()
) -> None:
    """SpecError if any use would read these rows with other ids than training learns them with."""
    parity = check_parity(template, rows, tokenizer=tokenizer, elements=elements)
    if parity.problem:
        raise SpecError(parity.problem, "`python -m core tokens NAME --parity` shows every template.")
    if parity.mismatches:
        first = parity.mismatches[0]
        raise SpecError(
            f"Template {template.ref}: row {first.row_id} has other tokens in {first.use} than in training, from token "
            f"{first.at} on: {first.other!r} instead of {first.trained!r}",
            "What is trained would not be what is used. `python -m core tokens NAME --parity` shows every row.",
            tuple(f"{m.use}, row {m.row_id}, token {m.at}" for m in parity.mismatches),
        )


def _mismatch(use: str, row_id: str, expected: list[int], ids: list[int], tokenizer: PreTrainedTokenizerFast) -> Mismatch:
    at = next((i for i, (a, b) in enumerate(zip(expected, ids, strict=False)) if a != b), min(len(expected), len(ids)))
    near = slice(max(0, at - 3), at + 8)
    return Mismatch(use, row_id, at, tokenizer.decode(expected[near]), tokenizer.decode(ids[near]))


def _messages(row: Row) -> list[dict[str, Any]]:
    value = row.get("messages")
    return list(json.loads(value) if isinstance(value, str) else value or ())


ODD_ROWS: tuple[Row, ...] = (
    {"row_id": "odd-zh", "instruction": "抽取姓名", "input": "高勇：男，\n中国国籍。", "output": '{"姓名": ["高勇"]}'},
    {"row_id": "odd-en", "instruction": "Extract", "input": "Ann's bill: $12.50 ", "output": '{"person": ["Ann"]}'},
    {"row_id": "odd-spaces", "instruction": " lead", "input": "\n\n  tail \t\n", "output": " x "},
    {"row_id": "odd-empty", "instruction": "", "input": "x", "output": ""},
    {"row_id": "odd-control", "instruction": "<|im_end|>", "input": "a</s><|endoftext|>b<eoa>", "output": "<|im_start|>"},
    {
        "row_id": "odd-talk",
        "messages": [
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "您好！"},
            {"role": "user", "content": " and now? "},
            {"role": "assistant", "content": "yes"},
        ],
    },
)
"""Rows that tend to come apart: scripts, white space at the ends, nothing, control tokens, several turns."""
