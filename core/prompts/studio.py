"""What the template studio shows: a row as coloured pieces, exactly as the trainer gets it, and faults of a template.

Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.errors import SpecError
from core.prompts.control import controls
from core.prompts.examples import IGNORED, Dropped, LossOn, Turns, build_example, empty_answer
from core.prompts.render import render
from core.prompts.templates import check_texts
from core.records import Overflow, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Kind = Literal["prompt", "answer", "special"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One token, or the few that make up one character. ``weight`` is the loss weight: 1 trained, 0 masked."""

    ids: tuple[int, ...]
    text: str
    kind: Kind
    trained: bool

    @property
    def weight(self) -> float:
        return 1.0 if self.trained else 0.0


@dataclass(frozen=True, slots=True)
class MaskView:
    """A row as the trainer gets it: ``pieces`` in order, or the reason why it is dropped.

    ``empty``: the answer says nothing, so only the token that ends it is learnt.
    """

    pieces: tuple[Piece, ...]
    tokens: int
    trained: int
    dropped: str = ""
    note: str = ""
    empty: bool = False


def mask_view(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    max_length: int | None = None,
    overflow: Overflow = "drop",
    loss_on: LossOn = "answer",
    turns: Turns = "all",
) -> MaskView:
    """The ids, labels and loss weights of ``build_example``, as pieces of readable text."""
    made = build_example(
        template,
        row,
        tokenizer=tokenizer,
        elements=elements,
        shots=shots,
        max_length=max_length,
        overflow=overflow,
        loss_on=loss_on,
        turns=turns,
    )
    if isinstance(made, Dropped):
        return MaskView((), made.tokens, 0, made.reason)
    trained = [label != IGNORED for label in made.labels]
    pieces = tuple(_pieces(tokenizer, made.input_ids, trained, made.prompt))
    note = made.note or ("no token of this row is trained on" if not any(trained) else "")
    return MaskView(pieces, len(made.input_ids), sum(trained), note=note, empty=empty_answer(row, turns))


def _pieces(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], trained: Sequence[bool], prompt: int) -> Iterator[Piece]:
    special = {tokenizer.convert_tokens_to_ids(token) for token in controls(tokenizer).tokens}
    held: list[int] = []
    for place, (token, learnt) in enumerate(zip(ids, trained, strict=True)):
        held.append(token)
        text = tokenizer.decode(held, clean_up_tokenization_spaces=False)
        border = place + 1 == len(ids) or place + 1 == prompt or trained[place + 1] != learnt or ids[place + 1] in special
        if text.endswith("\ufffd") and not border and len(held) < 8:
            continue
        kind: Kind = "special" if token in special else "answer" if place >= prompt else "prompt"
        yield Piece(tuple(held), text, kind, learnt)
        held = []


def faults(template: Template, tokenizer: PreTrainedTokenizerFast, elements: Sequence[str] = ()) -> list[SpecError]:
    """What is wrong with a template for a tokenizer, tried on a made-up row; empty if nothing is."""
    sample = {"row_id": "sample", "instruction": "INSTRUCTION", "input": "INPUT TEXT", "output": "OUTPUT TEXT"}
    try:
        check_texts(template)
        made = render(template, sample, tokenizer=tokenizer, elements=elements)
    except SpecError as error:
        return [error]
    found: list[SpecError] = []
    if "INPUT TEXT" not in made.prompt:
        hint = "Write {{ input }} into the user text; if it is there, the model's chat template leaves it out."
        found.append(SpecError(f"Template {template.ref}: the prompt doesn't hold the input", hint))
    if "OUTPUT TEXT" not in made.answer:
        found.append(SpecError(f"Template {template.ref}: the answer doesn't hold the output", "Write {{ output }} into it."))
    return found
