"""QLoRA at 7B shape: our default against the course's recipe and unsloth, real tokens a second and peak memory, in one run.

    python bench/train_gpu.py [--two-gpus] [--rows 1024] [--course-rows 512] [--only course,…] [--out DIR] [--record FILE]
    python bench/train_gpu.py --tiny                the same code small and on the CPU, to try it out; its times mean nothing

Qwen2.5-7B's shape with random weights (none are downloaded), NF4 with double quantisation, LoRA r=16 on all linear
layers, loss on answers. Rows of log-normal lengths (median 160, p95 600, at most 1,024 tokens), 40 rows (about 8k
tokens) a step. Each contender trains one epoch in a process of its own after two steps to warm up:

- bound: bf16 matrix products at the model's shapes, and the tokens a second that they allow;
- checks: packed against padded loss and logits, fused against peft's path, whether rows see one another, and an out-of-memory
  that is survived;
- course: transformers' Trainer, DataCollatorForSeq2Seq padded to 8, 8 rows a pass, gradient checkpointing, dropout 0.05;
- peft-recomputed, peft-kept: as TRL packs: rows end to end in our trainer, but peft's own layers with dropout 0.05, every
  layer recomputed or none;
- ours-9gb, ours-10gb, ours-60gb, ours-free: our runner told to use at most 9, 10 or 60 GB, or what is free;
- ours-10gb-dropout, ours-10gb-plain: with dropout 0.05; without Liger;
- unsloth: its model and LoRA with TRL's padding-free trainer, where it is installed;
- two-gpus: ours-60gb in two processes (NCCL), twice the rows a step; its figure is to be held against ours-60gb.

For ours and peft's it prints kernel launches, tokens and seconds of a pass, and GB as planned and as measured; its JSON also
says what a step's GPU time went into. Needs beside torch, transformers, peft, accelerate, bitsandbytes and what Tunewise
imports (pydantic-settings, sqlmodel, platformdirs, filelock); liger-kernel is used where it is installed. Prints a table, writes
train_gpu.json; exits 1 when ours is under 5 times the course's recipe at 10 GB, under 7 times at 60 GB, or a check fails.
``--record core/training/measured.json`` adds our contenders to the runs that estimates are fitted to (then ``python
bench/fit_estimates.py --only-fit``).
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SHAPES: dict[str, dict[str, Any]] = {
    "7b": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
USUAL = ("bound", "checks", "course", "peft-recomputed", "peft-kept", "ours-10gb", "ours-60gb", "unsloth")
CONTENDERS = (*USUAL, "ours-9gb", "ours-free", "ours-10gb-dropout", "ours-10gb-plain", "two-gpus")
CHANGES: dict[str, dict[str, Any]] = {
    "peft-recomputed": {"lora_dropout": 0.05, "gradient_checkpointing": True},
    "peft-kept": {"lora_dropout": 0.05, "gradient_checkpointing": False},
    "ours-10gb-dropout": {"lora_dropout": 0.05},
    "two-gpus": {"batch_size": 80, "gpus": 2},
}
"""What differs from our defaults."""
ROWS_A_STEP = 40
COURSE_ROWS_A_PASS = 8
LIMITS = {
    "ours-9gb": 9.0,
    "ours-10gb": 10.0,
    "ours-10gb-dropout": 10.0,
    "ours-10gb-plain": 10.0,
    "ours-60gb": 60.0,
    "two-gpus": 60.0,
}
WARM_UP_STEPS = 2
TOP_KERNELS = 24
"""Of a step's kernels, those that take the most time: name, launches, milliseconds."""


def lengths(count: int, seed: int = 7) -> list[int]:
    """Log-normal: median 160, p95 600, from 16 to 1,024 tokens."""
    import numpy as np

    sigma = math.log(600 / 160) / 1.6449
    drawn = np.random.default_rng(seed).lognormal(math.log(160), sigma, count)
    return [int(n) for n in np.clip(drawn, 16, 1024)]


