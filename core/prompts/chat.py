"""A tokenizer's own chat template: applied to messages, and what its assistant turns begin and end with.

A chat template is foreign code: it runs in ``bounded``, and once for each tokenizer its text is compared with what the
tokenizer's own ``apply_chat_template`` writes. Needs no torch. Knows nothing of Tunewise's templates and rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.errors import SpecError
from core.prompts.bounded import FAULTS, FIXED_DATE, render_chat, render_prefixes
from core.prompts.budget import TooMuchError
from core.prompts.control import controls
from core.prompts.prefixes import Prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, str]]
MAX_SAID = 300
"""Characters of a chat template's own message that are shown."""


class ChatTemplateError(SpecError):
    """The chat template refuses these messages (their roles or their order)."""


@dataclass(frozen=True)
class AnswerFrame:
    """What stands around an assistant's text: white space before it (``lead``), the text that ends the turn (``end``)."""

    lead: str
    end: str


_REFUSALS: tuple[type[Exception], ...] = (TooMuchError, *FAULTS)
_TOO_MUCH = "It loops or writes without end. Take a raw template such as `instruct`, or another model."
_frames: WeakKeyDictionary[Any, dict[tuple[str, bool | None], AnswerFrame]] = WeakKeyDictionary()


def apply(tokenizer: PreTrainedTokenizerFast, messages: Messages, *, thinking: bool | None, open_turn: bool) -> str:
    """The messages as the chat template writes them; ``open_turn`` adds the beginning of the assistant's next turn.

    SpecError: no chat template, one that takes too much, or a system role that it refuses. ChatTemplateError: any other
    refusal.
    """
    if not tokenizer.chat_template:
        raise SpecError(
            "This model's tokenizer has no chat template",
            "It is a base model: use a raw template such as `instruct`, or a model tuned for chat (often named …-Instruct).",
        )
    try:
        return _apply(tokenizer, messages, thinking, open_turn)
    except TooMuchError as error:
        raise SpecError(f"This model's chat template takes too much: {error}", _TOO_MUCH) from error
    except FAULTS as error:
        rest = [m for m in messages if m["role"] != "system"]
        if rest and len(rest) < len(messages) and _works(tokenizer, rest, thinking, open_turn):
            raise SpecError(
                "This model's chat template refuses a system role",
                "Use a template without a system text: put its words at the start of the user text.",
            ) from error
        roles = ", ".join(m["role"] for m in messages[-8:])
        raise ChatTemplateError(
            f"The model's chat template refuses these turns ({roles}): {str(error)[:MAX_SAID] or type(error).__name__}",
            "Most chat templates want user and assistant in turn, the user first.",
        ) from error


def as_served(tokenizer: PreTrainedTokenizerFast, source: str, messages: Messages) -> str | None:
    """What a server that passes no option writes by the chat template ``source``, with an open turn.

    None where it can't, takes too much, or would write today's date.
    """
    if "strftime_now" in source:
        return None
    variables = variables_of(tokenizer, messages, None, True)
    try:
        return render_chat(source, {name: value for name, value in variables.items() if name not in _options(None)})
    except _REFUSALS:
        return None


def prefixes(tokenizer: PreTrainedTokenizerFast, messages: Messages, *, thinking: bool | None) -> Prefixes | None:
    """What ``apply`` with an open turn writes of each beginning of the messages, from one run of the chat template.

    None where one run can't tell, or has a fault: then ``apply`` says what is written of each.
    """
    if not tokenizer.chat_template or not messages:
        return None
    try:
        return render_prefixes(str(tokenizer.get_chat_template()), variables_of(tokenizer, messages, thinking, True))
    except _REFUSALS:
        return None


def _apply(tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, open_turn: bool) -> str:
    return render_chat(str(tokenizer.get_chat_template()), variables_of(tokenizer, messages, thinking, open_turn))


def variables_of(
    tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, open_turn: bool
) -> dict[str, Any]:
    """What every chat template of the tokenizer is given."""
    return {
        "messages": [dict(m) for m in messages],
        "tools": None,
        "documents": None,
        "add_generation_prompt": open_turn,
        **tokenizer.special_tokens_map,
        **_options(thinking),
    }


def _options(thinking: bool | None) -> dict[str, Any]:
    """What is passed to every chat template. ``date_string``: Llama's would write today's, and training differ from use."""
    return {"date_string": FIXED_DATE} | ({} if thinking is None else {"enable_thinking": thinking})


def _works(tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, open_turn: bool) -> bool:
    try:
        _apply(tokenizer, messages, thinking, open_turn)
    except _REFUSALS:
        return False
    return True


def _check_as_library(tokenizer: PreTrainedTokenizerFast, messages: Messages, thinking: bool | None, text: str) -> None:
    """SpecError where transformers' own ``apply_chat_template`` writes another text than ``text``, which came within bounds."""
    if "strftime_now" in str(tokenizer.chat_template):
        return  # it would write today's date
    theirs = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, **_options(thinking))
    if theirs != text:
        raise SpecError(
            "This model's chat template writes something else each time, or here and in transformers",
            "What is trained would not be what is used: take a raw template, or another model.",
        )


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
        _check_as_library(tokenizer, answered, thinking, whole)
        before, found, after = whole.rpartition(probe)
        if not found:
            raise SpecError("This model's chat template leaves out what the assistant says", "Use a raw template.")
        lead = before.removeprefix(opened) if before.startswith(opened) else ""
        match = controls(tokenizer).exact.search(after)
        end = after[: match.end()] if match else after.rstrip("\n") + (tokenizer.eos_token or "")
        known[key] = AnswerFrame("" if lead.strip() else lead, end)
    return known[key]
