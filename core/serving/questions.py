"""A request's messages become the ids that the model is asked with: a row, rendered as chat and training do.

The last user message is the row's input; the system message is its instruction, unless ``instruction`` is given
apart or the run was trained on conversations: then it is the system text. Earlier turns are the chat's history.
Knows nothing of HTTP and engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.prompts.control import text_ids
from core.prompts.examples import prompt_ids
from core.prompts.render import stop_strings
from core.records import Template
from core.serving.faults import RequestError
from core.serving.protocol import ChatRequest, CompletionRequest, Message
from core.serving.served import ServedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Question:
    """Ids to continue, and the texts that end the answer."""

    ids: list[int]
    stop: tuple[str, ...] = ()


def question_of(request: ChatRequest | CompletionRequest, served: ServedModel, tokenizer: PreTrainedTokenizerFast) -> Question:
    """What the model is asked. RequestError 400 or a UserError for messages that can't be put into words."""
    if isinstance(request, CompletionRequest):
        return Question(_plain_ids(request, tokenizer))
    messages = [message for message in request.messages if message.text or message.role == "user"]
    if not messages or messages[-1].role != "user":
        raise RequestError(400, "The last message must be the user's", code="invalid_messages", param="messages")
    if request.raw_messages:
        return _as_they_are(messages, served, tokenizer)
    *before, last = messages
    system = "\n".join(_systems(before))
    instruction = request.instruction
    if instruction is None:
        instruction, system = ("", system) if served.conversational else (system, "")
    turns = [{"role": m.role, "content": m.text} for m in before if m.role in ("user", "assistant")]
    opening = [{"role": "system", "content": system}] if system.strip() else []
    ids = prompt_ids(
        served.template,
        {"instruction": instruction, "input": last.text, "extra": request.extra},
        tokenizer=tokenizer,
        elements=served.elements if request.elements is None else request.elements,
        history=[*opening, *turns],
    )
    return Question(ids, stop_strings(served.template, tokenizer))


def _as_they_are(messages: list[Message], served: ServedModel, tokenizer: PreTrainedTokenizerFast) -> Question:
    """Only the model's own chat template around the messages; control tokens typed in them stay text."""
    template = Template(name="as-they-are", user="{{ input }}", enable_thinking=served.template.enable_thinking)
    talk: list[dict[str, Any]] = [{"role": "system", "content": text} for text in _systems(messages)]
    talk += [{"role": m.role, "content": m.text} for m in messages if m.role in ("user", "assistant")]
    return Question(prompt_ids(template, {"messages": talk}, tokenizer=tokenizer), stop_strings(template, tokenizer))


def _systems(messages: list[Message]) -> list[str]:
    return [m.text for m in messages if m.role in ("system", "developer")]


def _plain_ids(request: CompletionRequest, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    prompt = request.prompt
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        size = len(tokenizer)
        wrong = next((number for number in prompt if not isinstance(number, int) or not 0 <= number < size), None)
        if wrong is not None:
            raise RequestError(400, f"{wrong} is no token: this model has {size:,}", code="invalid_prompt", param="prompt")
        return [int(number) for number in prompt]
    text = prompt[0] if isinstance(prompt, list) and prompt else prompt
    if not isinstance(text, str) or not text:
        raise RequestError(400, "The prompt is empty", code="invalid_prompt", param="prompt")
    return text_ids(tokenizer, text)
