"""Names of models, folders that are none, and the default model's way into the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from core.errors import ModelError
from core.models import conversion, default
from core.models.catalogue import list_models, parse_model, resolve
from core.models.load import load_model
from core.records import ModelRef


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("default", "default", "SmolLM2-135M-Instruct"),
        ("SmolLM2-135M-Instruct", "default", "SmolLM2-135M-Instruct"),
        ("hub:Qwen/Qwen3-0.6B", "hub", "Qwen/Qwen3-0.6B"),
        ("modelscope:Qwen/Qwen3-0.6B/", "modelscope", "Qwen/Qwen3-0.6B"),
        ("/models/模型", "path", "/models/模型"),
    ],
)
def test_parse_model(text: str, source: str, name: str) -> None:
    ref = parse_model(text, quantisation="nf4")
    assert (ref.source, ref.name, ref.quantisation) == (source, name, "nf4")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no folder"),
        ((), "no config.json"),
        (("adapter_config.json",), "no config.json"),
        (("config.json",), "no weights"),
        (("config.json", "pytorch_model.bin"), "pickled"),
        (("config.json", "training_args.bin"), "no weights"),
    ],
)
def test_folders_that_are_no_model(tmp_path: Path, files: tuple[str, ...] | None, message: str) -> None:
    folder = tmp_path / "model"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}")
    with pytest.raises(ModelError, match=message) as caught:
        resolve(parse_model(str(folder)))
    assert caught.value.hint


def test_an_endpoint_and_broken_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="endpoint"):
        load_model(ModelRef(source="endpoint", name="x"))
    with pytest.raises(ModelError, match="named"):
        parse_model("  ")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(ModelRef(source="path", name=str(tmp_path)), device="cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of tomorrow"}))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(ModelRef(source="path", name=str(tmp_path)), device="cpu")


def test_a_model_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as handle:
        handle.truncate(2**30)
    monkeypatch.setattr("core.models.load.free_memory", lambda device: 2**29)
    with pytest.raises(ModelError, match=r"needs 1\.1 GB"):
        load_model(ModelRef(source="path", name=str(tmp_path)), device="cpu")


def test_a_model_larger_than_the_gpu_is_offloaded_and_said_so_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as handle:
        handle.truncate(2**30)
    monkeypatch.setattr("core.models.load.free_memory", lambda device: 2**29)
    monkeypatch.setattr("core.models.load.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("core.models.load.torch.cuda.is_bf16_supported", lambda including_emulation: True)
    order: list[str] = []

    def loads(folder: Path, ref: ModelRef, dtype: object, placed: object) -> None:
        order.append(f"loads {placed}")
        raise ZeroDivisionError

    monkeypatch.setattr("core.models.load._load", loads)
    ref = ModelRef(source="path", name=str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        load_model(ref, device="cuda", progress=order.append)
    assert "many times slower" in order[0]
    assert order[1] == "loads auto"
    with pytest.raises(ModelError, match=r"needs 1\.1 GB, cuda:0 has 0\.5 GB free"):  # training would crawl: it refuses
        load_model(ref, device="cuda", for_training=True)


class TestDefault:
    """Without converting: that takes 15 s and is done by whoever needs the model."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TUNEWISE_MODEL_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def test_listed_before_it_is_there(self) -> None:
        (entry,) = list_models()
        assert (entry.text, entry.ready, entry.bytes) == ("default", False, 0)

    def test_missing_or_other_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(default, "PACKAGE", "llm-that-is-not-there")
        with pytest.raises(ModelError, match="not installed") as caught:
            default.default_model_path()
        assert "pip install" in caught.value.hint

    def test_the_command_says_that_it_converts_and_is_silent_when_it_is_done(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(default, "packaged_file", lambda: tmp_path)
        monkeypatch.setattr(default, "convert_default", lambda source: source / "there")
        for there, said in ((False, "Converting the default model, SmolLM2-135M-Instruct, once"), (True, "")):
            monkeypatch.setattr(default, "is_converted", lambda there=there: there)
            assert default.main() == 0
            told = capsys.readouterr()
            assert told.err.startswith(said)
            assert bool(told.err) != there
            assert told.out.strip() == str(default.default_model_folder() if there else tmp_path / "there")

    def test_a_damaged_file(self, cache: Path, tmp_path: Path) -> None:
        bad = tmp_path / "model.gguf"
        bad.write_bytes(b"GGUF, but not that one")
        with pytest.raises(ModelError, match="checksum"):
            default.convert_default(bad)
        assert not default.is_converted()
        assert not list(cache.glob("*.tmp")) + list(cache.glob(".*.tmp"))

    def test_faults_of_the_process_that_converts_come_back(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bad = tmp_path / "model.gguf"
        bad.write_bytes(b"no")
        monkeypatch.setattr(default, "packaged_file", lambda: bad)
        said: list[str] = []
        with pytest.raises(ModelError, match="checksum"):
            default.default_model_path(said.append)
        assert "once" in said[0]

    def test_too_little_space(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("Usage", "total used free")(1, 1, 50 * 2**20)
        monkeypatch.setattr(conversion.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(ModelError, match="50 MB are free"):
            default.default_model_path()

    def test_an_unwritable_cache(self, cache: Path, tmp_path: Path) -> None:
        cache.write_text("a file where the folder should be")
        with pytest.raises(ModelError, match="can't be written"):
            default.convert_default(tmp_path / "any")


def test_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MODEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="no file"):
        resolve(parse_model(str(tmp_path / "none.gguf")))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="can't be read as a GGUF file"):
        resolve(parse_model(str(tmp_path / "bad.gguf")))
    jobs: list[conversion.Conversion] = []
    monkeypatch.setattr("core.models.catalogue.converted", lambda job, progress: jobs.append(job) or job.folder)
    first = resolve(parse_model(str(tmp_path / "bad.gguf")))
    assert resolve(parse_model(str(tmp_path / "bad.gguf"))) == first
    (tmp_path / "bad.gguf").write_bytes(b"GGUF, another")
    assert resolve(parse_model(str(tmp_path / "bad.gguf"))) != first
    assert {job.source.name for job in jobs} == {"bad.gguf"}


@pytest.mark.model
def test_the_converted_default_is_what_the_file_holds() -> None:
    if not default.is_converted():
        pytest.skip("the default model isn't in the cache")
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors import safe_open

    file = default.packaged_file()
    tensors = {t.name: t for t in GGUFReader(file).tensors}
    folder = default.default_model_path()
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert len(list(weights.keys())) == len(tensors)
        for theirs, ours in {
            "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight",
            "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        }.items():
            wanted = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            found = weights.get_tensor(ours)
            assert str(found.dtype) == "torch.bfloat16"
            np.testing.assert_allclose(found.float().numpy(), wanted, rtol=2**-8, atol=1e-6)
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["eos_token_id"], config["pad_token_id"]) == (2, 0)


@pytest.mark.model
def test_the_default_model_answers(tmp_path: Path) -> None:
    if not default.is_converted():
        pytest.skip("the default model isn't in the cache")
    from core.models.engine import Engine
    from core.records import GenerationSettings

    with Engine(load_model(ModelRef(), device="cpu")) as engine:
        ids = engine.tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_dict=False
        )
        answer = engine.generate([ids], GenerationSettings(max_new_tokens=20))[0]
    assert answer.finish == "stop"
    assert "Paris" in answer.text


def test_importing_the_catalogue_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, core.models.catalogue, core.models.memory, core.models.text, core.cli.models;"
        "sys.exit(17 if {'torch', 'transformers'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
