"""Short trainings on this machine's processor, measured: what ``bench/fit_estimates.py`` fits its constants to.

    python bench/cpu_runs.py --one 3 | --make wide FOLDER

The default model and three made-up shapes, each training in a process of its own. Knows nothing of what is fitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from core.training.measured import MeasuredRun

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
SHAPES = {"narrow": (256, 768, 12, 4, 16384), "wide": (1024, 2816, 4, 16, 8192), "deep": (384, 1024, 24, 6, 32768)}
CONFIGS: tuple[tuple[str, str, int, int, float, bool], ...] = (
    ("default", "qlora", 8, 130, 0.3, False),
    ("default", "lora", 8, 130, 0.3, False),
    ("default", "full", 8, 130, 0.3, False),
    ("default", "qlora", 4, 400, 0.1, False),
    ("default", "lora", 2, 700, 0.3, False),
    ("default", "lora", 6, 130, 0.5, True),
    ("default", "qlora", 16, 60, 0.3, False),
    ("narrow", "lora", 16, 64, 0.3, False),
    ("narrow", "qlora", 8, 256, 0.3, False),
    ("narrow", "full", 8, 256, 0.5, False),
    ("narrow", "lora", 3, 1000, 0.2, False),
    ("wide", "lora", 8, 128, 0.3, False),
    ("wide", "qlora", 8, 128, 0.3, False),
    ("wide", "full", 4, 128, 0.3, False),
    ("wide", "lora", 2, 600, 0.1, False),
    ("deep", "lora", 8, 128, 0.2, False),
    ("deep", "qlora", 4, 256, 0.5, False),
    ("deep", "full", 8, 64, 0.3, False),
    ("deep", "lora", 6, 150, 0.3, True),
)
"""Shape, method, rows of a step, mean length in tokens, share of them that is learnt, end to end."""
STEPS, WARM_UP = 4, 1
SOURCE = "bench/fit_estimates.py"
"""What recorded runs name as their source, with the configuration's number."""


def model_folder(name: str) -> Path:
    """The default model, or one of a shape with random weights and the default's tokenizer, made in a process of its own."""
    from core.models.catalogue import resolve
    from core.records import ModelRef

    default = resolve(ModelRef())
    if name == "default":
        return default
    folder = Path(tempfile.gettempdir()) / f"tunewise-{name}"
    if not (folder / "config.json").is_file():
        subprocess.run([sys.executable, __file__, "--make", name, str(folder)], check=True, capture_output=True)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(default / file, folder / file)
    return folder


def make_model(name: str, folder: Path) -> None:
    """Write a model of a shape with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(zip(SIZES, SHAPES[name], strict=True))
    keys = max(1, sizes["num_attention_heads"] // 4)
    config = LlamaConfig(**sizes, num_key_value_heads=keys, tie_word_embeddings=True, pad_token_id=2)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def examples(rows: int, length: int, share: float, vocabulary: int) -> list[Any]:
    """Rows for all steps, lengths within a third of the mean."""
    from core.prompts.examples import IGNORED, Example

    random = np.random.default_rng(5)
    made = []
    for number in range(rows * STEPS):
        size = int(length * random.uniform(0.67, 1.33))
        ids = random.integers(10, vocabulary - 10, size).tolist()
        prompt = size - max(1, round(size * share))
        made.append(Example(f"r-{number:05d}", ids, [IGNORED] * prompt + ids[prompt:], prompt))
    return made


def measure_one(number: int) -> MeasuredRun:
    """Train a few steps of a configuration in this process, as a run does."""
    import resource

    import torch

    from core.records import DatasetUse, ModelRef, Run, SilentReporter, Template, TrainSpec
    from core.training.callbacks import Watcher
    from core.training.costs import cores, processor
    from core.training.data import TrainingData
    from core.training.dev import Looks
    from core.training.prepare import load_for_training
    from core.training.runner import make_trainer
    from core.training.shape import read_shape

    name, wanted, rows, length, share, packed = CONFIGS[number]
    method: Any = wanted
    torch.set_num_threads(cores())
    work = Path(tempfile.mkdtemp())
    folder = model_folder(name)
    shape = read_shape(folder)
    model = ModelRef() if name == "default" else ModelRef(source="path", name=str(folder))
    spec = TrainSpec(
        model=model, data=(DatasetUse(dataset="bench"),), method=method, batch_size=rows, packing=packed, save_every=10**6
    )  # fmt: skip
    loaded = load_for_training(spec, "cpu")
    data = TrainingData(tuple(examples(rows, length, share, shape.vocabulary)), (), rows * STEPS)
    watcher = Watcher(spec, SilentReporter(), loaded, None, Looks(work, "loss"), work)
    run = Run(run_id="bench", name="bench", spec=spec, template=Template(name="bench"))
    trainer = make_trainer(run, data, loaded, watcher, SilentReporter())
    trainer._save_checkpoint = lambda *_, **__: None
    watcher.on_save = lambda *_, **__: None  # type: ignore[assignment]
    sizes, seconds = watched(trainer, packed)
    trainer.train()
    passes = sum(len(step) for step in sizes[WARM_UP:])
    return MeasuredRun(
        card=processor(),
        cores=cores(),
        model="SmolLM2-135M-Instruct" if name == "default" else f"Llama of {name} shape, random weights",
        shape=shape,
        method=method,
        tokens_a_pass=round(sum(map(sum, sizes[WARM_UP:])) / passes, 1),
        row_tokens=round(data.tokens / len(data.examples), 1),
        passes_a_step=passes / (STEPS - WARM_UP),
        learnt_share=share,
        packed=packed,
        peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        seconds_a_pass=round(sum(seconds[WARM_UP:]) / passes, 4),
        source=f"{SOURCE} {number}",
        date=date.today().isoformat(),
    )


def watched(trainer: Any, packed: bool) -> tuple[list[list[int]], list[float]]:
    """Tokens of each pass of each step, padding included, and seconds of each step; both grow as it trains."""
    from transformers import TrainerCallback

    sizes: list[list[int]] = []
    seconds: list[float] = []
    cut = trainer.passes.cut

    def counted(found: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = cut(found)
        sizes.append([sum(found[p] for p in g) if packed else max(found[p] for p in g) * len(g) for g in groups])
        return groups

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    trainer.passes.cut = counted
    trainer.add_callback(Clock())
    return sizes, seconds


def measure_all(chosen: Sequence[int]) -> list[MeasuredRun]:
    """Configurations, each in a process of its own."""
    environment = {**os.environ, "TUNEWISE_WORKSPACE": tempfile.mkdtemp()}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    found = []
    for number in chosen:
        config = CONFIGS[number]
        command = [sys.executable, __file__, "--one", str(number)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            print(f"{config} failed: {done.stderr[-2000:]}", flush=True)
            continue
        run = MeasuredRun.model_validate_json(lines[-1].removeprefix("RESULT "))
        print(f"{config}: {run.seconds_a_pass:.2f} s a pass of {run.tokens_a_pass:,.0f} tokens, {run.peak_gb:.2f} GB", flush=True)
        found.append(run)
    return found


def main() -> int:
    """Measure one configuration, or make one model; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--one", type=int, metavar="NUMBER", help="measure this configuration and print it behind RESULT")
    what.add_argument("--make", nargs=2, metavar=("SHAPE", "FOLDER"), help="write a model of this shape with random weights")
    options = parser.parse_args()
    if options.make:
        make_model(options.make[0], Path(options.make[1]))
        return 0
    run = measure_one(options.one)
    print("RESULT " + json.dumps({**run.model_dump(mode="json", exclude={"shape"}), "shape": dataclasses.asdict(run.shape)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
