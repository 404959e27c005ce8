"""Tokenizers are read without torch, exactly, and a folder that isn't one is named as such."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ModelError
from core.models.catalogue import parse_model
from core.models.tokenizer import load_tokenizer, tokenizer_in
from tests.tiny import make_tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_tiny_tokenizer(tmp_path_factory.mktemp("tiny"))
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "model.safetensors").write_bytes(b"")
    return made


def test_loading_a_tokenizer_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys, pathlib; from core.models.tokenizer import load_tokenizer; from core.models.catalogue import parse_model;"
        f"t = load_tokenizer(parse_model({str(folder)!r}));"
        "t.apply_chat_template([{'role': 'user', 'content': '你好'}], tokenize=False, add_generation_prompt=True);"
        "assert t('你好').input_ids; assert 'transformers' in sys.modules; sys.exit(17 if 'torch' in sys.modules else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_the_same_folder_gives_the_same_object_until_it_changes(folder: Path, tmp_path: Path) -> None:
    assert load_tokenizer(parse_model(str(folder))) is tokenizer_in(folder)
    copy = make_tiny_tokenizer(tmp_path / "copy")
    first = tokenizer_in(copy)
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text("utf-8") + "\n", "utf-8")
    assert tokenizer_in(copy) is not first


def test_template_and_special_tokens(folder: Path) -> None:
    tokenizer = tokenizer_in(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "张三"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\n张三<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_ids_to_tokens(tokenizer("<|im_end|>").input_ids) == ["<|im_end|>"]
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|im_end|>", "<|endoftext|>", "left")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_text_comes_back_byte_for_byte(folder: Path, text: str) -> None:
    tokenizer = tokenizer_in(folder)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        tokenizer_in(tmp_path)


def test_broken_files(tmp_path: Path) -> None:
    folder = make_tiny_tokenizer(tmp_path / "t")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        tokenizer_in(folder)
    folder = make_tiny_tokenizer(tmp_path / "u")
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ModelError, match="not an object"):
        tokenizer_in(folder)


def test_padding_is_chosen_where_none_is_named(tmp_path: Path) -> None:
    folder = make_tiny_tokenizer(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert tokenizer_in(folder).pad_token == "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<|im_end|>"}))
    assert tokenizer_in(folder).pad_token == "<|endoftext|>"  # the end of a turn would be learnt as padding
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="eos_token"):
        tokenizer_in(folder)
