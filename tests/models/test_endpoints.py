"""Models behind endpoints, asked over HTTP on this machine: streamed, stopped, refused with a way out, priced."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError, NotFoundError, UserError
from core.models import download
from core.models.endpoints import BrokenOffError, EndpointEngine
from core.records import GenerationSettings, NamedEndpoint
from core.store.endpoints import delete_endpoint, get_endpoint, list_endpoints, save_endpoint

SAID = ("张三", "于2021年", " signed", ".END", " more")


@dataclass
class StandIn:
    """An endpoint that says ``SAID``; ``statuses`` are answered first, one each."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    pause: float = 0.0
    pieces: tuple[str, ...] = SAID
    ending: str = "all"
    sent: int = 0


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stand.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            stand.keys.append(self.headers.get("Authorization", ""))
            if stand.statuses:
                body = json.dumps({"error": {"message": "because"}}).encode()
                self.send_response(stand.statuses.pop(0))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_response(200)
            if stand.ending == "whole":
                choice = {"message": {"role": "assistant", "content": "".join(SAID)}, "finish_reason": "length"}
                usage = {"prompt_tokens": 12, "completion_tokens": 7}
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.end_headers()
                self.wfile.write(json.dumps({"choices": [choice], "usage": usage}).encode())
                return
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for piece in stand.pieces:
                    self._event({"choices": [{"delta": {"content": piece}}]})
                    stand.sent += 1
                    time.sleep(stand.pause)
                if stand.ending == "none":
                    return
                if stand.ending == "all":
                    self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
                self._event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7}})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                return

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield stand
    http.shutdown()
    http.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(download, "pause", taken.append)
    return taken


def engine(server: StandIn, **more: Any) -> EndpointEngine:
    return EndpointEngine(NamedEndpoint(name="there", url=server.url, model="m", **more))


def ask(asked: EndpointEngine, **more: Any) -> Any:
    return asked.ask([{"role": "user", "content": "谁"}], GenerationSettings(max_new_tokens=9, **more))


