"""vLLM behind our interface, against a stand-in: what it is started with, what it is asked, and when it is passed over."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from core.errors import MissingDependencyError, ModelError
from core.models.identity import KEPT, identity
from core.prompts.examples import prompt_ids
from core.records import ModelRef
from core.serving.backends import choose, vllm_obstacle
from core.serving.holder import Holder
from core.serving.served import Plan, ServedModel
from core.serving.vllm import VllmBackend, arguments
from core.store.files import MANIFEST, write_json
from tests.serving.conftest import Running, run
from tests.serving.test_api import wait_until
from tests.tiny import make_tiny_tokenizer

STAND_IN = "tests.serving.stand_in_vllm"


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan whose model is only a tokenizer: the stand-in loads none."""
    from core.prompts.templates import find_template

    folder = make_tiny_tokenizer(tmp_path_factory.mktemp("model"))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    adapter = tmp_path_factory.mktemp("adapter")
    (adapter / "adapter_config.json").write_text('{"r": 12}')
    template = find_template("instruct")
    tuned = ServedModel("tuned", template, 1, run="run-1", adapter="run-1", folder=adapter)
    return Plan(ModelRef(source="path", name=str(folder), quantisation="nf4"), (tuned, ServedModel("m", template, 1)))


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "seen.jsonl"))
    return tmp_path / "seen.jsonl"


@pytest.fixture
def server(light: Plan, seen: Path) -> Iterator[Running]:
    holder = Holder(light, "cpu", lambda plan, device: VllmBackend(plan, device, module=STAND_IN))
    with run(holder) as running:
        assert holder.warm() == ""
        yield running


def noted(seen: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in seen.read_text().splitlines()]


def test_vllm_gets_the_ids_of_our_render_and_its_words_come_through(server: Running, light: Plan, seen: Path) -> None:
    from core.models.tokenizer import load_tokenizer

    row = {"instruction": "抽取", "input": "张三"}
    ids = prompt_ids(light.models[0].template, row, tokenizer=load_tokenizer(light.model))
    messages: Any = [{"role": "system", "content": "抽取"}, {"role": "user", "content": "张三"}]
    options: dict[str, Any] = {"messages": messages, "max_tokens": 5, "stop": ["END"]}
    got = server.client().chat.completions.create(model="tuned", **options, extra_body={"return_token_ids": True})
    assert got.choices[0].message.content == "".join(f"{token} " for token in ids[:5])
    assert got.choices[0].token_ids == ids[:5]
    assert got.choices[0].finish_reason == "length"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (len(ids), 5)
    chunks = server.client().chat.completions.create(model="m", **options, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == got.choices[0].message.content

    started, first, second = noted(seen)
    assert started["options"]["lora_modules"] == [f"run-1={light.models[0].folder}"]
    assert (started["options"]["max_lora_rank"], started["options"]["quantization"]) == (16, "bitsandbytes")
    assert started["options"]["host"] == "127.0.0.1"
    assert first["key"]
    assert (first["model"], second["model"]) == ("run-1", "base")
    assert first["stop"] == ["<eoa>", "END"]
    assert first["prompt"] == ids


def test_vllms_window_and_refusals_are_told(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.BadRequestError, match="window"):
        client.completions.create(model="m", prompt="x", max_tokens=600)
    with pytest.raises(openai.InternalServerError, match="no such thing"):
        client.completions.create(model="m", prompt="x", max_tokens=6, temperature=2)


def test_hanging_up_reaches_vllm(server: Running, seen: Path) -> None:
    stream = server.client().completions.create(model="m", prompt="x" * 200, max_tokens=200, top_p=0.05, stream=True)
    next(iter(stream))
    stream.close()
    assert wait_until(lambda: "left_after" in noted(seen)[-1])
    assert noted(seen)[-1]["left_after"] < 60


def test_the_command_line_of_vllm(light: Plan, tmp_path: Path) -> None:
    tuned = light.models[0]
    given = arguments(light, 4321)
    assert given[given.index("--model") + 1] == light.model.name
    assert given[given.index("--served-model-name") + 1] == "base"
    assert (given[given.index("--host") + 1], given[given.index("--port") + 1]) == ("127.0.0.1", "4321")
    assert given[given.index("--quantization") + 1] == "bitsandbytes"
    assert "--enable-lora" in given
    assert given[given.index("--max-lora-rank") + 1] == "16"  # the next that vLLM takes above r = 12
    assert given[given.index("--max-loras") + 1] == "1"
    assert given[-2:] == ["--lora-modules", f"run-1={tuned.folder}"]
    assert not [part for part in given if "key" in part]
    plain = Plan(light.model.model_copy(update={"quantisation": "none"}), light.models[1:])
    assert not {"--enable-lora", "--quantization", "--lora-modules"} & set(arguments(plain, 1))


def test_vllm_is_not_started_with_an_adapter_of_another_model_in_its_bases_folder(tmp_path: Path) -> None:
    from core.prompts.templates import find_template

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    write_json(base / "config.json", {})
    save_file({"w": np.arange(4.0)}, base / "model.safetensors")
    write_json(adapter / "adapter_config.json", {"r": 8})
    write_json(adapter / MANIFEST, {KEPT: identity(base)})
    tuned = ServedModel("tuned", find_template("instruct"), 1, run="run-1", adapter="run-1", folder=adapter)
    plan = Plan(ModelRef(source="path", name=str(base)), (tuned,))
    assert "--lora-modules" in arguments(plan, 1)
    save_file({"w": np.ones(4)}, base / "model.safetensors")
    with pytest.raises(ModelError, match="another model than the one in"):
        arguments(plan, 1)


def test_a_vllm_that_ends_while_loading_is_a_fault(light: Plan, seen: Path) -> None:
    broken = Path(light.model.name).parent / "broken"
    if not broken.exists():
        broken.symlink_to(light.model.name)
    plan = Plan(ModelRef(source="path", name=str(broken)), light.models)
    with pytest.raises(ModelError, match="ended while it was loading"):
        VllmBackend(plan, "cpu", module=STAND_IN)


def test_when_vllm_is_passed_over(light: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("vllm") is None:
        assert "isn't installed" in vllm_obstacle(light, "cuda:0")
        with pytest.raises(MissingDependencyError):
            choose(light, "cuda:0", "vllm")
    monkeypatch.setattr("core.serving.backends.importlib.util.find_spec", lambda name: object())
    assert vllm_obstacle(light, "cuda:0") == ""
    assert choose(light, "cuda:0")[1] == "vLLM"
    assert "GPU" in vllm_obstacle(light, "cpu")
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "use_dora": true}')
    dora = ServedModel("d", light.models[0].template, 1, adapter="d", folder=tmp_path)
    assert "DoRA" in vllm_obstacle(Plan(light.model, (dora,)), "cuda:0")
