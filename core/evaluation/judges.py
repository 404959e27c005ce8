"""Where a judge runs: on an engine of this process, or behind an endpoint that speaks the OpenAI chat protocol.

Knows nothing of rubrics and choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.evaluation.remote import ask_all
from core.models.answers import Answered
from core.models.endpoints import EndpointEngine, RefusedError
from core.prompts.examples import prompt_ids
from core.prompts.render import stop_strings
from core.prompts.templates import find_template
from core.records import GenerationSettings, NamedEndpoint
from core.store.endpoints import check_endpoint

if TYPE_CHECKING:
    from core.models.engine import Engine


class EngineJudge:
    """A model that is loaded here, with its own chat template; greedy."""

    def __init__(self, engine: Engine, *, max_new_tokens: int = 160, should_stop: Callable[[], bool] | None = None) -> None:
        self.name = engine.ref.label
        self._engine, self._should_stop = engine, should_stop
        self._settings = GenerationSettings(max_new_tokens=max_new_tokens)

    def ask(self, questions: Sequence[str], on_answer: Callable[[int, str], None]) -> None:
        """Answer all that fit the model; one that is too long for it stays without an answer."""
        template, tokenizer = find_template("chat"), self._engine.tokenizer
        prompts = [
            prompt_ids(template, {"instruction": "", "input": text, "output": ""}, tokenizer=tokenizer) for text in questions
        ]
        fitting = [place for place, ids in enumerate(prompts) if len(ids) < self._engine.context]
        self._engine.generate(
            [prompts[place] for place in fitting], self._settings, stop=stop_strings(template, tokenizer),
            should_stop=self._should_stop, on_row=lambda place, answer: on_answer(fitting[place], answer.text),
        )  # fmt: skip


class EndpointJudge:
    """A model behind an endpoint; greedy."""

    def __init__(
        self,
        endpoint: NamedEndpoint,
        *,
        max_new_tokens: int = 160,
        workers: int = 8,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        check_endpoint(endpoint)
        self.name = endpoint.model
        self._engine, self._workers, self._should_stop = EndpointEngine(endpoint), workers, should_stop
        self._settings = GenerationSettings(max_new_tokens=max_new_tokens)

    def ask(self, questions: Sequence[str], on_answer: Callable[[int, str], None]) -> None:
        """Answer all, several at once; one that the endpoint refuses stays without an answer."""

        def take(place: int, reply: Answered | RefusedError) -> None:
            if isinstance(reply, Answered):
                on_answer(place, reply.text)

        asked = [[{"role": "user", "content": text}] for text in questions]
        ask_all(self._engine, asked, self._settings, take, workers=self._workers, should_stop=self._should_stop)
