"""A question becomes what an arm is asked with its own template, and its answer becomes a turn, while it comes.

History that doesn't fit the context window is left out by one rule: whole exchanges, the oldest first, as few as
possible, so that the new tokens that are allowed at most still fit. An endpoint's window isn't known: it gets all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core.errors import UserError
from core.models.answers import Answered
from core.prompts.examples import prompt_ids
from core.prompts.render import chat_messages, stop_strings
from core.records import GenerationSettings, Template, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Stopping = Callable[[], bool]


class Speaking(Iterator[str], Protocol):
    """An answer on its way, of an engine here or an endpoint elsewhere."""

    @property
    def position(self) -> int: ...

    @property
    def answer(self) -> Answered: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Question:
    """A question ready to be answered. ``left_out``: how many earlier messages the context window had no room for."""

    ids: list[int]
    stop: tuple[str, ...]
    left_out: int = 0


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

    ``history`` is questions and answers in turn. UserError when the question alone is too long.
    """
    row = {"instruction": instruction, "input": text}
    opening = [{"role": "system", "content": system}] if system.strip() else []

    def ids_without(pairs: int) -> list[int]:
        said = [*opening, *history[2 * pairs :]]
        return prompt_ids(template, row, tokenizer=tokenizer, elements=elements, history=said)

    def fits(ids: list[int]) -> bool:
        return len(ids) + settings.max_new_tokens <= context

    start = _surely_too_many(history, tokenizer, context)
    ids = ids_without(start)
    if fits(ids):
        return Question(ids, stop_strings(template, tokenizer), min(2 * start, len(history)))
    low, high = start, (len(history) + 1) // 2  # too few exchanges left out, and enough; each look halves what is between
    ids = ids_without(high)
    if not fits(ids):
        raise UserError(
            f"The question has {len(ids):,} tokens; with {settings.max_new_tokens:,} for the answer that is more than the "
            f"model's window of {context:,}",
            "Shorten the text, or allow fewer new tokens.",
        )
    while high - low > 1:
        middle = (low + high) // 2
        tried = ids_without(middle)
        if fits(tried):
            high, ids = middle, tried
        else:
            low = middle
    return Question(ids, stop_strings(template, tokenizer), min(2 * high, len(history)))


def _surely_too_many(history: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerFast, context: int) -> int:
    """The oldest exchanges that can't fit by their own tokens alone, so that they needn't be rendered to find out."""
    room = int(context * 1.1)  # tokens of two neighbours may merge into fewer, a little
    encode = tokenizer.backend_tokenizer.encode
    for place in range(len(history) - 1, -1, -1):
        room -= len(encode(history[place]["content"], add_special_tokens=False).ids)
        if room < 0:
            return place // 2 + 1
    return 0


def messages_for(
    template: Template,
    text: str,
    *,
    instruction: str = "",
    elements: Sequence[str] = (),
    system: str = "",
    history: Sequence[dict[str, str]] = (),
) -> list[dict[str, str]]:
    """A question as messages, for an endpoint that applies its model's own chat template. SpecError for a raw template."""
    opening = [{"role": "system", "content": system}] if system.strip() else []
    return chat_messages(
        template,
        {"instruction": instruction, "input": text},
        tokenizer=None,
        elements=elements,
        history=[*opening, *history],
    )


class Answering:
    """One arm's answer as it comes. ``run`` in a thread, or ``together``; ``turn`` is what was said so far and how fast."""

    def __init__(
        self,
        ask: Callable[[Stopping], Speaking],
        *,
        arm: int,
        tokens_in: int = 0,
        left_out: int = 0,
        price: Callable[[Answered], float | None] = lambda answer: None,
    ) -> None:
        self.text = ""
        self.fault: UserError | None = None
        self.bug: Exception | None = None
        self._ask, self._arm, self._tokens_in, self._left_out = ask, arm, tokens_in, left_out
        self._price = price
        self._speaking: Speaking | None = None
        self._stopping = threading.Event()
        self._started = time.monotonic()
        self._first = self._ended = 0.0

    @property
    def waiting(self) -> int:
        """How many questions are answered before this one; 0 once it is its turn."""
        speaking = self._speaking
        return speaking.position if speaking is not None and not self._first else 0

    def run(self) -> None:
        """Ask, and collect the answer until its end or ``stop``. Never raises: see ``fault`` and ``bug``."""
        try:
            self._speaking = speaking = self._ask(self._stopping.is_set)
            for piece in speaking:
                self._first = self._first or time.monotonic()
                self.text += piece
            if not self._stopping.is_set():
                self._ended = time.monotonic()
        except UserError as fault:
            self.fault = None if self._stopping.is_set() else fault
        except Exception as bug:  # raised where the answers are waited for
            self.bug = bug

    def stop(self) -> None:
        """Stop here, from any thread; what was said is kept."""
        self._stopping.set()
        if self._speaking is not None:
            self._speaking.close()

    @property
    def turn(self) -> Turn:
        """The answer as a turn of the conversation; ``stopped`` if it did not come to its end."""
        end = self._ended or time.monotonic()
        done = self._speaking.answer if self._speaking is not None else None
        return Turn(
            role="assistant",
            content=self.text,
            arm=self._arm,
            tokens_in=(done.prompt_tokens if done else 0) or self._tokens_in,
            tokens_out=done.tokens if done else 0,
            seconds=end - self._started,
            first_token_seconds=(self._first or end) - self._started,
            left_out=self._left_out,
            stopped=not self._ended and self.fault is None,
            cut=bool(self._ended and done and done.finish == "length"),
            error=self.fault.message if self.fault else "",
            hint=self.fault.hint if self.fault else "",
            cost=self._price(done) if done else None,
        )


def together(answers: Sequence[Answering], every: float = 0.1) -> Iterator[None]:
    """Let all arms answer at once; yields every so many seconds until all have ended, and once after that.

    Closed early (a stop, a tab that went away), it stops them all. A bug in one of them is raised at the end.
    """
    threads = [threading.Thread(target=said.run, name=f"tunewise-answer-{n}", daemon=True) for n, said in enumerate(answers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(every)
                yield
        yield
    finally:
        for said, thread in zip(answers, threads, strict=True):
            if thread.is_alive():
                said.stop()
        for thread in threads:
            thread.join(2.0)
    for said in answers:
        if said.bug is not None:
            raise said.bug
