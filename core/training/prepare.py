"""Makes a loaded model ready for a method: what is frozen, what is added, in which number formats. A torch module.

Full tuning keeps float32 weights and computes products in the hardware's short format; LoRA keeps the base in that
format (or NF4) and its own small matrices in float32, whose steps would be lost in bf16's eight bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from core.errors import SpecError
from core.models.load import LoadedModel, best_device, best_dtype, load_model
from core.records import ModelRef, TrainSpec
from core.training.dropout import QuickDropout, quicken_dropout
from core.training.fused_mlp import checkpoint_contexts


def model_ref(spec: TrainSpec) -> ModelRef:
    """The base as it is loaded for a spec: NF4 for QLoRA, float32 for full tuning where nothing else is asked for."""
    if spec.method == "qlora":
        return spec.model.model_copy(update={"quantisation": "nf4"})
    if spec.method == "full" and spec.model.dtype == "auto":
        return spec.model.model_copy(update={"dtype": "float32"})
    return spec.model


def load_for_training(spec: TrainSpec, device: str | None = None) -> LoadedModel:
    """Load a spec's base and put its method on it, in train mode, with gradients where it learns."""
    return put_method_on(load_model(model_ref(spec), device=device or best_device(), for_training=True), spec)


def put_method_on(loaded: LoadedModel, spec: TrainSpec) -> LoadedModel:
    """Freeze, add and quicken what a spec's method asks for on a model that is loaded for training."""
    model = loaded.model
    model.config.use_cache = False
    if spec.method == "full":
        model.requires_grad_(True)
    else:
        model.requires_grad_(False)
        if loaded.device.type == "cuda":
            use_kernels(model)
        model = with_lora(model, spec)
        if loaded.device.type == "cpu":
            quicken_dropout(model)
        elif autocast_dtype(loaded, spec) is not None:
            keep_short(model)
    return LoadedModel(loaded.ref, loaded.folder, model, loaded.tokenizer, loaded.device, loaded.dtype)


def with_lora(model: Any, spec: TrainSpec) -> Any:
    """A peft model with fresh float32 LoRA matrices, seeded. SpecError when a target module isn't in the model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=spec.lora_r,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.lora_dropout,
        target_modules=list(spec.target_modules) if spec.target_modules else "all-linear",
        use_dora=spec.use_dora,
        use_rslora=spec.use_rslora,
        task_type="CAUSAL_LM",
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(spec.seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            names = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
            raise SpecError(
                f"target_modules: {', '.join(spec.target_modules or ())} can't be tuned in this model",
                f"Its linear layers: {', '.join(names)}. Leave target_modules out to take all of its blocks.",
            ) from error


def autocast_dtype(loaded: LoadedModel, spec: TrainSpec) -> torch.dtype | None:
    """The short format of products where weights are kept longer; none where weights are in it already."""
    short = best_dtype(str(loaded.device))
    if loaded.device.type == "cuda":
        return short
    return short if spec.method == "full" and loaded.dtype == torch.float32 and short != torch.float32 else None


def trainable_parameters(model: Any) -> tuple[int, int]:
    """Numbers that are learnt, and all numbers of the model (4-bit weights hold two in a byte)."""
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() * (2 if p.dtype == torch.uint8 else 1) for p in model.parameters())
    return learnt, total


def use_kernels(model: Any) -> bool:
    """Put Liger's fused kernels for norms, rotations and feed-forward parts into a base on a GPU, where they are installed.

    Before LoRA is put on it. Says whether the model's architecture has them.
    """
    try:
        liger = import_module("liger_kernel.transformers.monkey_patch")
    except ImportError:
        return False
    if getattr(model.config, "model_type", "") not in liger.MODEL_TYPE_TO_APPLY_LIGER_FN:
        return False
    liger._apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    return True


def keep_short(model: Any) -> None:
    """Let LoRA's products take inputs as they are, where autocast computes them in the short format anyway.

    peft would turn every input into float32 first, and keep it for the backward pass.
    """
    for module in model.modules():
        if hasattr(module, "lora_A") and hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def enable_checkpointing(model: Any, layers: int | None = None) -> None:
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third slower.

    ``layers``: only the first so many; none: all. Without dropout the generator's state isn't kept for them (on a GPU
    that costs more launches than a product).
    """
    draws = any(isinstance(m, torch.nn.Dropout | QuickDropout) and m.p > 0 for m in model.modules())
    draws = draws or bool(getattr(model.config, "attention_dropout", 0))
    options = {"use_reentrant": False, "preserve_rng_state": draws, "context_fn": checkpoint_contexts}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    if layers is not None:
        from transformers.modeling_layers import GradientCheckpointingLayer

        for number, layer in enumerate(m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)):
            layer.gradient_checkpointing = number < layers


@contextmanager
def short_adapter(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Inside the block LoRA's float32 matrices are rounded to ``dtype``, as an evaluation has them: quicker to generate with."""
    kept = [(p, p.data) for n, p in model.named_parameters() if "lora_" in n and p.dtype != dtype]
    for parameter, data in kept:
        parameter.data = data.to(dtype)
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
