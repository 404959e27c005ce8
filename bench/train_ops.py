"""Counts what a QLoRA pass at 7B shape asks of a GPU, without one: kernel launches, bytes kept for backward, peak bytes.

    python bench/train_ops.py [--tokens 8192] [--json]

The models, adapters, attention and loss are the real ones, at full size, on tensors that have shapes but no numbers (torch's
FakeTensorMode), so that every operation is seen and none is computed. What only runs on a GPU has stand-ins
(``bench/standins.py``). Per layer counts are the difference between a model of three layers and one of two.

- course: peft as it is, 8 rows padded to 1,024 tokens, dropout 0.05, every layer recomputed;
- trl: peft as it is, rows end to end, dropout 0.05, Liger; every layer recomputed, or none (trl-kept);
- ours, ours-kept: our path, every layer recomputed, or none; ours-dropout, ours-plain (-kept): with dropout 0.05, without Liger.

A launch is an operation that a GPU runs a kernel for; views and empty tensors are none, and operations of several kernels
are counted as that many (``KERNELS``, read from bitsandbytes 0.50.2 and torch 2.11). Counts are no speeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import weakref
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.standins import as_on_a_gpu

KERNELS = {
    "gemm_4bit": 4,  # scales in two, the weight, the product; M > 1,536
    "attention_backward": 5,  # dot, main, dq's conversion, sums of dk and dv over the heads that share them
    "_scaled_dot_product_flash_attention_for_cpu_backward": 5,
    "lift_fresh": 0,
    "_local_scalar_dense": 0,
}
FREE = ("empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view", "detach", "device")


@dataclass(frozen=True)
class Contender:
    """How a pass is made. ``layers_kept``: none is recomputed."""

    fused: bool = True
    dropout: float = 0.0
    packed: bool = True
    liger: bool = True
    layers_kept: bool = False


CONTENDERS = {
    "course": Contender(fused=False, dropout=0.05, packed=False, liger=False),
    "trl": Contender(fused=False, dropout=0.05),
    "trl-kept": Contender(fused=False, dropout=0.05, layers_kept=True),
    "ours": Contender(),
    "ours-kept": Contender(layers_kept=True),
    "ours-dropout": Contender(dropout=0.05),
    "ours-plain": Contender(liger=False),
    "ours-plain-kept": Contender(liger=False, layers_kept=True),
}


@dataclass(frozen=True)
class Counts:
    """Of one layer: launches, bytes a token that are kept until its backward pass, and the operations with most launches."""

    forward: float
    backward: float
    kept_bytes: float
    top: dict[str, int]


class Watch(TorchDispatchMode):
    """Counts launches, and follows the bytes of the tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.live = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if not (func.is_view or name.strip("_") in FREE or name in FREE):
            self.launches[name] += KERNELS.get(name, 1)
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self._follow(tensor)
        return found

    def _follow(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)

        def gone(_: Any) -> None:
            self.live -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)


