"""Models behind endpoints that speak the OpenAI chat protocol: asked with messages, streamed, their tokens priced.

The key comes from the environment (or is passed in by a page that has it from Streamlit's secrets); it is sent to the
endpoint's own address only, stored nowhere and in no message. Imports no torch; knows nothing of templates.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from core.data.answers import storable
from core.errors import ModelError
from core.models import download
from core.models.answers import Answered
from core.records import GenerationSettings, NamedEndpoint
from core.settings import get_settings

ATTEMPTS = 4
TIMEOUT_SECONDS = 120.0
MOST_STOPS = 4
"""OpenAI takes no more stop strings; the others are applied here."""


class RefusedError(ModelError):
    """The endpoint refuses a question for what is in it (400, 413, 422); another question may be fine."""


class BrokenOffError(ModelError):
    """An answer ended in the middle; asked again it may come whole."""


class EndpointEngine:
    """Asks one endpoint. Thread-safe; nothing is held between questions."""

    def __init__(self, endpoint: NamedEndpoint, key: str | None = None) -> None:
        self.endpoint = endpoint
        self._key = key if key is not None else os.environ.get(endpoint.key_variable, "")

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        settings: GenerationSettings,
        stop: Sequence[str] = (),
        should_stop: Callable[[], bool] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> EndpointStream:
        """Answer a conversation (``role``, ``content``), piece by piece. Faults come with the first piece, as ModelError.

        ``fields``: further ones of the request, e.g. ``response_format``.
        """
        stops = tuple(s for s in dict.fromkeys((*stop, *settings.stop)) if s)
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **(fields or {}),
        }
        if stops:
            body["stop"] = list(stops[:MOST_STOPS])
        if settings.top_k:
            body["top_k"] = settings.top_k
        if settings.repetition_penalty != 1.0:
            body["repetition_penalty"] = settings.repetition_penalty
        return EndpointStream(self.endpoint, self._key, body, stops[MOST_STOPS:], should_stop)

    def cost(self, answer: Answered) -> float | None:
        """What an answer cost by its tokens, in the currency of the prices; none without prices, or where no tokens were told."""
        own, prices = self.endpoint, get_settings()
        given = own.price_in if own.price_in is not None else prices.price_in
        made = own.price_out if own.price_out is not None else prices.price_out
        if given is None or made is None or not answer.prompt_tokens:  # a stopped answer's tokens are told by nobody
            return None
        return (answer.prompt_tokens * given + answer.tokens * made) / 1e6


class EndpointStream(Iterator[str]):
    """An answer on its way: iterate for its text, then ``answer``. ``close``, from any thread, hangs up."""

    def __init__(
        self,
        endpoint: NamedEndpoint,
        key: str,
        body: dict[str, Any],
        stops: Sequence[str],
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._endpoint, self._key, self._body, self._stops = endpoint, key, body, tuple(stops)
        self._should_stop = should_stop
        self._asked = time.perf_counter()
        self._first = self._ended = 0.0
        self._text, self._finish, self._chunks = "", "stopped", 0
        self._usage: dict[str, Any] = {}
        self._response: http.client.HTTPResponse | None = None
        self._closed = False
        self._pieces = self._read()

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def position(self) -> int:
        """Endpoints don't say how many wait."""
        return 0

    @property
    def answer(self) -> Answered:
        """The answer so far, whole once the iteration has ended. Tokens as the endpoint counts them, else its pieces."""
        return Answered(
            ids=(),
            text=storable(self._text),  # a character may come as two halves in two pieces
            tokens=int(self._usage.get("completion_tokens") or self._chunks),
            seconds=(self._ended or time.perf_counter()) - self._asked,
            finish=self._finish,
            prompt_tokens=int(self._usage.get("prompt_tokens") or 0),
            first_token_seconds=max(0.0, self._first - self._asked),
        )

    def close(self) -> None:
        """Stop here: the endpoint sees that nobody listens any more."""
        self._closed = True
        response = self._response
        if response is not None:
            with suppress(OSError, AttributeError, ValueError):  # it may have ended meanwhile
                socket.socket(fileno=os.dup(response.fileno())).shutdown(socket.SHUT_RDWR)

    def _read(self) -> Iterator[str]:
        try:
            with self._opened() as response:
                self._response = response
                if "json" in response.headers.get("Content-Type", ""):  # it doesn't stream
                    if piece := self._take(json.loads(response.read())):
                        yield piece
                    self._finish = "stop" if self._finish == "stopped" else self._finish
                    return
                for line in response:
                    if self._closed or (self._should_stop and self._should_stop()):
                        return
                    if not line.startswith(b"data:"):
                        continue
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        self._finish = "stop" if self._finish == "stopped" else self._finish  # not all say why they end
                        return
                    piece = self._take(json.loads(data))
                    if piece:
                        yield piece
                if self._finish == "stopped" and not self._closed:
                    raise BrokenOffError(f"The endpoint {self._endpoint.name} ended in the middle of an answer", "Ask again.")
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._closed:
                raise BrokenOffError(f"The endpoint {self._endpoint.name} broke off: {error}", "Ask again.") from None
        finally:
            self._ended = time.perf_counter()
            self._response = None

    def _opened(self) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "tunewise"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = self._endpoint.url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(self._body).encode(), headers)
        try:
            return download.opened(request, TIMEOUT_SECONDS, ATTEMPTS)
        except download.HttpFault as error:
            raise _fault(self._endpoint, error) from None
        except download.Unreachable as error:
            raise ModelError(
                f"The endpoint {self._endpoint.name} can't be reached ({error})", "Is it running, and the address right?"
            ) from None

    def _take(self, chunk: dict[str, Any]) -> str:
        if chunk.get("error"):
            raise ModelError(f"The endpoint {self._endpoint.name} broke off: {_message(chunk)}", "Ask again.")
        self._usage = chunk.get("usage") or self._usage
        text = ""
        for choice in chunk.get("choices") or ():
            text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
            if choice.get("finish_reason"):
                self._finish = "length" if choice["finish_reason"] == "length" else "stop"
        if text:
            self._first = self._first or time.perf_counter()
            self._chunks += 1
            self._text += text
            found = [at for stop in self._stops if (at := self._text.find(stop)) >= 0]
            if found:  # what went out already can't be called back: the rest of this piece is cut off
                text = text[: max(0, len(text) - (len(self._text) - min(found)))]
                self._text, self._finish = self._text[: min(found)], "stop"
                self.close()
        return text


def _fault(endpoint: NamedEndpoint, error: download.HttpFault) -> ModelError:
    said = error.text
    with suppress(ValueError, TypeError):
        said = _message(json.loads(error.text))
    name, variable = endpoint.name, endpoint.key_variable
    told = f": {said[:300]}" if said else ""
    if error.status == 401:
        return ModelError(f"The endpoint {name} refuses the key", f"Set {variable} in the environment or in Streamlit's secrets.")
    if error.status == 403:
        return ModelError(f"The endpoint {name} doesn't let this key use {endpoint.model}", f"Check what {variable} may do.")
    if error.status == 404:
        return ModelError(f"The endpoint {name} knows no model {endpoint.model}{told}", "Check the address and the model's name.")
    if error.status == 429:
        return ModelError(f"The endpoint {name} asks to slow down (429)", "Wait a little, or use a key with wider limits.")
    if error.status in (400, 413, 422):
        return RefusedError(f"The endpoint {name} answers {error.status}{told}", "Change the settings that it names.")
    return ModelError(
        f"The endpoint {name} answers {error.status}{told}", "Look into the endpoint's own log, or ask again later."
    )


def _message(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)
