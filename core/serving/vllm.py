"""vLLM as the engine behind our own interface: it gets token ids, so templates, key and arguments stay ours.

It runs as a process of its own that listens on 127.0.0.1 only, with a key made for it (vLLM's own key leaves some of
its endpoints open, and its chat endpoint knows nothing of a run's template). Knows nothing of our HTTP.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from core.errors import ModelError
from core.jobs.devices import visible_devices
from core.jobs.processes import kill_tree, process_start
from core.models.catalogue import resolve
from core.models.identity import check_same, identity, kept_identity
from core.models.tokenizer import load_tokenizer
from core.records import GenerationSettings
from core.serving.backends import Answering
from core.serving.served import BASE, Plan
from core.training.export import VLLM_RANKS

START_SECONDS = 1200.0
MODULE = "vllm.entrypoints.openai.api_server"


def arguments(plan: Plan, port: int) -> list[str]:
    """vLLM's command line for a plan (https://docs.vllm.ai, engine arguments and LoRA)."""
    model = plan.model
    given = ["--model", str(resolve(model)), "--served-model-name", BASE, "--host", "127.0.0.1", "--port", str(port)]
    given += ["--dtype", model.dtype, "--generation-config", "vllm"]
    if model.quantisation == "nf4":
        given += ["--quantization", "bitsandbytes"]
    tuned = {m.adapter: m.folder for m in plan.models if m.adapter is not None and m.folder is not None}
    if tuned:
        here = identity(resolve(model))
        for name, folder in tuned.items():
            check_same(kept_identity(folder), here, f"The adapter of {name}")
        ranks = [int(json.loads((folder / "adapter_config.json").read_text("utf-8"))["r"]) for folder in tuned.values()]
        rank = next(allowed for allowed in VLLM_RANKS if allowed >= max(ranks))
        given += ["--enable-lora", "--max-loras", str(len(tuned)), "--max-lora-rank", str(rank)]
        given += ["--lora-modules", *(f"{name}={folder}" for name, folder in tuned.items())]
    return given


@dataclass(frozen=True)
class Said:
    """The numbers of an answer."""

    ids: tuple[int, ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    finish: str = "stopped"


class VllmBackend:
    """A vLLM process with the base and its adapters loaded. Its key goes through its environment."""

    name = "vllm"

    def __init__(self, plan: Plan, device: str, *, module: str = MODULE, start_seconds: float = START_SECONDS) -> None:
        self.tokenizer = load_tokenizer(plan.model)
        self._port, self._key = free_port(), secrets.token_urlsafe(24)
        environment = {**os.environ, "VLLM_API_KEY": self._key, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        if device.startswith("cuda"):
            environment["CUDA_VISIBLE_DEVICES"] = visible_devices((device,))
        command = [sys.executable, "-m", module, *arguments(plan, self._port)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True
        )
        try:
            self._wait(start_seconds)
            self.context = self._window()
        except BaseException:
            self.close()
            raise

    def ask(self, ids: Sequence[int], settings: GenerationSettings, adapter: str | None, stop: Sequence[str]) -> Answering:
        body: dict[str, Any] = {
            "model": adapter or BASE,
            "prompt": list(ids),
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k or -1,
            "repetition_penalty": settings.repetition_penalty,
            "seed": settings.seed,
            "stop": list(dict.fromkeys((*stop, *settings.stop))),
        }
        return VllmAnswering(self._port, self._key, body)

    def close(self) -> None:
        kill_tree(self._process.pid, process_start(self._process.pid))
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ModelError("vLLM ended while it was loading", "Its log above says why; --engine own serves without it.")
            with suppress(OSError, http.client.HTTPException), closing(self._connect(5)) as connection:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.5)
        raise ModelError(f"vLLM was not ready after {seconds:,.0f} s", "--engine own serves without it.")

    def _window(self) -> int:
        with closing(self._connect(30)) as connection:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self._key}"})
            listed = json.loads(connection.getresponse().read())
        return int(next(m["max_model_len"] for m in listed["data"] if m.get("max_model_len")))

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)


@dataclass
class VllmAnswering:
    """An answer that vLLM streams; closing the connection makes it stop."""

    port: int
    key: str
    body: dict[str, Any]
    answer: Said = Said()
    _socket: socket.socket | None = None
    _closed: bool = False
    _ids: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.connect()
            self._socket = connection.sock  # the connection forgets it once it knows that the answer is the last
            if self._closed:
                return
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/completions", json.dumps(self.body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ModelError(f"vLLM refused the request: {_message(response.read())}", "The server's log has more.")
            for line in response:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    yield from self._take(json.loads(line.removeprefix(b"data: ")))
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._closed:
                raise ModelError(f"vLLM broke off: {error}", "The server's log has more.") from error
        finally:
            connection.close()

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _take(self, chunk: dict[str, Any]) -> Iterator[str]:
        if "error" in chunk:
            raise ModelError(f"vLLM broke off: {_message(json.dumps(chunk).encode())}", "The server's log has more.")
        finish, usage = self.answer.finish, chunk.get("usage") or {}
        for choice in chunk.get("choices") or ():
            self._ids += choice.get("token_ids") or ()
            finish = choice.get("finish_reason") or finish
            if choice.get("text"):
                yield choice["text"]
        tokens = int(usage.get("completion_tokens", self.answer.tokens))
        given = int(usage.get("prompt_tokens", self.answer.prompt_tokens))
        self.answer = Said(tuple(self._ids), tokens, given, finish)


def _message(body: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    return body[:500].decode("utf-8", "replace")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
