"""Tokenizers without torch: read straight from a model folder, kept by path.

``AutoTokenizer`` imports torch (seconds, and hundreds of MB in a page's process);
``PreTrainedTokenizerFast`` reads ``tokenizer.json`` through the ``tokenizers`` library alone.
Knows nothing of models' weights or of templates.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ModelError
from core.records import ModelRef

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CONFIG = "tokenizer_config.json"
_FILES = ("tokenizer.json", _CONFIG, "chat_template.jinja")
_kept: dict[tuple[object, ...], PreTrainedTokenizerFast] = {}
_lock = threading.Lock()


def load_tokenizer(ref: ModelRef) -> PreTrainedTokenizerFast:
    """The tokenizer of a model, padding on the left. Does not import torch.

    Kept for the process's life, so treat it as read only. ModelError where the folder has none.
    """
    from core.models.catalogue import resolve

    return tokenizer_in(resolve(ref))


def tokenizer_in(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a model folder (``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja``)."""
    path = folder.absolute() / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} is no model folder: it has no tokenizer.json",
            "Give the folder of a model with a fast tokenizer: config.json, tokenizer.json and *.safetensors.",
        )
    states = [file.stat() for name in _FILES if (file := path.with_name(name)).is_file()]
    key = (str(path), *((state.st_mtime_ns, state.st_size) for state in states))
    with _lock:
        if key not in _kept:
            _kept[key] = _read(path)
        return _kept[key]


def _read(path: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        config = json.loads((path.parent / _CONFIG).read_text("utf-8")) if (path.parent / _CONFIG).is_file() else {}
        if not isinstance(config, dict):
            raise ValueError(f"{_CONFIG} is not an object")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(path.parent), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(
            f"The tokenizer in {path.parent} can't be read: {str(error).splitlines()[0] if str(error) else error!r}",
            "Download the model again, or save it with `tokenizer.save_pretrained(folder)`.",
        ) from error
    if tokenizer.eos_token is None:
        raise ModelError(
            f"The tokenizer in {path.parent} names no end of text (eos_token)",
            'Add "eos_token" to its tokenizer_config.json.',
        )
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        tokenizer.pad_token = _padding(tokenizer)
    tokenizer.padding_side = "left"
    return tokenizer


def _padding(tokenizer: PreTrainedTokenizerFast) -> str:
    """A token to pad with that isn't the end of a turn, where the vocabulary has one."""
    vocabulary = tokenizer.get_vocab()
    for token in ("<pad>", "<|pad|>", "[PAD]", "<|endoftext|>", "<|finetune_right_pad_id|>", "<unk>"):
        if token in vocabulary and token != tokenizer.eos_token:
            return token
    return str(tokenizer.eos_token)
