"""Answering an evaluation's rows at 7B shape: one ``generate`` a row, fixed batches, and our engine, in one run.

    python bench/evaluate_gpu.py [--rows 512] [--tokens 128] [--only bf16,nf4] [--record FILE]
    python bench/evaluate_gpu.py --tiny        the same code small, on the CPU, to try it out

Qwen2.5-7B's shape with random weights (none are downloaded); meant to take under five minutes on an H100. Prompts of the
training benchmark's lengths (log-normal, median 160, p95 600, at most 1,024 tokens), every answer its full length, so that
rates compare. For bf16 and NF4:

- alone: a loop of one ``generate`` a row, on the first rows only, its rate is what counts (the slow one);
- fixed: ``generate`` on batches of 32 in the file's order, padded to the longest of each, on the first rows;
- ours: what an evaluation does (``Engine.generate``): sorted by length, as many rows as free memory holds, prompts read in
  passes of bounded size, ended rows leave the batch;
- ours under pressure: the same told that memory is short, and once more with an allocation that fails in the middle;
- unpacked: for which 4-bit shapes and magnitudes of rows the engine found unpacking quicker (``core.models.fourbit``);
- same: how many answers of ours equal those of the loop on the rows that both have (near ties may tip in 16 and 4 bit).

Prints a table and one JSON line; exits 1 where ours is under 200 times the loop or under 8 times the fixed batches (issue 7; not
with ``--tiny``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
ALONE, FIXED = 200.0, 8.0
BATCH = 32


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--alone-rows", type=int, default=3)
    parser.add_argument("--fixed-rows", type=int, default=64)
    parser.add_argument("--only", default="bf16,nf4")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--record", type=Path, default=None, help="write the figures to this JSON file")
    options = parser.parse_args()
    if options.tiny:
        options.rows, options.tokens, options.alone_rows, options.fixed_rows = 96, 24, 12, 96
    import torch
    from engine_gpu import free

    device = torch.device("cpu" if options.tiny else "cuda:0")
    name = "CPU, tiny" if options.tiny else torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}, {options.rows} rows, {options.tokens} new tokens")
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": options.rows, "tokens": options.tokens}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.only.split(","):
            found[part] = measure(part, Path(folder), device, options)
            free(device)
            if options.record:  # after each part, so that a run which is cut off has shown something
                options.record.write_text(json.dumps(found, indent=1), "utf-8")
    print(json.dumps(found))
    parts = [found[part] for part in options.only.split(",")]
    met = all(part["ratio_alone"] >= ALONE and part["ratio_fixed"] >= FIXED for part in parts)
    return 0 if met or options.tiny else 1


def measure(part: str, folder: Path, device: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one number format."""
    from engine_gpu import as_transformers_has_it, free, random_model

    as_transformers_has_it()
    loaded = random_model(part, folder / part, device, tiny=options.tiny)
    prompts = make_prompts(options.rows, longest=200 if options.tiny else 1024)
    began = time.perf_counter()
    bare(loaded, prompts[:1], options.tokens)  # kernels are built and chosen
    said, alone = timed(lambda: [bare(loaded, [p], options.tokens)[0] for p in prompts[: options.alone_rows]], device)
    print(f"{part:5} alone    {options.alone_rows / alone:9.2f} rows/s", flush=True)
    few = prompts[: options.fixed_rows]
    batches = [few[at : at + BATCH] for at in range(0, len(few), BATCH)]
    _, fixed = timed(lambda: [bare(loaded, batch, options.tokens) for batch in batches], device)
    print(f"{part:5} fixed    {len(few) / fixed:9.2f} rows/s", flush=True)
    free(device)
    ours = engine_figures(loaded, prompts, options, said)
    rates = {"alone": options.alone_rows / alone, "fixed": len(few) / fixed, "ours": len(prompts) / ours.pop("seconds_ours")}
    found = {**rates, "ratio_alone": rates["ours"] / rates["alone"], "ratio_fixed": rates["ours"] / rates["fixed"], **ours}
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(
        f"{part:5} ours     {rates['ours']:9.2f} rows/s: {found['ratio_alone']:.1f} times the loop, "
        f"{found['ratio_fixed']:.1f} times fixed batches"
    )
    print(f"{part:5} same answers as alone: {found['same']} of {options.alone_rows}; peak {found['peak_gb']:.1f} GB")
    print(
        f"{part:5} short of memory {found['rate_short']:.2f} rows/s, after a failed allocation {found['rate_failed']:.2f} rows/s"
    )
    return found


def engine_figures(
    loaded: Any, prompts: Sequence[list[int]], options: argparse.Namespace, said: list[list[int]]
) -> dict[str, Any]:
    """Our engine: seconds for all rows, with free memory, little of it, and a failed allocation."""
    import torch
    from engine_gpu import endless

    from core.models.engine import Engine
    from core.records import GenerationSettings

    settings, cuda = GenerationSettings(max_new_tokens=options.tokens), loaded.device.type == "cuda"
    some = prompts[: max(8, len(prompts) // 8)]
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with Engine(loaded, capture=False) as engine:
        endless(engine)
        engine.generate(prompts[:2], settings)
        answers, seconds = timed(lambda: engine.generate(prompts, settings), loaded.device)
        peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
        four_bit = engine._four_bit
        unpacked = four_bit.unpacked if four_bit is not None and four_bit.count else None
        print(f"{loaded.ref.quantisation:5} ours     {len(prompts) / seconds:9.2f} rows/s", flush=True)
        same = sum(list(a.ids) == ids for a, ids in zip(answers, said, strict=False))
        object.__setattr__(engine._limits, "most", max(2, len(some) // 2))
        _, short = timed(lambda: engine.generate(some, settings), loaded.device)
        object.__setattr__(engine._limits, "most", 512)
        failing(engine)
        _, failed = timed(lambda: engine.generate(some, settings), loaded.device)
    assert all(a.tokens == options.tokens for a in answers)
    rates = {"rate_short": len(some) / short, "rate_failed": len(some) / failed}
    return {"seconds_ours": seconds, "same": same, "peak_gb": peak, "unpacked": unpacked, **rates}


def failing(engine: Any) -> None:
    """Let the fifth forward pass run out of memory, once."""
    import torch

    real, calls = engine._adapters.select, [0]

    def select(names: Sequence[str | None]) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        return real(names)

    engine._adapters.select = select


def bare(loaded: Any, prompts: Sequence[list[int]], tokens: int) -> list[list[int]]:
    """``generate`` as transformers has it, on one batch padded on the left."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=loaded.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=loaded.device)
    with torch.inference_mode():
        made = loaded.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, eos_token_id=None, pad_token_id=0,
            max_new_tokens=tokens, min_new_tokens=tokens,
        )  # fmt: skip
    return [row[width:].tolist() for row in made]


def make_prompts(count: int, longest: int) -> list[list[int]]:
    """Random tokens, lengths of the training benchmark in its order, cut to ``longest``."""
    import numpy as np
    from train_gpu import lengths

    random = np.random.default_rng(5)
    return [[int(t) for t in random.integers(10, 500, min(longest, n))] for n in lengths(count)]


def timed(work: Callable[[], Any], device: Any) -> tuple[Any, float]:
    """What it returns, and its seconds on the device."""
    from engine_gpu import wait

    wait(device)
    began = time.perf_counter()
    found = work()
    wait(device)
    return found, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
