"""Fits the constants of the time and memory estimates to measured runs, and says how far off left-out runs are.

    python bench/fit_estimates.py [--only-fit | --configs 0,3,…]

Measures trainings on this machine's processor (``bench/cpu_runs.py``: the default model and three made-up shapes; full, LoRA and
QLoRA; short and long rows; padded and end to end), each in a process of its own with as many threads as the machine has cores,
and puts them into ``core/training/measured.json`` in place of earlier ones; those of cards, which ``bench/train_gpu.py --record``
adds, stay. Seconds are those of the clock, as a user waits for them, so nothing else may run on the machine: it refuses to begin
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
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil

from bench.cpu_runs import CONFIGS, measure_all
from core.training.costs import FITTED, MEMORY_TERMS, TIME_TERMS, Work, tflops, time_terms
from core.training.measured import MEASURED, MeasuredRun, read_runs, write_runs


def work_of(run: MeasuredRun) -> Work:
    """A measured run as the estimator sees one."""
    return Work(
        run.shape, run.method, run.tokens_a_pass, run.row_tokens, run.passes_a_step, run.recomputed, run.learnt_share,
        run.lora_r, run.method == "qlora", run.gpu, run.packed, run.fused,
        unpacked=run.unpacked, offloaded=run.offloaded,
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
    options = parser.parse_args()
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
