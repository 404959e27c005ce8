"""Home's panel of the machine and the dialog of models: looked up, fetched by a job, endpoints kept, code shown and trusted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.doctor.report import Generation
from core.jobs.engines import chat_engines
from core.models import cache
from core.models.catalogue import list_models, parse_model, resolve
from core.models.code import trusted
from core.records import ModelRef
from core.store.endpoints import list_endpoints
from core.store.jobs import list_jobs
from pages.ui import engine, machine
from tests.models.stand_in_hub import StandIn, stand_in
from tests.pages.conftest import texts
from tests.pages.filled import fill

FILES = {
    "config.json": json.dumps({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(1000) * 500,
    "modeling_own.py": b"class Own: ...  # of the tests\n",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(FILES) as made:
        monkeypatch.setenv("TUNEWISE_HUB_ENDPOINT", made.url)
        monkeypatch.setenv("TUNEWISE_MODEL_CACHE", str(tmp_path / "models"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield made


@pytest.fixture
def app(open_page: Callable[..., AppTest], tmp_path: Path) -> AppTest:
    fill(tmp_path, evaluations=False)
    return open_page()


def test_what_libraries_add_is_told_of_those_here_and_of_those_missing(app: AppTest) -> None:
    found = "\n".join(texts(app))
    for name in ("bitsandbytes", "flash-attn", "liger-kernel", "vllm", "ray"):
        assert f"**{name}**" in found
    assert "QLoRA" in found


def test_the_default_model_is_tried_on_request(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Generation(text="Blue\n*x*", tokens=3, load_seconds=1.25, tokens_per_second=18.5, device="cpu", decoding="plain steps")
    monkeypatch.setattr(machine, "try_generation", lambda using: said)
    app.button(key="machine_try").click().run()
    assert not app.exception
    assert any("3 tokens at 18.5 tokens/s on cpu" in text for text in texts(app))


def test_what_is_in_memory_and_what_went_is_told(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        decoding = "CUDA graphs (2 captured)"

        def close(self) -> None: ...

    made = cache.EngineCache(load=lambda ref, device: Fake(), size=lambda ref: 3_000_000_000)
    monkeypatch.setattr(cache, "_process", made)
    assert engine.memory_note() == ""
    for name in ("one", "two"):
        with made.using(ModelRef(source="path", name=f"/{name}"), "cuda:0"):
            assert "answering" in engine.memory_note()
    app.run()
    note = next(text for text in texts(app) if "on cuda:0" in text)
    assert "two on cuda:0, about 3.00 GB, idle for" in note
    assert "CUDA graphs (2 captured)" in note
    assert "one was released" in note
    assert note.endswith("ago: two was asked for.")
    app.button(key="engine_release").click().run()
    assert made.loaded == []
    assert any("two was released" in text and "it was freed here" in text for text in texts(app))


def test_a_model_is_looked_up_and_fetched_by_a_job(app: AppTest, hub: StandIn) -> None:
    app.button(key="machine_models").click().run()
    app.text_input(key="models_name").set_value("hub:org/model").run()
    app.button(key="models_look").click().run()
    assert not app.exception
    assert any("revision `c0ffee`: " in text and "licence mit" in text for text in texts(app))
    assert any("code of its own, which is not fetched" in text for text in texts(app))
    assert [path for path, *_ in hub.asked if "resolve" in path] == []
    app.button(key="models_fetch").click().run()
    assert not app.exception
    (job,) = [job for job in list_jobs() if job.kind == "fetch"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(m.text == "hub:org/model" for m in list_models()):
        time.sleep(0.1)
    entry = next(m for m in list_models() if m.text == "hub:org/model")
    assert (entry.bytes, entry.license) == (500_000, "mit")
    assert job.device == "network"


@pytest.mark.parametrize(
    ("name", "statuses", "message"),
    [("hub:org/model", [403], "gated"), ("hub:org/model", [404], "no model org/model"), ("org/model", [], "no name of a hub")],
)
def test_a_refusal_is_told_in_the_dialog(app: AppTest, hub: StandIn, name: str, statuses: list[int], message: str) -> None:
    hub.statuses = statuses
    app.button(key="machine_models").click().run()
    app.text_input(key="models_name").set_value(name).run()
    app.button(key="models_look").click().run()
    assert not app.exception
    assert any(message in error.value for error in app.error)


def test_an_endpoint_is_kept_and_forgotten(app: AppTest) -> None:
    app.button(key="machine_models").click().run()
    values: dict[str, Any] = {"name": "deep", "url": "api.example", "model": "m-large"}
    for key, value in values.items():
        app.text_input(key=f"models_endpoint_{key}").set_value(value)
    submit = next(button for button in app.button if button.label == "Keep this endpoint")
    submit.click().run()
    assert any("no address" in error.value for error in app.error)
    app.text_input(key="models_endpoint_url").set_value("https://api.example/v1")
    app.text_input(key="models_endpoint_key").set_value("PGPASSWORD")
    next(button for button in app.button if button.label == "Keep this endpoint").click().run()
    assert any("'PGPASSWORD' is no variable of a key" in error.value for error in app.error)
    app.text_input(key="models_endpoint_key").set_value("DEEP_API_KEY")
    app.number_input(key="models_endpoint_in").set_value(2.0)
    next(button for button in app.button if button.label == "Keep this endpoint").click().run()
    assert not app.exception
    (kept,) = list_endpoints()
    assert (kept.name, kept.model, kept.price_in, kept.price_out) == ("deep", "m-large", 2.0, None)


def test_what_was_downloaded_is_removed_whole_or_half(app: AppTest, hub: StandIn) -> None:
    whole = resolve(parse_model("hub:org/model"))
    half = resolve(parse_model("hub:org/model", revision="v1"))
    (half / "manifest.json").unlink()
    app.button(key="machine_models").click().run()
    table = next(frame.value for frame in app.dataframe if "Weights" in frame.value)
    weights = dict(zip(table["Model"], table["Weights"], strict=True))
    assert (weights["hub:org/model"], weights["hub:org/model@v1"]) == ("500 kB", "500 kB, not whole yet")
    for name, folder in (("hub:org/model@v1", half), ("hub:org/model", whole)):
        app.selectbox(key="models_remove_name").set_value(name).run()
        app.button(key="models_remove_now").click().run()
        assert not app.exception
        assert not folder.exists()
    assert [box.key for box in app.selectbox if box.key == "models_remove_name"] == []


def test_code_is_shown_before_it_is_trusted(app: AppTest, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    app.button(key="machine_models").click().run()
    app.text_input(key="models_code_name").set_value("hub:org/model").run()
    app.button(key="models_show").click().run()
    assert not app.exception
    assert any("# of the tests" in block.value for block in app.code)
    assert trusted(parse_model("hub:org/model")) is None
    assert any("exactly these files of this revision" in text and "until the server is restarted" in text for text in texts(app))
    app.button(key="models_trust").click().run()
    assert not app.exception
    said = trusted(parse_model("hub:org/model"))
    assert said is not None
    assert (said.revision, said.files) == ("c0ffee", ("modeling_own.py",))
    ref, other = parse_model("hub:org/model"), parse_model("hub:org/model", revision="v1")
    assert trusted(other) is None
    made = cache.EngineCache(2, load=lambda ref, device: type("Fake", (), {"close": lambda self: None})(), size=lambda ref: 1)
    monkeypatch.setattr(cache, "_process", made)
    for loaded in (ref, other):
        with chat_engines().using(loaded, "cpu"):
            pass
    app.button(key="models_distrust").click().run()
    assert not app.exception
    assert trusted(ref) is None
    assert made.loaded == [other]
    assert made.released[0].reason == "its code is not trusted any more"
