"""What tells a model's weights: the same written anew, others in their place, adapters on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.errors import ModelError
from core.models.identity import KEPT, check_same, identity
from core.records import ModelRef
from core.store.files import MANIFEST, write_json
from tests.tiny import make_tiny_model


def test_it_is_the_weights_and_not_their_shards_or_their_config(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path / "model")
    first = identity(folder)
    assert first["folder"] == str(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert identity(folder) == first
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(ModelError, match="other weights"):
        check_same(first, identity(make_tiny_model(folder, seed=1)), "It")
    with pytest.raises(ModelError, match="other layers"):
        check_same(first, identity(make_tiny_model(folder, layers=3)), "It")
    check_same({}, identity(folder), "Of an older run, it")
    check_same(first, identity(make_tiny_model(tmp_path / "other", seed=1)), "Asked on another model, it")


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_cannot_be_read_has_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    assert identity(tmp_path) == {}


def test_an_adapter_is_not_used_on_another_model_in_its_bases_folder(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from core.models.engine import Engine
    from core.models.load import load_model

    base, adapter = make_tiny_model(tmp_path / "base"), tmp_path / "adapter"
    ref = ModelRef(source="path", name=str(base))
    loaded = load_model(ref)
    get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(adapter)
    write_json(adapter / MANIFEST, {KEPT: identity(base)})
    with Engine(load_model(ref)) as engine:
        make_tiny_model(base, seed=1)
        engine.attach("run", adapter)  # what is in memory is still its own
    with Engine(load_model(ref)) as engine:
        with pytest.raises(ModelError, match="another model than the one in"):
            engine.attach("run", adapter)
        write_json(adapter / MANIFEST, {})
        engine.attach("older", adapter)
    moved = shutil.copytree(base, tmp_path / "chosen")
    write_json(adapter / MANIFEST, {KEPT: identity(base) | {"weights": ""}})
    with Engine(load_model(ModelRef(source="path", name=str(moved)))) as engine:
        engine.attach("elsewhere", adapter)
