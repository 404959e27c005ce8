"""A tiny model with two adapters behind a real server on a loopback port."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from openai import OpenAI

from core.models import cache
from core.models.engine import Engine
from core.models.load import load_model
from core.prompts.templates import find_template
from core.records import ModelRef
from core.serving.app import make_app
from core.serving.backends import OwnBackend
from core.serving.holder import Holder
from core.serving.served import Plan, ServedModel
from core.serving.server import listen
from tests.tiny import make_tiny_model

KEY = "tw-key-of-the-tests"
ELEMENTS = ("姓名", "公司")


@dataclass
class Running:
    """A server with its address."""

    url: str
    holder: Holder
    plan: Plan

    def client(self, key: str = KEY) -> OpenAI:
        """The real OpenAI client."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two LoRA adapters with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        made[name] = tmp_path_factory.mktemp(name)
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(made[name])
    return made


@pytest.fixture(scope="session")
def plan(folder: Path, adapters: dict[str, Path]) -> Plan:
    model = ModelRef(source="path", name=str(folder), dtype="float32")
    templates = {"one": find_template("chat"), "two": find_template("instruct")}
    tuned = [
        ServedModel(name, templates[name], 1, run=f"run-{name}", adapter=f"run-{name}", folder=path, elements=ELEMENTS)
        for name, path in adapters.items()
    ]
    base = ServedModel("tiny", find_template("json-zh"), 1, elements=ELEMENTS)  # a template that names the elements
    return Plan(model, (*tuned, base), "抽取要素")


@pytest.fixture(scope="session")
def engine(plan: Plan) -> Iterator[Engine]:
    """The same model and adapters outside of the server: what chat and evaluation use."""
    with Engine(load_model(plan.model, device="cpu")) as made:
        for model in plan.models:
            if model.adapter and model.folder:
                made.attach(model.adapter, model.folder)
        yield made


@pytest.fixture(scope="module", autouse=True)
def own_cache() -> Iterator[None]:
    """A server's process has engines of its own; those of tests before it in this one claim devices as chats do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_process", None)
        yield


@pytest.fixture(scope="module")
def server(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWISE_WORKSPACE", str(tmp_path_factory.mktemp("serving")))
        holder = Holder(plan, "cpu", OwnBackend, watch_every=3600)
        holder.warm()
    with run(holder) as running:
        yield running


def run(holder: Holder, **options: int) -> Ended:
    """Serve in a thread; a context manager."""
    return Ended(holder, options)


class Ended:
    """Ends the server with the block."""

    def __init__(self, holder: Holder, options: dict[str, int]) -> None:
        self._holder, self._options = holder, options

    def __enter__(self) -> Running:
        sock = listen("127.0.0.1", 0)
        config = uvicorn.Config(make_app(self._holder, KEY, **self._options), log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [sock]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return Running(f"http://127.0.0.1:{sock.getsockname()[1]}", self._holder, self._holder.plan)

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._holder.close()