def make_rows(count: int, vocabulary: int) -> list[Any]:
    """Examples with random tokens, the last quarter of each the answer."""
    import numpy as np

    from core.prompts.examples import IGNORED, Example

    random = np.random.default_rng(11)
    rows = []
    for number, length in enumerate(lengths(count)):
        ids = [int(token) for token in random.integers(10, vocabulary - 10, length)]
        prompt = length - max(4, length // 4)
        rows.append(Example(f"r-{number:05d}", ids, [IGNORED] * prompt + ids[prompt:], prompt))
    return rows


def make_model(shape: str, device: str) -> Any:
    """A Qwen2 of the shape with random weights, its blocks in NF4."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**SHAPES[shape], tie_word_embeddings=False, max_position_embeddings=32768, use_cache=False)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    quantise(model.model.layers, device)
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model.is_loaded_in_4bit = True
    return model.train()


def quantise(blocks: Any, device: str) -> None:
    """Put 4-bit layers in place of the linear ones."""
    import bitsandbytes as bnb
    import torch

    for name, layer in list(blocks.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            small = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=torch.bfloat16,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            small.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to(device)
            small.bias = layer.bias
            parent, _, last = name.rpartition(".")
            setattr(blocks.get_submodule(parent), last, small)


def clock(device: str) -> Any:
    """A callback that times a training's steps, from the begin of the first to the end of the last: ``seconds``.

    What a trainer does once before its first step (about 0.6 s, in ours as in the course's) is no part of a rate.
    """
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = seconds = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not self.began:
                wait(device)
                self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            wait(device)
            self.seconds = time.perf_counter() - self.began

    return Clock()


class Tokenizer:
    """The one number of a tokenizer that a training needs."""

    pad_token_id = 0


def bound(arguments: argparse.Namespace) -> dict[str, Any]:
    """The card's bf16 rate on the model's own products, and what it would allow without recomputation."""
    import torch

    shape = SHAPES[arguments.shape]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    tokens = 8192 if arguments.shape == "7b" else 256
    rates = []
    for out, into in ((inner, width), (width, inner), (width, width)):
        x = torch.randn(tokens, into, device=arguments.device, dtype=torch.bfloat16)
        w = torch.randn(out, into, device=arguments.device, dtype=torch.bfloat16)
        for _ in range(3):
            x @ w.T
        wait(arguments.device)
        began, times = time.perf_counter(), 20
        for _ in range(times):
            x @ w.T
        wait(arguments.device)
        rates.append(2 * tokens * out * into * times / (time.perf_counter() - began))
    rate = max(rates)
    from core.training.estimate import shape_of

    numbers = shape_of(shape | {"tie_word_embeddings": False})
    flops = 4 * numbers.in_blocks + numbers.vocabulary * numbers.width  # the head on a quarter of the tokens
    return {"tflops": rate / 1e12, "tokens_per_second": rate / flops}


def course(arguments: argparse.Namespace) -> dict[str, Any]:
    """The course's recipe: padded to 8, checkpointed, the trainer's own loss."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer as Plain
    from tokenizers import models
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Trainer, TrainingArguments

    model = make_model(arguments.shape, arguments.device)
    model.requires_grad_(False)
    model.enable_input_require_grads()
    adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, adapter)
    plain = Plain(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")
    examples = make_rows(arguments.course_rows, SHAPES[arguments.shape]["vocab_size"])
    rows = [{"input_ids": e.input_ids, "labels": e.labels, "attention_mask": [1] * len(e.input_ids)} for e in examples]

    def train(part: list[Any]) -> float:
        options = TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=COURSE_ROWS_A_PASS,
            gradient_accumulation_steps=ROWS_A_STEP // COURSE_ROWS_A_PASS,
            gradient_checkpointing=True,
            bf16=True,
            learning_rate=1e-4,
            num_train_epochs=1,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=arguments.device == "cpu",
        )
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True, pad_to_multiple_of=8)
        steps = clock(arguments.device)
        trainer = Trainer(model=model, args=options, train_dataset=part, data_collator=collator, callbacks=[steps])
        trainer.train()
        return float(steps.seconds)

    train(rows[: WARM_UP_STEPS * ROWS_A_STEP])
    reset_peak(arguments.device)
    seconds = train(rows)
    return result(sum(len(e.input_ids) for e in examples), seconds, torch, arguments.device)


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Our runner's trainer on the same model, with the limit that the parent set; or the same with peft's own layers."""
    import torch

    from core.training import fused_proof, prepare, trainer

    name = arguments.contender
    if name.startswith("peft"):
        trainer.fuse_what_holds = lambda *_, **__: (fused_proof.fuse_nothing(), "")  # type: ignore[assignment]
    if name == "ours-10gb-plain":
        prepare.use_kernels = lambda model: False  # type: ignore[assignment]
    run, loaded = our_run(arguments, **CHANGES.get(name, {}))
    rows = run.spec.batch_size
    examples = make_rows(arguments.rows * run.spec.gpus, SHAPES[arguments.shape]["vocab_size"])
    lines: list[str] = []
    train_ours(run, loaded, examples[: WARM_UP_STEPS * rows], lines)
    reset_peak(arguments.device)
    lines.clear()
    told = train_ours(run, loaded, examples, lines)
    found = result(sum(len(e.input_ids) for e in examples), told["seconds"], torch, arguments.device)
    found |= {
        key: told[key] for key in ("passes", "tokens_a_pass", "planned_gb", "fused_layers", "seconds_in_all", "step_seconds")
    }
    found["seconds_a_pass"] = told["seconds"] / told["passes"]
    found |= profiled(lambda: train_ours(run, loaded, examples[:rows], []), arguments.device)
    return {**found, "log": [line for line in lines if "step " not in line and "checkpoint" not in line]}


def profiled(work: Any, device: str) -> dict[str, Any]:
    """Kernels that a GPU is asked to run by ``work``, its busy seconds and what they went into, by torch's profiler."""
    if not device.startswith("cuda"):
        return {"launches_a_step": None}
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            work()
        events = seen.key_averages()
    except RuntimeError as error:  # a driver that forbids it: everything else is measured already
        print(f"launches weren't counted: {error}", file=sys.stderr)
        return {"launches_a_step": None}
    kernels = sorted((e for e in events if e.device_type.name == "CUDA"), key=lambda e: -e.self_device_time_total)
    return {
        "launches_a_step": sum(event.count for event in events if "LaunchKernel" in event.key),
        "busy_seconds_a_step": sum(e.self_device_time_total for e in kernels) / 1e6,
        "kernels": [[e.key[:90], e.count, round(e.self_device_time_total / 1e3, 2)] for e in kernels[:TOP_KERNELS]],
    }


