"""A tokenizer's own chat template: applied to messages, and what its assistant turns begin and end with.

Goes through the tokenizer's ``apply_chat_template`` (which runs it in transformers' sandbox and needs no torch).
Knows nothing of Tunewise's templates and rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from core.errors import SpecError
from core.prompts.control import controls

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, str]]
FIXED_DATE = "26 Jul 2024"
"""Passed as ``date_string``: Llama's templates would write today's date, and training would differ from use."""


class ChatTemplateError(SpecError):
    """The chat template refuses these messages (their roles or their order)."""


@dataclass(frozen=True)
class AnswerFrame:
    """What stands around an assistant's text: white space before it (``lead``), the text that ends the turn (``end``)."""

    lead: str
    end: str


_frames: WeakKeyDictionary[Any, dict[tuple[str, bool | None], AnswerFrame]] = WeakKeyDictionary()


def apply(tokenizer: PreTrainedTokenizerFast, messages: Messages, *, thinking: bool | None, open_turn: bool) -> str:
    """The messages as the chat template writes them; ``open_turn`` adds the beginning of the assistant's next turn.

    SpecError: no chat template, or a system role that it refuses. ChatTemplateError: any other refusal.
    """
    if not tokenizer.chat_template:
        raise SpecError(
            "This model's tokenizer has no chat template",
            "It is a base model: use a raw template such as `instruct`, or a model tuned for chat (often named …-Instruct).",
        )
    try:
        return _apply(tokenizer, messages, thinking, open_turn)
    except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
        rest = [m for m in messages if m["role"] != "system"]
        if rest and len(rest) < len(messages) and _works(tokenizer, rest, thinking, open_turn):
            raise SpecError(
                "This model's chat template refuses a system role",
                "Use a template without a system text: put its words at the start of the user text.",
            ) from error
        roles = ", ".join(m["role"] for m in messages)
        raise ChatTemplateError(
            f"The model's chat template refuses these turns ({roles}): {error}",
            "Most chat templates want user and assistant in turn, the user first.",
        ) from error


def _apply(tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, open_turn: bool) -> str:
    options: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    text: str = tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=False, add_generation_prompt=open_turn, date_string=FIXED_DATE, **options
    )
    return text


def _works(tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, open_turn: bool) -> bool:
    try:
        _apply(tokenizer, messages, thinking, open_turn)
    except (TemplateError, TypeError, ValueError, KeyError, IndexError):
        return False
    return True


def answer_frame(tokenizer: PreTrainedTokenizerFast, thinking: bool | None) -> AnswerFrame:
    """What the chat template writes around an assistant's text, found with a probe.

    The end is everything up to the first control token behind the text: that token ends the generation, so
    nothing behind it is learnt. A chat template that writes none there: the tokenizer's end-of-text token.
    """
    known = _frames.setdefault(tokenizer, {})
    key = (str(tokenizer.chat_template), thinking)
    if key not in known:
        probe = "PROBE9A"
        question = [{"role": "user", "content": "q"}]
        opened = apply(tokenizer, question, thinking=thinking, open_turn=True)
        answered = [*question, {"role": "assistant", "content": probe}]
        whole = apply(tokenizer, answered, thinking=thinking, open_turn=False)
        before, found, after = whole.rpartition(probe)
        if not found:
            raise SpecError("This model's chat template leaves out what the assistant says", "Use a raw template.")
        lead = before.removeprefix(opened) if before.startswith(opened) else ""
        match = controls(tokenizer).exact.search(after)
        end = after[: match.end()] if match else after.rstrip("\n") + (tokenizer.eos_token or "")
        known[key] = AnswerFrame("" if lead.strip() else lead, end)
    return known[key]
