"""What generates for a server: our own engine, or vLLM where it is installed and can do what is asked.

Imports no torch itself; knows nothing of HTTP requests and devices' claims.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, Protocol

from core.errors import MissingDependencyError, SpecError
from core.models.cache import engines
from core.models.tokenizer import load_tokenizer
from core.records import GenerationSettings
from core.serving.served import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EngineName = Literal["auto", "own", "vllm"]
VLLM_MOST_RANK = 512


class Answer(Protocol):
    """The numbers of an answer: see ``core.models.answers.Answered``."""

    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def tokens(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def finish(self) -> str: ...


class Answering(Protocol):
    """An answer on its way: iterate for its text, then ``answer``. ``close``, from any thread, stops it."""

    def __iter__(self) -> Iterator[str]: ...
    @property
    def answer(self) -> Answer: ...
    def close(self) -> None: ...


class Backend(Protocol):
    """A model in memory with its adapters. Thread-safe."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    context: int

    def ask(self, ids: Sequence[int], settings: GenerationSettings, adapter: str | None, stop: Sequence[str]) -> Answering:
        """Answer a prompt; UserError at once for what can't be answered."""

    def close(self) -> None:
        """Free the memory."""


Open = Callable[[Plan, str], Backend]


class OwnBackend:
    """``core.models.engine``: the very engine of chat and evaluation, so the answers are the same."""

    name = "own"

    def __init__(self, plan: Plan, device: str) -> None:
        self._model, self._device, self._held = plan.model, device, ExitStack()
        self._engine = self._held.enter_context(engines().using(plan.model, device))
        try:
            for model in plan.models:
                if model.adapter is not None and model.folder is not None:
                    self._engine.attach(model.adapter, model.folder)
        except BaseException:
            self.close()
            raise
        self.tokenizer = self._engine.tokenizer
        self.context = self._engine.context

    def ask(self, ids: Sequence[int], settings: GenerationSettings, adapter: str | None, stop: Sequence[str]) -> Answering:
        return self._engine.ask(ids, settings, adapter, stop)

    def close(self) -> None:
        self._held.close()
        engines().release(self._model, device=self._device)


def choose(plan: Plan, device: str, wanted: EngineName = "auto") -> tuple[Open, str]:
    """How to open the model on a device, and which engine that is, with the reason where vLLM was passed over.

    MissingDependencyError or SpecError where vLLM is asked for by name and can't do it.
    """
    load_tokenizer(plan.model)  # a model without a tokenizer is found out before anything is loaded
    if wanted == "own":
        return OwnBackend, "own engine"
    obstacle = vllm_obstacle(plan, device)
    if not obstacle:
        from core.serving.vllm import VllmBackend

        return VllmBackend, "vLLM"
    if wanted == "vllm":
        if obstacle == NOT_INSTALLED:
            raise MissingDependencyError(obstacle, "pip install vllm, or leave --engine away.")
        raise SpecError(f"vLLM can't serve this: {obstacle}", "Leave --engine away: our own engine serves it.")
    return OwnBackend, f"own engine ({obstacle})"


NOT_INSTALLED = "vLLM isn't installed"


def vllm_obstacle(plan: Plan, device: str) -> str:
    """Why vLLM can't serve a plan; empty if it can."""
    if importlib.util.find_spec("vllm") is None:
        return NOT_INSTALLED
    if not device.startswith("cuda"):
        return "vLLM wants a GPU"
    if plan.model.quantisation == "int8":
        return "vLLM has no int8 of bitsandbytes"
    for model in plan.models:
        if model.folder is None:
            continue
        config = json.loads((model.folder / "adapter_config.json").read_text("utf-8"))
        if config.get("use_dora"):
            return f"vLLM has no DoRA ({model.name})"
        if int(config.get("r", 0)) > VLLM_MOST_RANK:
            return f"vLLM takes ranks up to {VLLM_MOST_RANK} ({model.name})"
    return ""