def our_run(arguments: argparse.Namespace, **changes: Any) -> tuple[Any, Any]:
    """A run of our defaults and the model with its method on it."""
    import torch

    from core.models.load import LoadedModel
    from core.records import DatasetUse, ModelRef, Run, Template, TrainSpec
    from core.training.prepare import put_method_on

    values = {"method": "qlora", "batch_size": ROWS_A_STEP, "learning_rate": 1e-4, "save_every": 10**6, **changes}
    spec = TrainSpec(data=(DatasetUse(dataset="bench"),), **values)
    model = make_model(arguments.shape, full_name(arguments.device))
    plain = LoadedModel(
        ModelRef(quantisation="nf4"),
        Path(),
        model,
        Tokenizer(),
        torch.device(full_name(arguments.device)),
        torch.bfloat16,  # type: ignore[arg-type]
    )
    return Run(run_id="bench", name="bench", spec=spec, template=Template(name="bench")), put_method_on(plain, spec)


def train_ours(run: Any, loaded: Any, examples: list[Any], lines: list[str]) -> dict[str, Any]:
    """Train one epoch: its seconds, its passes and their size, and what was planned."""
    from core.records import SilentReporter
    from core.training.callbacks import Watcher
    from core.training.data import TrainingData
    from core.training.dev import Looks
    from core.training.runner import make_trainer

    class Lines(SilentReporter):
        def log(self, text: str) -> None:
            lines.append(text)

    reporter = Lines()
    folder = Path(tempfile.mkdtemp())
    watcher = Watcher(run.spec, reporter, loaded, None, Looks(folder, "loss"), folder)
    trainer = make_trainer(run, TrainingData(tuple(examples), (), len(examples)), loaded, watcher, reporter)
    trainer._save_checkpoint = lambda *_, **__: None  # the last step's checkpoint is not what is measured
    watcher.on_save = lambda *_, **__: None  # type: ignore[assignment]
    sizes: list[int] = []
    cut = trainer.passes.cut

    def counted(found: Any) -> list[list[int]]:
        groups = cut(found)
        sizes.extend(sum(found[place] for place in group) for group in groups)
        return groups

    trainer.passes.cut = counted  # type: ignore[method-assign]
    each: list[float] = []
    on_step_end = watcher.on_step_end

    def timed(*given: Any, **named: Any) -> Any:
        each.append(time.perf_counter())
        return on_step_end(*given, **named)

    watcher.on_step_end = timed  # type: ignore[method-assign]
    steps = clock(str(loaded.device))
    trainer.add_callback(steps)
    began = time.perf_counter()
    trainer.train()
    in_all = time.perf_counter() - began
    lines.append(f"{len(sizes)} passes of {sum(sizes) / len(sizes):.1f} tokens on average, at most {max(sizes)}")
    return {
        "seconds": steps.seconds,
        "seconds_in_all": in_all,
        "step_seconds": [round(b - a, 3) for a, b in itertools.pairwise(each)],
        "passes": len(sizes),
        "tokens_a_pass": sum(sizes) / len(sizes),
        "planned_gb": watcher.estimated_bytes / 1e9,
        "fused_layers": len(trainer._fused.names),
    }


