"""Fits the constants of the time and memory estimates to measured runs, and says how far off left-out runs are.

    python bench/fit_estimates.py [--only-fit | --configs 0,3,…]

Measures trainings on this machine's processor (the default model and three made-up shapes; full, LoRA and QLoRA; short and
long rows; padded and end to end), each in a process of its own with as many threads as the machine has cores, and puts them into
``core/training/measured.json`` in place of earlier ones; those of cards, which ``bench/train_gpu.py --record`` adds,
stay. Seconds are those of the clock, as a user waits for them, so nothing else may run on the machine: it refuses to begin
under load. (Processor time of one thread shared over two cores promised 1.7 times the speed of a real run.) Memory is the
process's largest resident set. Then fits, for each card, what a launch, an operation, an unpacked number and so on cost
(non-negative least squares on relative errors), and writes ``core/training/fitted.json``. Each run is foretold once by
constants that were fitted to the others of its card: the root mean square of those relative errors is the error that pages show.

Exits 1 when a card with ten or more runs is off by more than 25 % in time or memory.
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
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil

from core.training.costs import FITTED, MEMORY_TERMS, TIME_TERMS, Work, tflops, time_terms
from core.training.measured import MEASURED, MeasuredRun, read_runs, write_runs

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
HERE = "bench/fit_estimates.py"


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
    from transformers import TrainerCallback

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
    sizes: list[list[int]] = []
    cut = trainer.passes.cut

    def counted(found: Sequence[int]) -> list[list[int]]:
        groups = cut(found)
        whole = [sum(found[p] for p in g) if packed else max(found[p] for p in g) * len(g) for g in groups]
        sizes.append(whole)
        return groups

    trainer.passes.cut = counted  # type: ignore[method-assign]
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    trainer.add_callback(Clock())
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
        source=f"{HERE} {number}",
        date=date.today().isoformat(),
    )


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


def work_of(run: MeasuredRun) -> Work:
    """A measured run as the estimator sees one."""
    return Work(
        run.shape, run.method, run.tokens_a_pass, run.row_tokens, run.passes_a_step, run.recomputed, run.learnt_share,
        run.lora_r, run.method == "qlora", run.gpu, run.packed, run.fused,
    )  # fmt: skip


def fit_seconds(runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """Constants of time: least squares on relative errors, none below zero, no product quicker than the card's data sheet."""
    from scipy.optimize import nnls

    peak = tflops(runs[0].card) if runs[0].gpu else None
    least = np.array([1 / peak if peak and name in ("products", "attention", "head") else 0.0 for name in TIME_TERMS])
    terms = np.array([time_terms(work_of(run)) for run in runs])
    seconds = np.array([run.seconds_a_pass or 0.0 for run in runs])
    found, _ = nnls(terms / seconds[:, None], 1 - terms @ least / seconds)
    return {name: float(f"{value:.4g}") for name, value in zip(TIME_TERMS, found + least, strict=True)}


def foretold_seconds(constants: dict[str, float], run: MeasuredRun) -> float:
    """Relative error of time."""
    value = sum(constants[name] * term for name, term in zip(TIME_TERMS, time_terms(work_of(run)), strict=True))
    return float(value / (run.seconds_a_pass or 0.0) - 1)


