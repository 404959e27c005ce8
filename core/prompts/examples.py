"""What is trained on: ids and labels of a row, and the ids that a generation starts from. The only builder of both.

An answer is never cut. A row longer than ``max_length`` is dropped, with a reason, or its input text is shortened.
Labels are -100 where nothing is learnt; a trained answer ends with the token that ends a generation.
Knows nothing of files, models and trainers: the tokenizer is passed in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.errors import SpecError
from core.prompts.control import backend, encode, pick_mark
from core.prompts.grounded import gold_places, span
from core.prompts.render import Rendered, RowError, Segment, render
from core.prompts.shorten import characters, token_range, window
from core.records import Overflow, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LossOn = Literal["answer", "all"]
Turns = Literal["all", "last"]
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the trainer gets it. ``input_ids`` and ``labels`` are equally long; ``prompt`` ids come before the answer.

    ``kept`` is the part [from, to) of the input's characters that stayed, none if the whole did.
    """

    row_id: str
    input_ids: list[int]
    labels: list[int]
    prompt: int
    kept: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is not trained on. ``tokens`` is its length where that is the reason."""

    row_id: str
    reason: str
    kind: Literal["too_long", "no_answer", "row_fault"]
    tokens: int = 0


def prompt_ids(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """The ids that a generation starts from; the same as those before the answer in training."""
    made = render(template, row, tokenizer=tokenizer, elements=elements, shots=shots, history=history)
    return _ids(tokenizer, made.segments[:-1])


def answer_ids(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
) -> list[int]:
    """The ids of the gold answer with what ends it, as they are trained on and as perplexity scores them."""
    return _ids(tokenizer, render(template, row, tokenizer=tokenizer, elements=elements).segments[-1:])


def build_example(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    max_length: int | None = None,
    overflow: Overflow = "drop",
    loss_on: LossOn = "answer",
    turns: Turns = "all",
    shots: Sequence[Mapping[str, Any]] = (),
    grounded: tuple[int, int] | None = None,
) -> Example | Dropped:
    """Ids and labels of a row, or why there are none.

    ``loss_on`` "all" learns the prompt too; ``turns`` "all" learns every assistant turn of a conversation, "last"
    its last. ``grounded`` are the characters [from, to) of the input that ``shorten_around`` keeps (the gold values').
    SpecError when the template doesn't fit the tokenizer; a fault of the row alone is a Dropped.
    """
    row_id = str(row.get("row_id", ""))
    try:
        made = render(template, row, tokenizer=tokenizer, elements=elements, shots=shots)
        if not made.answer:
            return Dropped(row_id, "it has no answer to learn", "no_answer")
        example = _labelled(row_id, made, tokenizer, loss_on, turns)
        if max_length is None or len(example.input_ids) <= max_length:
            return example
        length = len(example.input_ids)
        if overflow == "drop":
            return Dropped(row_id, f"{length:,} tokens, more than {max_length:,}", "too_long", length)
        if row.get("messages"):
            return Dropped(row_id, f"{length:,} tokens; a conversation has no input to shorten", "too_long", length)
        if overflow == "shorten_around" and grounded is None:
            grounded = span(gold_places(row))
        cut = Cut(template, row, tokenizer, elements, shots, made)
        found = cut.fit(max_length, overflow, grounded)
        if found is None:
            rest = f"{length:,} tokens; prompt and answer are too long even without the input"
            return Dropped(row_id, rest, "too_long", length)
        shorter, kept = found
        return _labelled(row_id, shorter, tokenizer, loss_on, turns, kept)
    except RowError as fault:
        return Dropped(row_id, fault.message, "row_fault")


def empty_answer(row: Mapping[str, Any], turns: Turns = "all") -> bool:
    """Whether a row's answer (all of a conversation's, or its last) says nothing: only the token that ends it is learnt."""
    if messages := row.get("messages"):
        said = json.loads(messages) if isinstance(messages, str) else messages
        answers = [str(m["content"] or "") for m in said if m["role"] == "assistant"]
        return bool(answers) and not any(text.strip() for text in (answers if turns == "all" else answers[-1:]))
    output = row.get("output")
    return output is not None and not str(output).strip()


def _ids(tokenizer: PreTrainedTokenizerFast, segments: Iterable[Segment]) -> list[int]:
    return [token for s in segments for token in encode(tokenizer, s.text, s.literal)]


def _labelled(
    row_id: str,
    made: Rendered,
    tokenizer: PreTrainedTokenizerFast,
    loss_on: LossOn,
    turns: Turns,
    kept: tuple[int, int] | None = None,
) -> Example:
    ids: list[int] = []
    labels: list[int] = []
    prompt = 0
    for place, segment in enumerate(made.segments):
        piece = encode(tokenizer, segment.text, segment.literal)
        last = place == len(made.segments) - 1
        trained = loss_on == "all" or (segment.answer and (last or turns == "all"))
        prompt += 0 if last else len(piece)
        ids += piece
        labels += piece if trained else [IGNORED] * len(piece)
    return Example(row_id, ids, labels, prompt, kept, made.note)


@dataclass
class Cut:
    """Shortens the input of one row until the whole fits. ``whole``: the row as it is rendered uncut."""

    template: Template
    row: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerFast
    elements: Sequence[str]
    shots: Sequence[Mapping[str, Any]]
    whole: Rendered

    def fit(self, max_length: int, policy: Overflow, grounded: tuple[int, int] | None) -> tuple[Rendered, tuple[int, int]] | None:
        """The row with as much of its input as fits, and which characters those are; none if nothing helps."""
        text = str(self.row.get("input") or "")
        ends, rest = self.input_tokens(text)
        first, last = token_range(ends, grounded)
        budget = max_length - rest
        while budget >= 0 and text:
            span = characters(ends, *window(policy, budget, len(ends), first, last))
            made = self.shortened(text, span)
            over = sum(len(encode(self.tokenizer, s.text, s.literal)) for s in made.segments) - max_length
            if over <= 0:
                return made, span
            if budget == 0:
                break
            budget = max(0, budget - over)
        return None

    def shortened(self, text: str, span: tuple[int, int]) -> Rendered:
        row = {**self.row, "input": text[span[0] : span[1]]}
        return render(self.template, row, tokenizer=self.tokenizer, elements=self.elements, shots=self.shots)

    def input_tokens(self, text: str) -> tuple[list[int], int]:
        """Where each token of the input ends (characters of the input), and how many tokens all else has."""
        prompt = self.whole.segments[0]
        total = sum(len(encode(self.tokenizer, s.text, s.literal)) for s in self.whole.segments)
        place = None if prompt.literal else self._place(text, prompt.text)
        engine = backend(self.tokenizer)
        if place is None:
            ends = [end for _, end in engine.encode(text, add_special_tokens=False).offsets]
        else:
            at, size = place
            ends = ends_inside(engine.encode(prompt.text, add_special_tokens=False).offsets, at, size)
        return ends, max(0, total - len(ends))

    def _place(self, text: str, prompt: str) -> tuple[int, int] | None:
        """Where the input begins in the prompt, and how many of its characters are there.

        White space at its ends may be missing; none if it isn't there once and whole.
        """
        core = text.strip()
        size = len(text.rstrip())
        at = prompt.find(core) - (size - len(core))
        if not core or core not in prompt:
            return None
        if prompt.count(core) == 1:
            whole = prompt.find(text) >= 0
            return at, len(text) if whole else size
        mark = pick_mark([prompt, str(self.row.get("output") or "")])
        row = {**self.row, "input": mark + text + mark}
        try:
            marked = render(self.template, row, tokenizer=self.tokenizer, elements=self.elements, shots=self.shots).prompt
        except SpecError:
            return None
        at = marked.find(mark)
        inside = marked[at + 1 : at + 1 + len(text)]
        sure = marked.count(mark) == 2 and inside == text and marked.replace(mark, "") == prompt
        return (at, len(text)) if sure else None


def ends_inside(offsets: Sequence[tuple[int, int]], at: int, length: int) -> list[int]:
    """Ends, counted from ``at``, of the tokens that lie wholly in the characters [at, at + length)."""
    return [end - at for start, end in offsets if start >= at and at < end <= at + length]