def unsloth(arguments: argparse.Namespace) -> dict[str, Any]:
    """unsloth's patched Qwen2 and LoRA with TRL's padding-free SFT, on the same rows."""
    try:
        import unsloth  # noqa: F401
        from unsloth import FastLanguageModel
    except Exception as error:  # it refuses some machines with errors of its own
        return {"skipped": f"unsloth can't be imported: {str(error).splitlines()[0][:160]}"}
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    folder = Path(tempfile.mkdtemp()) / "model"
    save_random_model(arguments.shape, folder)
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=1024, load_in_4bit=True, dtype=torch.bfloat16
    )
    model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=32, lora_dropout=0, use_gradient_checkpointing="unsloth")
    examples = make_rows(arguments.rows, SHAPES[arguments.shape]["vocab_size"])
    rows = [{"input_ids": e.input_ids, "labels": e.labels} for e in examples]

    how: dict[str, Any] = {}

    def train(part: list[Any]) -> float:
        options = SFTConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=ROWS_A_STEP,
            padding_free=True,
            max_length=None,
            bf16=True,
            num_train_epochs=1,
            learning_rate=1e-4,
            save_strategy="no",
            report_to="none",
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        steps, data = clock(arguments.device), Dataset.from_list(part)
        trainer = SFTTrainer(model=model, args=options, train_dataset=data, processing_class=tokenizer, callbacks=[steps])
        batch = trainer.data_collator([{key: list(value) for key, value in row.items()} for row in part[:4]])
        how.update(collator=type(trainer.data_collator).__name__, four_rows=list(batch["input_ids"].shape), keys=sorted(batch))
        trainer.train()
        return float(steps.seconds)

    train(rows[: WARM_UP_STEPS * ROWS_A_STEP])
    reset_peak(arguments.device)
    seconds = train(rows)
    from unsloth.utils import attention_dispatch

    how.update({key: bool(getattr(attention_dispatch, key, False)) for key in ("HAS_XFORMERS", "HAS_FLASH_ATTENTION")})
    return result(sum(len(e.input_ids) for e in examples), seconds, torch, arguments.device) | how


def save_random_model(shape: str, folder: Path) -> None:
    """A model folder in bf16 with random weights and a plain tokenizer."""
    import torch
    from tokenizers import Tokenizer as Plain
    from tokenizers import models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPES[shape], tie_word_embeddings=False, max_position_embeddings=32768))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    plain = Plain(models.WordLevel({f"t{n}": n for n in range(SHAPES[shape]["vocab_size"])}, unk_token="t2"))
    PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="t0", eos_token="t1").save_pretrained(folder)


