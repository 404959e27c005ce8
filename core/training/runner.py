"""Carries out a run: data, model, training, result. Goes on from the last whole checkpoint. A torch module.

Knows nothing of jobs: it reports to a ``Reporter``.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerState, TrainingArguments, set_seed

from core.errors import SpecError, UserError
from core.models.load import LoadedModel
from core.models.memory import free_memory
from core.models.tokenizer import load_tokenizer
from core.records import Reporter, Run, TrainSpec
from core.store.files import disk_is_full, full_disk, is_complete, write_text
from core.store.runs import run_folder, save_run
from core.training.artefacts import result_folder, save_result, what_it_stands_on
from core.training.attention import NAME, choose_attention
from core.training.beside import LOAD_SECONDS
from core.training.callbacks import NothingLeftError, Watcher
from core.training.checkpoints import all_checkpoints, discard_incomplete, last_checkpoint, seconds_of, step_of
from core.training.data import TrainingData, dropped_lines, training_data
from core.training.dev import Looks, dev_rows
from core.training.distributed import is_launched, launch, local_device, rank, say_beside
from core.training.estimate import PASS_TOKENS, MemoryPlan, one_look, plan_training, shape_of, usable
from core.training.looking import LOOK_SECONDS
from core.training.noise import Noise
from core.training.offload import LayerInputs
from core.training.prepare import autocast_dtype, enable_checkpointing, load_for_training, trainable_parameters
from core.training.sharing import SharedTrainer
from core.training.spec import METHOD_NAMES, learning_rate
from core.training.trainer import PASS_MULTIPLE, Passes, StepTrainer

EVERY_LAYER = 1_000_000


def run_training(run: Run, reporter: Reporter, resume: bool = True) -> Run:
    """Train a run to its end or until a stop; returns its saved record, ``complete`` only at its end.

    With ``resume`` it goes on after the last whole checkpoint, to the same result as without a break. UserError for
    what the user can mend: no rows, a model that doesn't fit, a loss that is not a number.
    """
    if run.complete and is_complete(result_folder(run)):
        return run
    if run.spec.gpus > 1 and not is_launched():
        return launch(run, reporter)
    folder = run_folder(run.run_id)
    spec = run.spec
    started = time.monotonic()
    reporter.progress(0, 0, message="preparing the rows")
    tokenizer = load_tokenizer(spec.model)
    data = training_data(spec, run.template, tokenizer)
    for line in data.report():
        reporter.log(line)
    checkpoint = _starting_point(folder / "checkpoints", resume)
    kept = what_it_stands_on(run, checkpoint is not None)
    run = run.model_copy(update={"dropped_rows": len(data.dropped), "trained_rows": data.rows - len(data.dropped), **kept})
    if rank() == 0:
        write_text(folder / "dropped.jsonl", dropped_lines(data))
        save_run(run)
    reporter.progress(0, 0, message=f"loading {spec.model.label}")
    set_seed(spec.seed)
    loaded = load_for_training(spec, local_device())
    learnt, total = trainable_parameters(loaded.model)
    reporter.log(f"{said_method(spec, loaded)}: {learnt:,} of {total:,} numbers are learnt")
    watcher = _watcher(run, reporter, loaded, checkpoint)
    watcher.load_seconds = time.monotonic() - started
    if checkpoint is not None:  # a worker that was killed kept no record of its time
        run = run.model_copy(update={"seconds": max(run.seconds, seconds_of(checkpoint))})
    watcher.began = started - run.seconds
    trainer = make_trainer(run, data, loaded, watcher, reporter)
    if checkpoint is not None and _was_the_last(checkpoint, trainer, watcher):
        reporter.log(f"step {step_of(checkpoint)} was the last: only the result was not written yet")
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        watcher.tell_again(trainer.state)
        return _finish(run, data, trainer, watcher, loaded, time.monotonic() - started, checkpoint)
    if checkpoint is not None:
        reporter.log(f"going on from the checkpoint of step {step_of(checkpoint)}")
    try:
        with contextlib.suppress(NothingLeftError):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except BaseException as error:
        full = disk_is_full(error)
        if rank() == 0:
            discard_incomplete(folder / "checkpoints")  # a disk that is full has room again to say so
        if full:
            raise full_disk() from error
        raise
    return _finish(run, data, trainer, watcher, loaded, time.monotonic() - started)


def _was_the_last(checkpoint: Path, trainer: StepTrainer, watcher: Watcher) -> bool:
    """Whether nothing is left to train after a checkpoint (transformers would take one step more)."""
    step, steps = step_of(checkpoint), int(trainer.args.max_steps)
    return watcher.is_at_rest() or (step >= steps and not watcher.owes_look(step, steps))


def said_method(spec: TrainSpec, loaded: LoadedModel) -> str:
    """Method, device and number format in words: ``LoRA on the processor, weights in 16 bits (bfloat16)``."""
    device = "the processor" if loaded.device.type == "cpu" else f"GPU {loaded.device.index or 0}"
    long = f"{loaded.dtype.itemsize * 8} bits ({str(loaded.dtype).removeprefix('torch.')})"
    quantisation = "nf4" if spec.method == "qlora" else spec.model.quantisation
    short = {"nf4": "4 bits, calculated in ", "int8": "8 bits, calculated in ", "none": ""}[quantisation]
    return f"{METHOD_NAMES[spec.method]} on {device}, weights in {short}{long}"


def total_steps(spec: TrainSpec, examples: int) -> int:
    """Optimiser steps of a training on so many examples an epoch."""
    return spec.max_steps or max(1, math.ceil(spec.epochs * math.ceil(examples / spec.batch_size)))


def _starting_point(folder: Path, resume: bool) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    if rank() == 0:
        discard_incomplete(folder)
    return last_checkpoint(folder) if resume else None


def _watcher(run: Run, reporter: Reporter, loaded: LoadedModel, checkpoint: Path | None) -> Watcher:
    spec = run.spec
    dev = dev_rows(spec.dev, spec, run.template, loaded.tokenizer) if spec.dev is not None else None
    if dev is not None and not dev.rows:
        raise SpecError("No row of dev fits into max_length", "Raise max_length, or leave dev out.")
    for line in dev.report() if dev is not None else ():
        reporter.log(line)
    looks = Looks(run_folder(run.run_id), spec.best_metric, step_of(checkpoint) if checkpoint else 0)
    return Watcher(spec, reporter, loaded, dev, looks, run_folder(run.run_id))


def make_trainer(run: Run, data: TrainingData, loaded: LoadedModel, watcher: Watcher, reporter: Reporter) -> StepTrainer:
    """The trainer of a run on a model that its method was put on: attention, passes and recomputation chosen for its device."""
    spec = run.spec
    attention, packed = choose_attention(loaded, max(data.lengths), spec.packing)
    reporter.log(f"attention: {attention}, rows {'end to end' if packed else 'padded'}")
    plan = _memory_plan(spec, data, loaded, reporter)
    watcher.expected_look = _one_look(spec, data, loaded)
    passes = Passes(
        pad=int(loaded.tokenizer.pad_token_id),
        largest=spec.micro_batch_size,
        most_tokens=plan.pass_tokens if loaded.device.type == "cuda" else None,
        autocast=autocast_dtype(loaded, spec),
        packed=packed,
        borders=attention == NAME,
    )
    if plan.checkpointed:
        enable_checkpointing(loaded.model, plan.checkpointed)
    if spec.neftune_alpha is not None:
        Noise(loaded.model, spec.neftune_alpha, passes.pad)
    share = {"processes": spec.gpus} if is_launched() else {}
    trainer = (SharedTrainer if share else StepTrainer)(
        **share,
        passes=passes,
        say=reporter.log if rank() == 0 else say_beside,
        unpacked=plan.unpacked,
        away=_away(loaded, plan),
        model=loaded.model,
        args=training_arguments(run, len(data.examples), loaded),
        train_dataset=list(data.examples),
        callbacks=[watcher],
    )
    trainer.remove_callback(PrinterCallback)
    watcher.estimated_bytes = plan.total
    watcher.trainer = trainer
    return trainer


def _away(loaded: LoadedModel, plan: MemoryPlan) -> LayerInputs | None:
    """Where the inputs of recomputed layers go; none: they stay."""
    if not plan.offloaded:
        return None
    width = int(loaded.model.config.get_text_config().hidden_size)
    return LayerInputs(loaded.device, width, (plan.pass_tokens + PASS_MULTIPLE) * width, loaded.dtype)


def _memory_plan(spec: TrainSpec, data: TrainingData, loaded: LoadedModel, reporter: Reporter) -> MemoryPlan:
    """How large passes are and how much is recomputed, by what is free now beside the weights that are there already."""
    device = str(loaded.device)
    there = torch.cuda.memory_allocated(loaded.device) if loaded.device.type == "cuda" else 0
    free = usable(free_memory(device) + there, device)
    try:
        shape = shape_of(loaded.model.config.to_dict())
    except UserError as error:
        reporter.log(f"{error.message}: memory isn't planned, a pass that doesn't fit is halved")
        return MemoryPlan(there, 0, 0, 0, EVERY_LAYER if spec.gradient_checkpointing else 0, PASS_TOKENS, free)
    plan = plan_training(spec, data.lengths, shape, device, free, data.learnt_share)
    recomputed = f", {plan.checkpointed} of {shape.layers} layers recomputed" if plan.checkpointed else ""
    recomputed += ", their inputs in the host's memory" if plan.offloaded else ""
    recomputed += f", the weights of {plan.unpacked} of {shape.layers} layers unpacked beside" if plan.unpacked else ""
    size = f"passes of at most {plan.pass_tokens:,} tokens{recomputed}, " if loaded.device.type == "cuda" else ""
    reporter.log(f"{size}about {plan.total / 1e9:.1f} GB at the peak, {plan.free / 1e9:.1f} GB may be used")
    return plan


def _one_look(spec: TrainSpec, data: TrainingData, loaded: LoadedModel) -> float:
    """Seconds that a look at dev is expected to take; 0 where the model names no sizes."""
    try:
        shape = shape_of(loaded.model.config.to_dict())
    except UserError:
        return 0.0
    return one_look(spec, shape, data.tokens / len(data.examples), str(loaded.device))


def training_arguments(run: Run, examples: int, loaded: LoadedModel) -> TrainingArguments:
    """The spec in transformers' words. One batch of the trainer is one optimiser step of this device."""
    spec = run.spec
    steps = total_steps(spec, examples)
    arguments = TrainingArguments(
        output_dir=str(run_folder(run.run_id) / "checkpoints"),
        run_name=run.name,
        max_steps=steps,
        per_device_train_batch_size=max(1, spec.batch_size // spec.gpus),
        learning_rate=learning_rate(spec),
        lr_scheduler_type=spec.scheduler,
        warmup_steps=int(spec.warmup_ratio * steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim=optimizer_name(spec, loaded.device),
        seed=spec.seed,
        data_seed=spec.seed,
        use_cpu=loaded.device.type == "cpu",
        ddp_backend="gloo" if is_launched() and loaded.device.type == "cpu" else None,
        ddp_find_unused_parameters=False if is_launched() else None,
        fp16=scales_gradients(loaded, spec),
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=list(spec.report_to) or "none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    _ = arguments.device
    arguments._n_gpu = min(1, arguments.n_gpu)  # several visible GPUs without a launcher would mean DataParallel
    return arguments


def scales_gradients(loaded: LoadedModel, spec: TrainSpec) -> bool:
    """Whether products or weights are in float16 on a GPU, whose range small gradients fall out of unless they are scaled."""
    return loaded.device.type == "cuda" and torch.float16 in (loaded.dtype, autocast_dtype(loaded, spec))


def optimizer_name(spec: TrainSpec, device: torch.device) -> str:
    """transformers' name of a spec's optimiser. SpecError for an 8-bit one without a GPU."""
    names = {"adamw_8bit": "adamw_bnb_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}
    if spec.optimizer in names:
        if device.type != "cuda":
            raise SpecError(f"optimizer: {spec.optimizer} needs a GPU", "Use adamw, or leave it to auto.")
        return names[spec.optimizer]
    return "adamw_torch_fused"


def _finish(
    run: Run,
    data: TrainingData,
    trainer: StepTrainer,
    watcher: Watcher,
    loaded: LoadedModel,
    seconds: float,
    last: Path | None = None,
) -> Run:
    """Keep what became of the run; write its result if it came to its end. ``last``: its weights lie there, not in memory."""
    folder = run_folder(run.run_id)
    run = run.model_copy(update={"steps": int(trainer.state.global_step), "seconds": run.seconds + seconds})
    if rank() != 0:
        return run
    if watcher.stopped:
        return save_run(run)
    best = watcher.looks.best()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    summary: dict[str, float] = {
        "loss": losses[-1] if losses else trainer.last.loss,
        "tokens_per_second": watcher.tokens / max(1e-9, watcher.seconds),
        "tokens_an_epoch": float(data.tokens),
        "shortened_rows": float(data.shortened),
    }
    if loaded.device.type == "cuda":
        summary["estimated_memory_gb"] = watcher.estimated_bytes / 1e9
        summary["peak_memory_gb"] = torch.cuda.max_memory_allocated(loaded.device) / 1e9
    if watcher.load_seconds:
        summary[LOAD_SECONDS] = watcher.load_seconds
    if watcher.look_seconds:
        summary[LOOK_SECONDS] = sum(watcher.look_seconds) / len(watcher.look_seconds)
    source = last
    if best is not None:
        summary |= {f"dev_{key}" if key != "step" else "best_step": value for key, value in best.items()}
        if int(best["step"]) != run.steps:
            source = next((c for c in all_checkpoints(folder / "checkpoints") if step_of(c) == int(best["step"])), None)
    run = run.model_copy(update={"summary": summary})
    model: Any = loaded.model
    save_result(run, model, loaded.tokenizer, loaded.folder, summary, source)
    return save_run(run.model_copy(update={"complete": True}))
