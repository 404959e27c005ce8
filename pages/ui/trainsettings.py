"""Every setting of a training in plain words: how it is asked for, and what it is good for.

Each is a field of ``TrainSpec``; values and bounds only, what they do is in ``core.training``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import streamlit as st

from core.data.elements import separated_names

Number = TypeVar("Number", int, float)
Kind = Literal["whole", "number", "share", "switch", "choice", "names"]


@dataclass(frozen=True)
class Setting:
    """One field of the spec. ``empty`` says what an empty box stands for; without it there is always a value."""

    name: str
    label: str
    help: str
    kind: Kind = "whole"
    low: float = 1
    high: float = 1_000_000
    step: float = 1
    form: str | None = None
    empty: str = ""
    choices: Mapping[Any, str] = field(default_factory=dict)


YES_NO = {None: "chosen for the device", True: "yes", False: "no"}

STEPS: tuple[Setting, ...] = (
    Setting(
        "batch_size", "Rows a step", "Rows that one step of learning is taken from. More: calmer, but fewer steps.", high=4096
    ),
    Setting("max_steps", "Most steps", "Ends the training after so many steps, whatever the epochs say.", empty="as epochs say"),
    Setting(
        "warmup_ratio",
        "Warm-up",
        "Share of the steps in which the rate rises from zero. Keeps the start calm.",
        "share",
        0.0,
        0.3,
        0.01,
    ),
    Setting(
        "scheduler",
        "Schedule",
        "How the rate falls after the warm-up. Cosine ends near zero and suits most trainings.",
        "choice",
        choices={
            "cosine": "cosine",
            "linear": "linear",
            "constant": "constant",
            "constant_with_warmup": "constant after warm-up",
        },
    ),
    Setting(
        "weight_decay",
        "Weight decay",
        "Pulls what is learnt towards zero, against learning by heart. 0 to 0.1.",
        "number",
        0.0,
        1.0,
        0.01,
        "%.3f",
    ),
    Setting(
        "max_grad_norm",
        "Gradient clipping",
        "A step is never larger than this; keeps one odd row from doing harm.",
        "number",
        0.01,
        100.0,
        0.1,
        "%.2f",
    ),
    Setting(
        "neftune_alpha",
        "NEFTune noise",
        "Noise on the inputs while training, against learning by heart; 5 is usual.",
        "number",
        0.1,
        50.0,
        1.0,
        "%.1f",
        empty="none",
    ),
    Setting(
        "optimizer",
        "Optimiser",
        "How a step is made of gradients. 8-bit ones need less memory, and a GPU.",
        "choice",
        choices={
            "auto": "AdamW",
            "adamw_8bit": "AdamW in 8 bits",
            "paged_adamw_8bit": "AdamW in 8 bits, paged",
        },
    ),
    Setting("seed", "Seed", "The same seed gives the same order of rows and the same start.", low=0, high=2**31 - 1),
)
ADAPTER: tuple[Setting, ...] = (
    Setting("lora_r", "LoRA rank r", "Width of the adapter: how much it can take in. 8 to 32 is usual.", high=512),
    Setting("lora_alpha", "LoRA alpha", "How strongly the adapter speaks; twice r is usual.", high=1024),
    Setting(
        "lora_dropout",
        "LoRA dropout",
        "Share of the adapter's inputs left out at random, against learning by heart.",
        "share",
        0.0,
        0.5,
        0.01,
    ),
    Setting(
        "target_modules",
        "Layers with an adapter",
        "Names of linear layers, separated by commas, e.g. q_proj, v_proj.",
        "names",
        empty="all linear layers of the blocks",
    ),
    Setting("use_dora", "DoRA", "Learns length and direction of weights apart: a little better, clearly slower.", "switch"),
    Setting("use_rslora", "rsLoRA", "Scales by the root of r, so that a large r (64 and more) still learns well.", "switch"),
)
DEV: tuple[Setting, ...] = (
    Setting("eval_rows", "Dev rows looked at", "Rows that are answered at each look. More: surer, and slower.", high=4096),
    Setting("eval_max_new_tokens", "Longest answer there", "In tokens. An answer is cut there, so leave room.", high=8192),
    Setting(
        "best_metric", "The best checkpoint by", "The run's result is the checkpoint that was best by this on dev.", "choice"
    ),
    Setting(
        "patience",
        "Stop early",
        "Ends the training after so many looks that were no better than the best one.",
        high=1000,
        empty="never",
    ),
)
KEEP: tuple[Setting, ...] = (
    Setting("save_every", "Checkpoint every … steps", "What a crash may cost at most.", high=100_000),
    Setting("keep_checkpoints", "Checkpoints kept", "The newest ones; the best is kept beside them.", high=1000),
    Setting("log_every", "Loss every … steps", "How often the loss is written down.", high=100_000),
    Setting(
        "report_to",
        "Report to",
        "Other trackers beside this page, e.g. tensorboard or wandb; must be installed.",
        "names",
        empty="this page only",
    ),
)
MACHINE: tuple[Setting, ...] = (
    Setting(
        "micro_batch_size",
        "Rows at once",
        "Rows of one pass; the step stays as large. Less memory, a little slower.",
        high=1024,
        empty="chosen for the device",
    ),
    Setting(
        "gradient_checkpointing",
        "Recompute activations",
        "Much less memory on a GPU, about a third slower.",
        "choice",
        choices=YES_NO,
    ),
    Setting(
        "packing",
        "Rows end to end",
        "No padding between rows; they never see each other. Quick on a GPU.",
        "choice",
        choices=YES_NO,
    ),
)
GPUS = Setting("gpus", "GPUs", "Each takes its share of every step.", high=64)
METRICS = {
    "micro_f1": "micro-F1 of its answers", "loss": "loss", "exact_match": "rows exactly right", "precision": "precision",
    "recall": "recall", "macro_f1": "macro-F1", "json_valid": "valid JSON", "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy", "bleu": "BLEU", "chrf": "chrF", "rouge_l": "ROUGE-L",
}  # fmt: skip


def ask_all(settings: Sequence[Setting], values: Mapping[str, Any], key: str, columns: int = 3) -> dict[str, Any]:
    """Draw settings side by side, each with its value in ``values`` to begin with; returns what they say now."""
    cells = st.columns(columns)
    found = {}
    for place, setting in enumerate(settings):
        with cells[place % columns]:
            found[setting.name] = ask(setting, values[setting.name], key)
    return found


def ask(setting: Setting, value: Any, key: str, choices: Mapping[Any, str] | None = None) -> Any:
    """Draw one setting; ``key`` ends the widget's key, so that another start value makes another widget."""
    name = f"train_{setting.name}{key}"
    shared: dict[str, Any] = {"key": name, "help": setting.help}
    if setting.kind == "switch":
        return st.toggle(setting.label, bool(value), **shared)
    if setting.kind == "choice":
        offered = choices or setting.choices
        options = list(offered)
        start = options.index(value) if value in options else 0
        return st.selectbox(setting.label, options, start, format_func=offered.__getitem__, **shared)
    if setting.kind == "names":
        text = st.text_input(setting.label, ", ".join(value or ()), placeholder=setting.empty, **shared)
        parts = separated_names(text)
        return parts or (None if value is None or setting.name == "target_modules" else ())
    kind = int if setting.kind == "whole" else float
    start = value if value is None and setting.empty else kind(value)
    low, high = reaching(kind(setting.low), kind(setting.high), start)
    step = kind(setting.step)
    if setting.kind == "share":
        return st.slider(setting.label, low, high, start, step, **shared)
    return st.number_input(setting.label, low, high, start, step, setting.form, placeholder=setting.empty or None, **shared)


def reaching(low: Number, high: Number, value: Number | None) -> tuple[Number, Number]:
    """Bounds that hold a value with which a form begins: a run of the shell may have one that no form would offer."""
    return (low, high) if value is None else (min(low, value), max(high, value))