def checks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Loss and logits packed against padded, what a row sees of its neighbour, and an out-of-memory that is survived."""
    import torch

    from core.training.attention import NAME, choose_attention
    from core.training.loss import Head, learnt_tokens, packed_batch, padded_batch
    from core.training.prepare import autocast_dtype

    run, loaded = our_run(arguments, lora_dropout=0.0)
    model, device = loaded.model, loaded.device
    rows = make_rows(24, SHAPES[arguments.shape]["vocab_size"])
    head = Head(model)
    learnt = sum(map(learnt_tokens, rows))
    gradients = fused_against_peft(loaded, run, rows)
    with torch.no_grad(), torch.autocast(device.type, autocast_dtype(loaded, run.spec), enabled=device.type == "cuda"):
        model.set_attn_implementation("sdpa")
        alone = 0.0
        reference = []
        for row in rows:
            inputs, targets = padded_batch([row], 0, device)
            alone += float(head.loss_sum(model, inputs, targets)) / learnt
            reference.append(model(**inputs, use_cache=False).logits[0].float().cpu())
        name, _ = choose_attention(loaded, 1024, True)
        inputs, targets = packed_batch(rows, device, borders=name == NAME)
        packed = float(head.loss_sum(model, inputs, targets)) / learnt
        logits = model(**inputs, use_cache=False).logits[0].float().cpu()
        errors, start = [], 0
        for found in reference:
            part = logits[start : start + len(found)]
            errors.append(float((part - found).norm() / found.norm()))
            start += len(found)
        first = len(rows[0].input_ids)
        other = [*make_rows(25, SHAPES[arguments.shape]["vocab_size"])[24:], *rows[1:]]
        changed, _ = packed_batch(other, device, borders=name == NAME)
        moved = model(**changed, use_cache=False).logits[0].float().cpu()[len(other[0].input_ids) :]
        leak = float((moved - logits[first:]).abs().max() / logits.abs().max())
    found = {
        "attention": name,
        "loss_alone": alone,
        "loss_packed": packed,
        "loss_difference": abs(packed - alone),
        "logits_error": max(errors),
        "leak": leak,
        **gradients,
    }
    found["ok"] = found["loss_difference"] < 0.005 and found["logits_error"] < 0.05 and leak < 0.05
    found["ok"] = found["ok"] and found["fused_loss_difference"] < 0.005 and found["fused_gradient_error"] < 0.1
    if device.type == "cuda":
        found |= survive(run, loaded)
        found["ok"] = found["ok"] and found["survived"]
    return found


def fused_against_peft(loaded: Any, run: Any, rows: list[Any]) -> dict[str, float]:
    """Loss a token and gradients of a pass by the fused layers and by peft's own, on the same adapters (B not zero)."""
    import torch

    from core.training.attention import NAME, choose_attention
    from core.training.fused import fuse, unfuse
    from core.training.loss import Head, learnt_tokens, packed_batch
    from core.training.prepare import autocast_dtype

    name, _ = choose_attention(loaded, 1024, True)
    short, head, found = autocast_dtype(loaded, run.spec), Head(loaded.model), []
    learnt = {key: p for key, p in loaded.model.named_parameters() if p.requires_grad}
    for key, parameter in learnt.items():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.01)
    for form in (unfuse, fuse):
        form(loaded.model)
        loaded.model.zero_grad()
        with torch.autocast(loaded.device.type, short, enabled=short is not None):
            loss = head.loss_sum(loaded.model, *packed_batch(rows, loaded.device, borders=name == NAME))
        (loss / sum(map(learnt_tokens, rows))).backward()
        found.append((float(loss) / sum(map(learnt_tokens, rows)), [p.grad for p in learnt.values()]))
    unfuse(loaded.model)
    for key, parameter in learnt.items():
        parameter.grad = None
        if "lora_B" in key:
            torch.nn.init.zeros_(parameter)
    (one, peft), (other, ours) = found
    errors = [float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(ours, peft, strict=True)]
    return {"fused_loss_difference": abs(one - other), "fused_gradient_error": sorted(errors)[len(errors) // 2]}


def survive(run: Any, loaded: Any) -> dict[str, Any]:
    """Train a step whose passes are far too large for the card: it must be halved until it fits."""
    import torch

    from core.training import runner
    from core.training.estimate import MemoryPlan

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_allocated() + 12e9) / total))
    planned = runner._memory_plan
    runner._memory_plan = lambda *_, **__: MemoryPlan(0, 0, 0, 0, 0, 10**9, 0)  # type: ignore[assignment]
    lines: list[str] = []
    try:
        rows = make_rows(4 * ROWS_A_STEP, loaded.model.config.vocab_size)
        spec = run.spec.model_copy(update={"batch_size": 4 * ROWS_A_STEP})
        train_ours(run.model_copy(update={"spec": spec}), loaded, rows, lines)
    finally:
        runner._memory_plan = planned
        torch.cuda.set_per_process_memory_fraction(1.0)
    halved = [line for line in lines if "out of memory" in line]
    return {"survived": bool(halved), "halvings": len(halved), "last": halved[-1] if halved else ""}


