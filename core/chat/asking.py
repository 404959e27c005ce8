"""A chat, without a page: a question becomes ids with an arm's own template, and what the engine says becomes a turn.

History that doesn't fit the context window is left out by one rule: whole exchanges, the oldest first.
Knows nothing of how models are loaded; the engine is passed in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import UserError
from core.prompts.examples import prompt_ids
from core.prompts.render import stop_strings
from core.records import Arm, Conversation, GenerationSettings, Run, Template, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLAIN = Template(
    name="plain", kind="chat", system="", user="{{ input }}", description="Free chat: what is typed, nothing around it."
)
PRESETS: dict[str, GenerationSettings] = {
    "Greedy": GenerationSettings(max_new_tokens=256),
    "Balanced": GenerationSettings(max_new_tokens=256, temperature=0.7, top_p=0.9),
    "Creative": GenerationSettings(max_new_tokens=512, temperature=1.0, top_p=0.95, repetition_penalty=1.05),
}
DEFAULT_CONTEXT = 2048


class Engine(Protocol):
    """What is needed of ``core.models.engine.Engine``."""

    def stream(
        self,
        prompt_ids: list[int],
        settings: GenerationSettings,
        adapter: str | None = None,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[str]: ...


@dataclass(frozen=True)
class Question:
    """A question ready to be answered. ``left_out``: how many earlier messages the context window had no room for."""

    ids: list[int]
    stop: tuple[str, ...]
    left_out: int = 0


def context_length(model_folder: Path) -> int:
    """The context window of a model in tokens, from its config.json."""
    try:
        config = json.loads((model_folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return DEFAULT_CONTEXT
    return int(config.get("max_position_embeddings") or config.get("n_positions") or DEFAULT_CONTEXT)


def history_of(conversation: Conversation, arm: int) -> list[dict[str, str]]:
    """The exchanges so far as one arm saw them: questions, and its own answers."""
    kept: list[dict[str, str]] = []
    for turn in conversation.turns:
        if turn.role == "user":
            if kept and kept[-1]["role"] == "user":  # asked before this arm joined, or stopped before it spoke
                kept.pop()
            kept.append({"role": "user", "content": turn.content})
        elif turn.arm == arm and kept and kept[-1]["role"] == "user":
            kept.append({"role": "assistant", "content": turn.content})
    if kept and kept[-1]["role"] == "user":
        kept.pop()
    return kept


def prepare(
    template: Template,
    text: str,
    *,
    tokenizer: PreTrainedTokenizerFast,
    settings: GenerationSettings,
    context: int,
    instruction: str = "",
    elements: Sequence[str] = (),
    system: str = "",
    history: Sequence[dict[str, str]] = (),
) -> Question:
    """The ids of a question after what was said before, within ``context`` tokens with room for the answer.

    UserError when the question alone is too long.
    """
    row = {"instruction": instruction, "input": text}
    before = list(history)
    opening = [{"role": "system", "content": system}] if system.strip() else []
    while True:
        ids = prompt_ids(template, row, tokenizer=tokenizer, elements=elements, history=[*opening, *before])
        if len(ids) + settings.max_new_tokens <= context:
            return Question(ids, stop_strings(template, tokenizer), len(history) - len(before))
        if not before:
            raise UserError(
                f"The question has {len(ids):,} tokens; with {settings.max_new_tokens:,} for the answer that is more than the "
                f"model's window of {context:,}",
                "Shorten the text, or allow fewer new tokens.",
            )
        before = before[2:]


class Answering:
    """An answer as it comes: iterate for its pieces; then, or after a stop, ``turn`` is what was said and how fast."""

    def __init__(
        self,
        engine: Engine,
        question: Question,
        settings: GenerationSettings,
        *,
        arm: int,
        adapter: str | None,
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.text = ""
        self._question, self._tokenizer, self._arm = question, tokenizer, arm
        self._started = time.monotonic()
        self._first: float | None = None
        self._ended: float | None = None
        self._pieces = engine.stream(question.ids, settings, adapter=adapter, stop=question.stop)

    def __iter__(self) -> Iterator[str]:
        try:
            for piece in self._pieces:
                if self._first is None:
                    self._first = time.monotonic()
                self.text += piece
                yield piece
            self._ended = time.monotonic()
        finally:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()

    @property
    def turn(self) -> Turn:
        """The answer as a turn of the conversation; ``stopped`` if it did not come to its end."""
        end = self._ended if self._ended is not None else time.monotonic()
        return Turn(
            role="assistant",
            content=self.text,
            arm=self._arm,
            tokens_in=len(self._question.ids),
            tokens_out=len(self._tokenizer.encode(self.text, add_special_tokens=False)),
            seconds=end - self._started,
            first_token_seconds=(self._first or end) - self._started,
            stopped=self._ended is None,
        )


def arm_of(run: Run | None, model: Any, template: Template, settings: GenerationSettings) -> Arm:
    """An arm of a chat: the base with a template, or a run with its own model and template."""
    if run is None:
        return Arm(model=model, template=template.ref, generation=settings, name=f"{model.label}, {template.name}")
    return Arm(model=model, run=run.run_id, template=run.template.ref, generation=settings, name=run.name)


def to_markdown(conversation: Conversation) -> str:
    """A conversation as Markdown, to keep or pass on."""
    lines = [f"# {conversation.name}", ""]
    if conversation.system:
        lines += [f"> {conversation.system}", ""]
    for turn in conversation.turns:
        who = "You" if turn.role == "user" else conversation.arms[turn.arm].name if turn.arm is not None else "Assistant"
        lines += [f"**{who}**", "", turn.content, ""]
    return "\n".join(lines)


def to_rows(conversation: Conversation, arm: int) -> dict[str, Any]:
    """One arm's side of a conversation as a multi-turn row (``messages``) that can be imported."""
    opening = [{"role": "system", "content": conversation.system}] if conversation.system else []
    return {"messages": [*opening, *history_of(conversation, arm)]}
