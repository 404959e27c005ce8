"""Turns a GGUF file into an ordinary model folder: bf16 safetensors, configuration, tokenizer.

GGUF is what llama.cpp reads; training and exact probabilities need plain weights, so they are
unpacked once. Imports torch inside functions; knows nothing of where files come from or go to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import ModelError

DIGIT_SPLITTING = frozenset({"smollm"})
"""Values of ``tokenizer.ggml.pre`` that split numbers into single digits before anything else.

llama.cpp, ``llm_tokenizer_bpe``: its patterns for them are ``\\p{N}`` and then GPT-2's. transformers
leaves the first one out, so that ``"\\n\\n5"`` would become other tokens than the model was trained on."""


def metadata(file: Path) -> dict[str, Any]:
    """The header of a GGUF file, without the lists of tokens; ModelError if it isn't one."""
    from gguf import GGUFReader

    try:
        fields = GGUFReader(file).fields
    except (ValueError, OSError, IndexError) as error:
        raise ModelError(f"{file} can't be read as a GGUF file: {error}", "Give a .gguf file that llama.cpp can load.") from error
    skipped = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.scores")
    return {name: field.contents() for name, field in fields.items() if name not in skipped}


def convert(file: Path, folder: Path, *, name: str = "", pad_token: str | None = None) -> dict[str, Any]:
    """Write the model in ``file`` into the existing ``folder`` as bf16 safetensors and a fast tokenizer.

    ``pad_token`` replaces the file's own padding token, which is often the end of a turn: a row
    padded with it would teach or hide the end. Returns what is worth keeping in a manifest.
    """
    header = metadata(file)
    model = _unpacked(file)
    tokenizer = _tokenizer(file, str(header.get("tokenizer.ggml.pre", "")), pad_token)
    context = int(header.get(f"{header.get('general.architecture')}.context_length") or model.config.max_position_embeddings)
    tokenizer.model_max_length = context
    ends = sorted({tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(_document_ends(tokenizer))})

    model.config.pad_token_id = tokenizer.pad_token_id
    model.config._model_name_or_path = name or file.stem
    model.generation_config._from_model_config = False
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save_pretrained(folder)
    _tidy_tokenizer_config(folder / "tokenizer_config.json")
    return {
        "architecture": header.get("general.architecture"),
        "license": header.get("general.license", ""),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _unpacked(file: Path) -> Any:
    """The model with plain bf16 weights, and with nothing left that says it is quantised."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions keep the weights packed unless told not to
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16, **options)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(
            f"{file} can't be converted: {str(error).splitlines()[0]}",
            "Use the model's safetensors instead (hub:org/name); not every architecture can be read from GGUF.",
        ) from error
    model.hf_quantizer = None
    for leftover in ("is_quantized", "quantization_method"):
        if hasattr(model, leftover):
            setattr(model, leftover, None if leftover == "quantization_method" else False)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _tokenizer(file: Path, pre: str, pad_token: str | None) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if tokenizer.eos_token is None:
        raise ModelError(f"{file} names no end of text", "Choose another GGUF file of this model.")
    if pre in DIGIT_SPLITTING:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    tokenizer.padding_side = "left"
    return tokenizer


def _document_ends(tokenizer: Any) -> list[str]:
    """Tokens that end a document rather than a turn; a model that writes one has nothing more to say."""
    return [token for token in ("<|endoftext|>",) if token in tokenizer.get_vocab()]


def _tidy_tokenizer_config(path: Path) -> None:
    """Leave out what only says where the tokenizer was loaded from, and name a class every version knows."""
    config = json.loads(path.read_text("utf-8"))
    for key in ("is_local", "local_files_only", "backend", "name_or_path"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["padding_side"] = "left"
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), "utf-8")
