"""Where a judge runs: on an engine of this process, or behind an endpoint that speaks the OpenAI chat protocol.

Knows nothing of rubrics and choices.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from core.errors import ModelError, SpecError
from core.prompts.examples import prompt_ids
from core.prompts.render import stop_strings
from core.prompts.templates import find_template
from core.records import GenerationSettings

if TYPE_CHECKING:
    from core.models.engine import Engine

KEY_VARIABLE = "TUNEWISE_ENDPOINT_KEY"
_AGAIN = (408, 409, 429, 500, 502, 503, 504)


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
    """A model behind ``URL/chat/completions``. The key is read from ``TUNEWISE_ENDPOINT_KEY``; it is sent nowhere else."""

    def __init__(
        self, url: str, model: str, *, max_new_tokens: int = 160, workers: int = 8, timeout: float = 120.0, tries: int = 4
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise SpecError(f"{url!r} is no address of an endpoint", "Write for example http://localhost:8000/v1.")
        self.name = model
        self._url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self._fixed = {"model": model, "temperature": 0, "max_tokens": max_new_tokens}
        self._workers, self._timeout, self._tries = workers, timeout, tries

    def ask(self, questions: Sequence[str], on_answer: Callable[[int, str], None]) -> None:
        """Answer all, several at once; a passing fault is tried again. ModelError when the endpoint doesn't answer."""
        with ThreadPoolExecutor(self._workers) as pool:
            waiting = {pool.submit(self._one, text): place for place, text in enumerate(questions)}
            try:
                for done in as_completed(waiting):
                    on_answer(waiting[done], done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, text: str) -> str:
        body = json.dumps({**self._fixed, "messages": [{"role": "user", "content": text}]}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        for number in range(self._tries):
            last = number == self._tries - 1
            try:
                asked = urllib.request.Request(self._url, data=body, headers=headers)
                with urllib.request.urlopen(asked, timeout=self._timeout) as reply:
                    return _text(json.loads(reply.read()))
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN or last:
                    hint = f"Set {KEY_VARIABLE}." if error.code in (401, 403) else "Look into the endpoint's own log."
                    raise ModelError(f"The endpoint answers {error.code} ({error.reason})", hint) from None
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                if last:
                    raise ModelError(
                        f"The endpoint {self._url} doesn't answer: {error}", "Is it running, and the address right?"
                    ) from None
            time.sleep(0.5 * 2**number)
        raise AssertionError("unreachable")


def _text(reply: Any) -> str:
    return str(reply["choices"][0]["message"]["content"] or "")
