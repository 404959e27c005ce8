"""Requests and answers as the OpenAI API words them, with what is honoured, passed over and refused.

An argument that would change the answer and isn't supported is refused, so that nobody gets another answer than
the one that was asked for; what only concerns OpenAI's own service is passed over.
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.records import GenerationSettings
from core.serving.faults import RequestError

DEFAULT_TOKENS = 256
"""Longest answer where the request names none: as in the Chat page."""
PASSED_OVER = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",
        "tool_choice",
        "function_call",
        "reasoning_effort",
        "verbosity",
    }
)
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "min_p": (0,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
}
"""Arguments that are not supported, with the values that ask for nothing."""


class Part(BaseModel):
    """A part of a message's content; only text is read."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. ``developer`` is OpenAI's newer word for ``system``."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """``include_usage``: a last chunk with the numbers of tokens."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class Asking(BaseModel):
    """What chat and completion requests share. ``temperature`` 0, greedy, is the default: as in evaluation."""

    model_config = ConfigDict(extra="forbid")
    model: str
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1, le=1_000_000)
    repetition_penalty: float = Field(default=1.0, gt=0, le=5)
    max_tokens: int | None = Field(default=None, ge=1, le=32768)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=32768)
    stop: Annotated[list[str], Field(max_length=16)] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    return_token_ids: bool = False

    @model_validator(mode="before")
    @classmethod
    def _sort_out(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, given in value.items():
            if given is None or name in PASSED_OVER:
                continue
            if name in NEUTRAL:
                if given not in NEUTRAL[name]:
                    raise RequestError(400, f"{name} is not supported here", code="unsupported_parameter", param=name)
                continue
            kept[name] = [given] if name == "stop" and isinstance(given, str) else given
        return kept

    def settings(self, room: int) -> GenerationSettings:
        """How to generate, with ``room`` tokens left behind the prompt. RequestError 400 where that is too few.

        Without a seed a sampled answer is another one each time.
        """
        asked = self.max_completion_tokens or self.max_tokens
        if room < (asked or 1):
            raise RequestError(
                400,
                f"The prompt leaves {max(0, room):,} tokens of the model's window, and {asked or 1:,} are asked for. Shorten the "
                "text, or ask for fewer.",
                code="context_length_exceeded",
                param="messages" if hasattr(self, "messages") else "prompt",
            )
        return GenerationSettings(
            max_new_tokens=asked or min(DEFAULT_TOKENS, room),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(0, self.top_k),
            repetition_penalty=self.repetition_penalty,
            seed=secrets.randbits(32) if self.seed is None and self.temperature else self.seed or 0,
            stop=tuple(text for text in self.stop if text),
        )


class ChatRequest(Asking):
    """``POST /v1/chat/completions``. ``instruction``, ``elements``, ``extra``, ``raw_messages`` are ours (docs/serving.md)."""

    messages: list[Message] = Field(min_length=1)
    instruction: str | None = None
    elements: tuple[str, ...] | None = None
    extra: dict[str, Any] = {}
    raw_messages: bool = False


class CompletionRequest(Asking):
    """``POST /v1/completions``: a text, or its token identifiers, as it is, without a template."""

    prompt: str | list[int] | Annotated[list[str], Field(min_length=1, max_length=1)]


class Reply:
    """Writes one answer as a whole, or as chunks of a stream, for either kind of request."""

    def __init__(self, request: Asking) -> None:
        self.chat = isinstance(request, ChatRequest)
        self.request = request
        self.id = ("chatcmpl-" if self.chat else "cmpl-") + secrets.token_hex(12)
        self.created = int(time.time())

    def whole(self, text: str, finish: str, ids: tuple[int, ...], usage: dict[str, int]) -> dict[str, Any]:
        """The answer in one object."""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        if self.request.return_token_ids:
            said["token_ids"] = list(ids)
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion" if self.chat else "text_completion"), "choices": [choice], "usage": usage}

    def opening(self) -> list[dict[str, Any]]:
        """The chunk before the first text: a chat's names the role."""
        return [self._chunk({"role": "assistant", "content": ""}, None)] if self.chat else []

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with more text."""
        return self._chunk({"content": text} if self.chat else text, None)

    def closing(self, finish: str, ids: tuple[int, ...], usage: dict[str, int]) -> list[dict[str, Any]]:
        """The last chunks: how it ended, and the numbers where they were asked for."""
        last = self._chunk({} if self.chat else "", finish)
        if self.request.return_token_ids:
            last["choices"][0]["token_ids"] = list(ids)
        if not self.request.stream_options.include_usage:
            return [last]
        return [last, {**self._head(self._chunk_kind), "choices": [], "usage": usage}]

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.request.model}

    def _chunk(self, said: dict[str, str] | str, finish: str | None) -> dict[str, Any]:
        content = {"delta": said} if self.chat else {"text": said}
        return {**self._head(self._chunk_kind), "choices": [{"index": 0, **content, "logprobs": None, "finish_reason": finish}]}