def make(contender: Contender, shape: dict[str, Any], layers: int) -> tuple[Any, Any]:
    """A Qwen2 of the shape in NF4 with its adapters, and its fused layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from core.training.attention import NAME, register
    from core.training.fused import fuse
    from core.training.prepare import enable_checkpointing

    config = Qwen2Config(**{**shape, "num_hidden_layers": layers}, tie_word_embeddings=False, use_cache=False)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    code = torch.empty(256)
    for name, layer in list(model.model.layers.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            small = in_nf4(layer, code)
            parent, _, last = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), last, small)
    model.is_loaded_in_4bit = True
    model.requires_grad_(False)
    wanted = LoraConfig(r=16, lora_alpha=32, lora_dropout=contender.dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    with patch.object(torch.nn.Module, "to", lambda self, *_, **__: self):  # everything lies where it shall
        model = get_peft_model(model, wanted, autocast_adapter_dtype=False).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if contender.packed:
        register()
        model.set_attn_implementation(NAME)
    if not contender.layers_kept:
        if not contender.fused:
            model.enable_input_require_grads()
        enable_checkpointing(model)
    return model, fuse(model) if contender.fused else None


def in_nf4(layer: Any, code: torch.Tensor) -> Any:
    """The 4-bit layer of a linear one, double-quantised, without numbers (``Params4bit`` can't hold such tensors)."""
    import bitsandbytes as bnb
    from bitsandbytes.functional import QuantState

    rows, columns = layer.weight.shape
    blocks = rows * columns // 64
    second = QuantState(absmax=torch.empty(-(-blocks // 256)), code=code, blocksize=256, dtype=torch.float32)
    small = bnb.nn.Linear4bit.__new__(bnb.nn.Linear4bit)
    torch.nn.Module.__init__(small)
    small.in_features, small.out_features, small.bias = columns, rows, layer.bias
    small.compute_dtype, small.compute_type_is_set, small.support_avx512bf16_for_cpu = torch.bfloat16, True, False
    small.weight = torch.nn.Parameter(torch.empty(rows * columns // 2, 1, dtype=torch.uint8), requires_grad=False)
    small.weight.compress_statistics, small.weight.quant_type = True, "nf4"
    small.quant_state = small.weight.quant_state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8),
        shape=layer.weight.shape,
        dtype=torch.bfloat16,
        blocksize=64,
        quant_type="nf4",
        offset=torch.tensor(0.0),
        state2=second,
    )
    return small


def one_pass(contender: Contender, shape: dict[str, Any], layers: int, tokens: int) -> dict[str, Any]:
    """Forward and backward of one pass, a quarter of its tokens learnt; the second of two, as a training goes on."""
    from core.training.loss import Head

    rows = 8 if not contender.packed else 1
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, as_on_a_gpu(contender.liger):
        fake.in_kernel_invocation = False
        model, fused = make(contender, shape, layers)
        head = Head(model)
        inputs: dict[str, Any] = {"input_ids": torch.zeros(rows, tokens // rows, dtype=torch.long)}
        if contender.packed:
            ends = torch.zeros(9, dtype=torch.int32)
            inputs |= {"position_ids": torch.zeros(1, tokens, dtype=torch.long), "cu_seq_lens_q": ends, "max_length_q": 1024}
        else:
            inputs["attention_mask"] = torch.ones(rows, tokens // rows, dtype=torch.long)
        with patch.object(head, "loss_sum", _loss_of(head, tokens)):
            for _ in range(2):
                found = _watched(model, head, fused, inputs)
        return found


def _loss_of(head: Any, tokens: int) -> Any:
    """``Head.loss_sum`` with places that are known without looking at numbers."""
    from core.training.loss import FixedHeadLoss

    def loss_sum(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        head._places = torch.zeros(tokens // 4, dtype=torch.long)
        try:
            model(**inputs, use_cache=False)
            hidden = head._hidden
        finally:
            head._places = head._hidden = None
        return FixedHeadLoss.apply(hidden, head._layer.weight, torch.zeros(tokens // 4, dtype=torch.long))

    return loss_sum


def _watched(model: Any, head: Any, fused: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    for parameter in model.parameters():
        parameter.grad = None
    with ExitStack() as stack:
        if fused is not None:
            stack.enter_context(fused.held(torch.bfloat16))
        with Watch() as watch:
            with torch.autocast("cpu", torch.bfloat16):
                loss = head.loss_sum(model, inputs)
            forward, after = Counter(watch.launches), watch.live
            (loss / 100).backward()
    total = Counter(watch.launches)
    return {"forward": forward, "backward": total - forward, "after": after, "peak": watch.peak}


def measure(contender: Contender, shape: dict[str, Any], tokens: int) -> Counts:
    """What one layer more costs."""
    two, three = (one_pass(contender, shape, layers, tokens) for layers in (2, 3))
    difference = three["backward"] - two["backward"] + (three["forward"] - two["forward"])
    return Counts(
        forward=three["forward"].total() - two["forward"].total(),
        backward=three["backward"].total() - two["backward"].total(),
        kept_bytes=(three["after"] - two["after"]) / tokens,
        top=dict(difference.most_common(12)),
    )


def main() -> int:
    """Count and print; 0."""
    from bench.train_gpu import SHAPES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    print(f"{'':18} {'launches a layer':>24} {'kept a layer':>14} {'a pass, all layers':>28}")
    print(f"{'':18} {'forward':>8} {'backward':>9} {'both':>5} {'KB a token':>14} {'launches':>9} {'peak GB beside weights':>24}")
    report = {}
    for name in arguments.only.split(","):
        contender = CONTENDERS[name]
        counts = measure(contender, shape, arguments.tokens)
        whole = one_pass(contender, shape, shape["num_hidden_layers"], arguments.tokens)
        launches = whole["forward"].total() + whole["backward"].total()
        report[name] = {**asdict(counts), "launches": launches, "peak_bytes": whole["peak"], "after_bytes": whole["after"]}
        print(
            f"{name:18} {counts.forward:8.0f} {counts.backward:9.0f} {counts.forward + counts.backward:5.0f} "
            f"{counts.kept_bytes / 1e3:14.1f} {launches:9,} {whole['peak'] / 1e9:24.2f}",
            flush=True,
        )
    if arguments.json:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
