"""A row, a template and a tokenizer become a prompt and an answer. The one render of Tunewise: lengths, training,
chat, evaluation, export and serving all call it.

A rendered row is a list of segments. Each is encoded by itself and the ids are put one behind another, in training
and in generation alike. Prompt and answer are encoded apart because that is what happens when a model is asked: the
prompt's ids are fixed before the first answer token exists, so no token may reach over the border. (Encoded as one
text, ``:`` + ``{`` can become one token that the model never gets to produce.) Earlier turns of a conversation keep
their borders for the same reason. Knows nothing of ids and labels: that is ``examples``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import SpecError
from core.prompts import chat
from core.prompts.compose import REAL, Writer, bos, compose, messages_of
from core.prompts.control import NO_CONTROLS, Controls, control_tokens, controls, forged, unmark
from core.prompts.rowdata import RowData, RowError
from core.records import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Rendered", "RowError", "Segment", "bos", "chat_messages", "render", "stop_strings"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is encoded by itself. ``literal``: places that no control token may cover."""

    text: str
    answer: bool
    literal: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered row: ``segments`` in order, the last one the answer that is asked for (empty text if the row has none).

    Answer segments before the last are earlier assistant turns, which may be trained on too.
    """

    segments: tuple[Segment, ...]
    stop: tuple[str, ...]
    note: str = ""

    @property
    def prompt(self) -> str:
        """All that the model is given."""
        return "".join(s.text for s in self.segments[:-1])

    @property
    def answer(self) -> str:
        """What it must produce, with the text that ends its turn."""
        return self.segments[-1].text


def render(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """The prompt and the answer of a row.

    ``row`` has instruction, input, output, and perhaps messages (list or JSON text) and extra. ``shots`` are worked
    examples with instruction, input, output: turns before the question, unless the template places them itself.
    ``history`` are earlier turns (role, content) of a chat whose next question is ``row``.
    SpecError: the template or the tokenizer doesn't fit; RowError: this row doesn't.
    """
    known = controls(tokenizer)
    data = RowData.of(row, elements, shots, history)
    mark = data.mark(known, template)
    made = compose(template, data, tokenizer, mark)
    segments = tuple(_cleared(text, mark, answer, known) for text, answer in made.pieces)
    if mark:
        plain = compose(template, RowData.of(row, elements, shots, history), tokenizer)
        segments = _unmoved(segments, tuple(Segment(text, answer) for text, answer in plain.pieces), known, data.row["row_id"])
    return Rendered(segments, stop_strings(template, tokenizer), made.note)


def chat_messages(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast | None,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, str]]:
    """The prompt as messages (role, content), for a server that applies the model's chat template itself.

    ``tokenizer``: none where the model is elsewhere. SpecError for a raw template. Such a server reads control tokens
    typed in a row as real ones.
    """
    if template.kind != "chat":
        raise SpecError(f"Template {template.ref} is raw: it has no messages", "Send its text to a completion endpoint instead.")
    known = NO_CONTROLS if tokenizer is None else controls(tokenizer)
    write = Writer(template, RowData.of(row, elements, shots, history), known, "", REAL)
    before, turns = messages_of(write)
    return [*before, *turns]


def stop_strings(template: Template, tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """Texts that end an answer beside the tokenizer's end-of-text token."""
    ends = list(template.stop)
    if template.kind == "chat":
        end = chat.answer_frame(tokenizer, template.enable_thinking).end.strip()
        ends += [end] if end else []
    return tuple(dict.fromkeys(ends))


def _unmoved(marked: tuple[Segment, ...], plain: tuple[Segment, ...], known: Controls, row_id: str) -> tuple[Segment, ...]:
    """The segments as the template writes them without marks, which a slice or a comparison may have seen.

    RowError where it can't be told then which control tokens are the template's own.
    """
    if [s.text for s in marked] == [s.text for s in plain]:
        return marked
    own = [[text for text, counts in control_tokens(known, s.text, s.literal) if counts] for s in marked]
    if own == [[text for text, _ in control_tokens(known, s.text)] for s in plain]:
        return plain
    raise RowError(
        f"Row {row_id}: it holds a control token of the model, and the template cuts or compares the text that holds it",
        "Remove the control token from the row, or write {{ input }} whole.",
    )


def _cleared(text: str, mark: str, answer: bool, known: Controls) -> Segment:
    if not mark:
        return Segment(text, answer)
    clean, places = unmark(text, mark)
    return Segment(clean, answer, forged(known, clean, places))
