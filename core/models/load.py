"""Loads a model's weights for a device: number format, quantisation and attention by what the hardware does well.

A torch module; knows nothing of adapters, prompts or generating.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.errors import MissingDependencyError, ModelError
from core.models import code
from core.models.catalogue import resolve
from core.models.cpu4bit import forbid_impossible_packing, forbid_packing
from core.models.identity import KEPT, identity
from core.models.memory import free_memory
from core.models.tokenizer import load_tokenizer
from core.models.weights import loaded_bytes
from core.records import ModelRef

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device. ``tokenizer`` is shared with the whole process: read only."""

    ref: ModelRef
    folder: Path
    model: Any
    tokenizer: PreTrainedTokenizerFast
    device: torch.device
    dtype: torch.dtype


def best_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def best_dtype(device: str) -> torch.dtype:
    """The number format a device computes quickest in without losing range.

    bf16 on GPUs that have it and on CPUs with AVX512-BF16 or AMX; float32 on other CPUs, which only emulate bf16.
    On 2 cores of an AVX512-BF16 EPYC, a LoRA step of SmolLM2-135M takes a third of the time in bf16 and a
    decoding step two thirds.
    """
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "is_avx512_bf16_supported", "is_amx_tile_supported")
    return torch.bfloat16 if any(getattr(torch.cpu, name, lambda: False)() for name in names) else torch.float32


def load_model(
    ref: ModelRef,
    *,
    device: str | None = None,
    for_training: bool = False,
    progress: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load a model; downloads or converts it first if need be.

    ``device``: ``cpu``, ``cuda``, ``cuda:1``; none: the best one. ``for_training`` leaves it in train mode and keeps
    4-bit layers from repacking on a CPU (``core.models.cpu4bit``). Where a GPU is too small, what doesn't fit
    stays in main memory (slow), which is said through ``progress`` first; training refuses instead.
    """
    if ref.source == "endpoint":
        raise ModelError(f"{ref.name} is an endpoint: it can't be loaded here", "Choose a model that lies on this machine.")
    folder = resolve(ref, progress)
    where = best_device() if device is None else device
    if where == "cuda":
        where = "cuda:0"
    if where.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("No GPU can be used here", "Choose the CPU, or check the driver: `python -m core doctor`.")
    dtype = best_dtype(where) if ref.dtype == "auto" else getattr(torch, ref.dtype)
    placed = _placement(folder, ref, where, for_training, progress)
    found = identity(folder)
    model = _load(folder, ref, dtype, placed)
    setattr(model, KEPT, found)  # of what is in memory, whatever comes into the folder later
    if for_training:
        forbid_packing(model)
        model.train()
    else:
        forbid_impossible_packing(model)
        model.eval()
        model.requires_grad_(False)
    return LoadedModel(ref, folder, model, load_tokenizer(ref), torch.device(where), dtype)


def _load(folder: Path, ref: ModelRef, dtype: torch.dtype, placed: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    own_code = code.prepare(ref, folder)
    options: dict[str, Any] = {}
    if ref.quantisation != "none":
        options["quantization_config"] = _quantisation(ref, dtype, offload=placed == "auto")
    try:  # its attention is sdpa where the architecture may use it, else eager: transformers' own choice
        model = AutoModelForCausalLM.from_pretrained(
            str(own_code or folder),
            dtype=dtype,
            device_map=placed,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=own_code is not None,
            **options,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(
            f"{ref.label} doesn't fit into the memory of {placed}",
            "Choose nf4 or a smaller model, or end the jobs that hold memory.",
        ) from error
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        hint = "Check that the folder holds a causal language model that this version of transformers knows, whole."
        if "trust_remote_code" in str(error):
            hint = code.way_to_trust(ref)
        raise ModelError(f"The model in {folder} can't be loaded: {first}", hint) from error
    except Exception as error:  # whatever it raises, a model's own code isn't a bug of ours
        if own_code is None:
            raise
        hint = (
            "It may have been written for another version of transformers: choose a model of an architecture transformers knows."
        )
        raise ModelError(f"The model's own code fails: {error!r}", hint) from error
    code.check_classes((type(model), type(model.config)), ref, folder)
    return model


def _quantisation(ref: ModelRef, dtype: torch.dtype, *, offload: bool) -> Any:
    """QLoRA's format (Dettmers et al. 2023): NF4, scales quantised again, computing in the loading format."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{ref.quantisation} needs bitsandbytes, which isn't installed", "pip install bitsandbytes"
        ) from error
    from transformers import BitsAndBytesConfig

    if ref.quantisation == "int8":
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # warns at each layer of each step
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_enable_fp32_cpu_offload=offload)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_enable_fp32_cpu_offload=offload,
    )


def _placement(
    folder: Path, ref: ModelRef, where: str, for_training: bool, progress: Callable[[str], None] | None
) -> dict[str, str] | str:
    needed = loaded_bytes(folder, ref.quantisation)
    free = free_memory(where)
    if needed * 1.1 < free:
        return {"": where}
    sizes = f"{ref.label} needs {needed / 1e9:.1f} GB, {where} has {free / 1e9:.1f} GB free"
    if where == "cpu" or for_training:
        raise ModelError(sizes, "Choose nf4 or a smaller model, or end the jobs that hold memory.")
    if progress is not None:
        progress(f"{sizes}: part of it stays in main memory, and answers will be many times slower. nf4 may fit.")
    return "auto"