def result(tokens: int, seconds: float, torch: Any, device: str) -> dict[str, Any]:
    """What a contender reached."""
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else 0.0
    return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds, "peak_gb": peak}


def wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def full_name(device: str) -> str:
    """``cuda`` with the number of this process's card."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


def child(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One contender in a process of its own; a contender that fails says so and leaves the others alone."""
    environment = {**os.environ, "TUNEWISE_WORKSPACE": tempfile.mkdtemp(), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if limit := LIMITS.get(name):
        environment["TUNEWISE_GPU_MEMORY_GB"] = str(limit)
    command = [sys.executable, __file__, "--contender", name, "--shape", arguments.shape, "--device", arguments.device]
    if name == "two-gpus":
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        environment["TUNEWISE_LAUNCHED_BY"] = str(os.getpid())
    command += ["--rows", str(arguments.rows), "--course-rows", str(arguments.course_rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        print(f"--- {name} failed:\n{done.stderr[-3000:]}", flush=True)
        return {"failed": done.stderr.strip().splitlines()[-1][:300] if done.stderr.strip() else f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def main() -> int:
    """Run the contenders one after another and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--course-rows", type=int, default=512)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default=",".join(USUAL))
    parser.add_argument("--two-gpus", action="store_true", help="two processes beside, on two cards")
    parser.add_argument("--tiny", action="store_true", help="small and on the CPU, to try it out")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--record", type=Path, help="add our contenders to this file of measured runs")
    parser.add_argument("--contender", choices=CONTENDERS)
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.shape, arguments.device, arguments.rows, arguments.course_rows = "tiny", "cpu", 80, 40
    if arguments.contender:
        if arguments.device == "cuda":
            import torch

            torch.cuda.set_device(full_name("cuda"))
        work = {"bound": bound, "checks": checks, "course": course, "unsloth": unsloth}.get(arguments.contender, ours)
        values = work(arguments)
        if os.environ.get("RANK", "0") == "0":
            print("RESULT " + json.dumps(values), flush=True)
        return 0
    found: dict[str, dict[str, Any]] = {}
    for name in [*arguments.only.split(","), *(["two-gpus"] if arguments.two_gpus else [])]:
        began = time.perf_counter()
        found[name] = child(name, arguments)
        shown = {key: value for key, value in found[name].items() if key not in ("kernels", "step_seconds")}
        print(f"{name}: {json.dumps(shown)} ({time.perf_counter() - began:.0f} s in all)", flush=True)
    base = found.get("course", {}).get("tokens_per_second")
    table(found, base)
    report = {"machine": machine(), "rows": arguments.rows, "shape": arguments.shape, "results": found}
    (arguments.out / "train_gpu.json").write_text(json.dumps(report, indent=1))
    if arguments.record:
        record(found, arguments)
    return verdict(found, base)


def table(found: dict[str, dict[str, Any]], base: float | None) -> None:
    """Print what was measured, a line for each contender."""
    heads = ("contender", "tokens/s", "× course", "GB", "planned", "passes", "tokens", "s a pass", "launches a step")
    print("\n" + f"{heads[0]:18}" + "".join(f"{head:>{max(9, len(head) + 1)}}" for head in heads[1:]))
    for name, values in found.items():
        if rate := values.get("tokens_per_second"):
            shown = [f"{rate:,.0f}", f"{rate / base:.2f}" if base else "", f"{values.get('peak_gb', 0):.1f}"]
            if "passes" in values:
                shown += [f"{values['planned_gb']:.1f}", f"{values['passes']}", f"{values['tokens_a_pass']:,.0f}"]
                shown += [f"{values['seconds_a_pass']:.3f}", f"{values['launches_a_step'] or ''}"]
            print(
                f"{name:18}" + "".join(f"{cell:>{max(9, len(head) + 1)}}" for cell, head in zip(shown, heads[1:], strict=False))
            )
    alone, both = (found.get(name, {}).get("tokens_per_second") for name in ("ours-60gb", "two-gpus"))
    if alone and both:
        print(f"two GPUs: {both / alone:.2f} times one")


def record(found: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Add our contenders to the file of measured runs. A run that ran out of memory on the way tells of no one plan."""
    from datetime import date

    from core.training.measured import MeasuredRun, append_run
    from core.training.shape import shape_of

    card = machine()["device"]
    for name, values in found.items():
        log = "\n".join(values.get("log", ()))
        passes = re.search(r"(\d+) passes of ([\d.]+) tokens on average, at most (\d+)", log)
        if not name.startswith("ours") or passes is None or "out of memory" in log:
            continue
        recomputed = re.search(r"(\d+) of \d+ layers recomputed", log)
        unpacked = re.search(r"weights of (\d+) of \d+ layers unpacked", log)
        run = MeasuredRun(
            card=card,
            cores=0 if arguments.device.startswith("cuda") else os.cpu_count() or 1,
            model=f"Qwen2 of {arguments.shape} shape, random weights",
            shape=shape_of(SHAPES[arguments.shape] | {"tie_word_embeddings": False}),
            method="qlora",
            tokens_a_pass=float(passes[2]),
            largest_pass=float(passes[3]),
            row_tokens=values["tokens"] / arguments.rows,
            passes_a_step=int(passes[1]) / math.ceil(arguments.rows / ROWS_A_STEP),
            recomputed=int(recomputed[1]) if recomputed else 0,
            unpacked=int(unpacked[1]) if unpacked else 0,
            offloaded="in the host's memory" in log,
            packed=True,
            fused=values.get("fused_layers", 0) > 0,
            peak_gb=values["peak_gb"] or None,
            seconds_a_pass=values["seconds"] / int(passes[1]),
            source=f"bench/train_gpu.py {name}",
            date=date.today().isoformat(),
        )
        append_run(run, arguments.record)
        print(f"{name} is recorded in {arguments.record}")


def verdict(found: dict[str, dict[str, Any]], base: float | None) -> int:
    """0 if everything that was run reached its aim."""
    faults = [f"{name} failed" for name, values in found.items() if "failed" in values]
    for name, aim in (("ours-10gb", 5.0), ("ours-60gb", 7.0)):
        values = found.get(name, {})
        rate, limit = values.get("tokens_per_second"), LIMITS[name]
        if rate and base and limit and (rate / base < aim or values["peak_gb"] > limit):
            faults.append(f"{name}: {rate / base:.2f} times at {values['peak_gb']:.1f} GB, aim {aim} times")
    if not found.get("checks", {}).get("ok", True):
        faults.append(f"checks: {found['checks']}")
    for fault in faults:
        print(f"NOT REACHED: {fault}")
    return 1 if faults else 0


def machine() -> dict[str, str]:
    """Card and versions."""
    import torch

    from core.training.artefacts import library_versions

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"device": card, **library_versions()}


if __name__ == "__main__":
    sys.exit(main())