def test_an_answer_comes_in_pieces_with_its_numbers(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_ENDPOINT_KEY", "secret-key")
    stream = ask(engine(server, price_in=2.0, price_out=10.0), temperature=0.5, top_k=3)
    assert tuple(stream) == SAID
    answer = stream.answer
    assert (answer.text, answer.finish, answer.tokens, answer.prompt_tokens) == ("".join(SAID), "stop", 7, 12)
    assert 0 < answer.first_token_seconds <= answer.seconds
    assert engine(server, price_in=2.0, price_out=10.0).cost(answer) == pytest.approx((12 * 2 + 7 * 10) / 1e6)
    assert engine(server).cost(answer) is None
    untold = dataclasses.replace(answer, prompt_tokens=0)  # stopped before the endpoint told how many it read
    assert engine(server, price_in=2.0, price_out=10.0).cost(untold) is None
    monkeypatch.setenv("TUNEWISE_PRICE_IN", "1")
    monkeypatch.setenv("TUNEWISE_PRICE_OUT", "1")
    assert engine(server).cost(answer) == pytest.approx(19 / 1e6)
    (body,) = server.bodies
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_k"]) == ("m", 9, 0.5, 3)
    assert body["messages"] == [{"role": "user", "content": "谁"}]
    assert server.keys == ["Bearer secret-key"]


def test_a_key_that_is_passed_in_goes_before_the_environment(server: StandIn) -> None:
    asked = EndpointEngine(NamedEndpoint(name="there", url=server.url, model="m"), "from-secrets")
    list(ask(asked))
    assert server.keys == ["Bearer from-secrets"]


def test_more_stop_strings_than_the_protocol_takes(server: StandIn) -> None:
    asked = engine(server).ask([{"role": "user", "content": "x"}], GenerationSettings(), stop=["a1", "b2", "c3", "d4", "END"])
    assert "".join(asked) == "张三于2021年 signed." == asked.answer.text
    assert asked.answer.finish == "stop"
    assert server.bodies[0]["stop"] == ["a1", "b2", "c3", "d4"]


def test_how_an_answer_ends_where_nobody_says_why(server: StandIn) -> None:
    server.ending = "done"
    stream = ask(engine(server))
    assert "".join(stream) == stream.answer.text == "".join(SAID)
    assert stream.answer.finish == "stop"  # "stopped" would count as an answer that somebody cut short
    server.ending = "none"
    with pytest.raises(BrokenOffError, match="in the middle"):
        list(ask(engine(server)))


def test_an_answer_that_comes_whole(server: StandIn) -> None:
    server.ending = "whole"
    stream = ask(engine(server))
    assert list(stream) == ["".join(SAID)]
    answer = stream.answer
    assert (answer.text, answer.finish, answer.tokens, answer.prompt_tokens) == ("".join(SAID), "length", 7, 12)


def test_a_character_in_two_halves_is_one(server: StandIn) -> None:
    server.pieces = ("喜\ud83d", "\ude00", "\ud83d")
    stream = ask(engine(server))
    list(stream)
    assert stream.answer.text == "喜😀\ufffd"


def test_hanging_up_reaches_the_endpoint(server: StandIn) -> None:
    server.pause = 0.2
    stream = ask(engine(server))
    assert next(stream) == SAID[0]
    stream.close()
    assert list(stream) == []
    assert (stream.answer.text, stream.answer.finish) == (SAID[0], "stopped")
    time.sleep(0.6)
    assert server.sent < len(SAID)


def test_a_caller_that_stops(server: StandIn) -> None:
    stopped = engine(server).ask([{"role": "user", "content": "x"}], GenerationSettings(), should_stop=lambda: True)
    assert list(stopped) == []


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (401, "refuses the key", "TUNEWISE_ENDPOINT_KEY"),
        (403, "doesn't let this key", "TUNEWISE_ENDPOINT_KEY"),
        (404, "knows no model m: because", "name"),
        (400, "answers 400: because", "settings"),
    ],
)
def test_refusals_say_the_way_out(
    server: StandIn, status: int, message: str, hint: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWISE_ENDPOINT_KEY", "secret-key")
    server.statuses = [status]
    with pytest.raises(ModelError, match=message) as caught:
        list(ask(engine(server)))
    assert hint in caught.value.hint
    assert "secret-key" not in f"{caught.value.message} {caught.value.hint}"
    assert waits == []


def test_a_busy_endpoint_is_given_time(server: StandIn, waits: list[float]) -> None:
    server.statuses = [429, 503]
    assert tuple(ask(engine(server))) == SAID
    assert waits == [1.0, 2.0]
    server.statuses = [429] * 9
    with pytest.raises(ModelError, match="slow down"):
        list(ask(engine(server)))


def test_an_endpoint_that_is_not_there() -> None:
    nowhere = EndpointEngine(NamedEndpoint(name="gone", url="http://127.0.0.1:9/v1", model="m"))
    with pytest.raises(ModelError, match="gone can't be reached"):
        list(ask(nowhere))


def test_endpoints_are_kept_without_their_key(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    made = save_endpoint(NamedEndpoint(name="deep", url="https://api.example/v1", model="m", key_variable="MY_KEY", price_in=1.5))
    save_endpoint(NamedEndpoint(name="another", url="http://localhost:8000/v1", model="n"))
    assert [e.name for e in list_endpoints()] == ["another", "deep"]
    assert get_endpoint("deep") == made
    assert not [p for p in workspace.rglob("*") if p.is_file() and b"secret-key" in p.read_bytes()]
    delete_endpoint("another")
    with pytest.raises(NotFoundError, match="no endpoint 'another'"):
        get_endpoint("another")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "api.example"}, "no address"),
        ({"url": "https://key@api.example/v1"}, "more than an address"),
        ({"model": " "}, "name of its model"),
        ({"key_variable": "sk-abc-123"}, "environment variable"),
        ({"name": "../x"}, "name of an endpoint"),
    ],
)
def test_endpoints_that_are_none(change: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        save_endpoint(NamedEndpoint(**{"name": "x", "url": "https://api.example/v1", "model": "m", **change}))
    assert list_endpoints() == []