def fit_memory(runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """Constants of memory: bounded least squares on relative errors, drawn a little towards what is counted."""
    from scipy.optimize import least_squares

    names = [n for n in MEMORY_TERMS if n in (("activations", "constant") if runs[0].gpu else MEMORY_TERMS)]
    start = np.array([{"activations": 1.0, "scores": 1.0, "logits": 3.0, "constant": 0.5}[n] for n in names])

    def errors(values: Any) -> Any:
        constants = dict(zip(names, values, strict=True))
        return [*(foretold_memory(constants, run) for run in runs), *(0.01 * (values / start - 1))]

    found = least_squares(errors, start, bounds=(0, np.inf)).x
    return {name: float(f"{value:.4g}") for name, value in zip(names, found, strict=True)}


def foretold_memory(constants: dict[str, float], run: MeasuredRun) -> float:
    """Relative error of peak memory."""
    from core.training.costs import peak_bytes

    assert run.peak_gb is not None
    work = dataclasses.replace(work_of(run), tokens=run.largest_pass or run.tokens_a_pass)
    return float(peak_bytes(work, constants) / 1e9 / run.peak_gb - 1)


def left_out(runs: Sequence[MeasuredRun], fit: Callable[..., Any], foretell: Callable[..., float]) -> list[float]:
    """Each run's relative error when it is foretold by the fit of the others."""
    return [foretell(fit([r for r in runs if r is not run]), run) for run in runs] if len(runs) > 1 else []


def fit_all(runs: Sequence[MeasuredRun]) -> dict[str, Any]:
    """Constants and errors by card; prints each run beside what was foretold of it."""
    cards: dict[str, Any] = {}
    for card in dict.fromkeys(run.card for run in runs):
        timed = [r for r in runs if r.card == card and r.seconds_a_pass]
        weighed = [r for r in runs if r.card == card and r.peak_gb]
        times, sizes = left_out(timed, fit_seconds, foretold_seconds), left_out(weighed, fit_memory, foretold_memory)
        print(f"\n{card}\n{'left out':52} {'tokens':>7} {'s a pass':>9} {'off':>6} {'GB':>6} {'off':>6}")
        for run in [r for r in runs if r.card == card]:
            time_off = f"{times[timed.index(run)]:+6.0%}" if run in timed and times else f"{'':6}"
            size_off = f"{sizes[weighed.index(run)]:+6.0%}" if run in weighed and sizes else f"{'':6}"
            label = f"{run.model[:30]}, {run.method}{', end to end' if run.packed else ''}"
            figures = f"{run.tokens_a_pass:7,.0f} {run.seconds_a_pass or 0:9.3f} {time_off} {run.peak_gb or 0:6.2f} {size_off}"
            print(f"{label:52} {figures}")
        cards[card] = {
            "gpu": (timed + weighed)[0].gpu,
            "cores": (timed + weighed)[0].cores,
            "seconds": fit_seconds(timed) if timed else {},
            "seconds_runs": len(timed),
            "seconds_error": _rms(times),
            "memory": fit_memory(weighed) if weighed else {},
            "memory_runs": len(weighed),
            "memory_error": _rms(sizes),
        }
        shown = {key: cards[card][key] for key in ("seconds", "memory")}
        print(f"time ± {cards[card]['seconds_error']:.0%}, memory ± {cards[card]['memory_error']:.0%}; {json.dumps(shown)}")
    return cards


def _rms(errors: Sequence[float]) -> float:
    return round(float(np.sqrt(np.mean(np.square(errors)))), 3) if errors else 0.0


def main() -> int:
    """Measure, fit, write; 1 when a well measured card is foretold badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-fit", action="store_true", help="fit to the runs that are recorded already")
    parser.add_argument("--configs", default="", help="measure these again, by their numbers")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_model(options.make[0], Path(options.make[1]))
        return 0
    if options.one is not None:
        run = measure_one(options.one)
        print("RESULT " + json.dumps({**run.model_dump(mode="json", exclude={"shape"}), "shape": dataclasses.asdict(run.shape)}))
        return 0
    runs = read_runs()
    if not options.only_fit:
        from core.training.costs import processor

        if (busy := psutil.cpu_percent(2)) > 15:
            print(
                f"Other work takes {busy:.0f} % of this machine: seconds measured now would be wrong. Try again when it is quiet."
            )
            return 2
        chosen = [int(n) for n in options.configs.split(",")] if options.configs else range(len(CONFIGS))
        measured = measure_all(chosen)
        again = {run.source for run in measured}
        runs = [r for r in read_runs() if r.source not in again or r.card != processor()] + measured
        write_runs(runs, MEASURED)
    cards = fit_all(runs)
    FITTED.write_text(json.dumps({"cards": cards}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    bad = [c for c, f in cards.items() if (f["seconds_runs"] >= 10 and max(f["seconds_error"], f["memory_error"]) > 0.25)]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
