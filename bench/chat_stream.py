"""How quick the chat engine is, against transformers' own ``generate`` in the same run.

    python bench/chat_stream.py [--model default] [--quantisation none] [--device cpu] [--tokens 64] [--sessions 20]

Prints one stream's rate and time to first token, many sessions at once, a batch of 60 rows, and with two random LoRA
adapters the time of a switch and a mixed batch against three passes; each with its ratio to the baseline.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.engine_gpu import random_adapter
from core.models.catalogue import parse_model
from core.models.engine import Engine
from core.models.load import LoadedModel, load_model
from core.records import GenerationSettings

TEXT = "On {n} March 2024 Anna Berg of Norvik Trading paid {n}50 EUR in Oslo for the large office contract, invoice {n}7."


def main() -> None:
    """Run all measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--quantisation", default="none", choices=("none", "int8", "nf4"))
    parser.add_argument("--device", default=None)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    loaded = load_model(parse_model(options.model, quantisation=options.quantisation), device=options.device, progress=print)
    prompts = [_prompt(loaded, n) for n in range(options.rows)]
    settings = GenerationSettings(max_new_tokens=options.tokens)
    print(
        f"{loaded.ref.label}, {loaded.dtype}, {_device_name(loaded)}; prompts of {len(prompts[0])} tokens, {options.tokens} new"
    )
    with Engine(loaded) as engine:
        engine._ends = frozenset()  # every answer has its full length, so that rates compare
        one_stream(engine, loaded, prompts[0], settings, options.repeats)
        sessions(engine, prompts, settings, options.sessions)
        batch(engine, loaded, prompts, settings)
        adapters(engine, loaded, prompts[: options.rows // 3], settings)


def one_stream(engine: Engine, loaded: LoadedModel, prompt: list[int], settings: GenerationSettings, repeats: int) -> None:
    """One chat alone, against ``generate`` with a streamer in a thread."""
    ours, theirs, first = [], [], []
    for _ in range(repeats + 1):
        stream = engine.ask(prompt, settings)
        started = time.perf_counter()
        for _piece in stream:
            pass
        ours.append(settings.max_new_tokens / (time.perf_counter() - started))
        first.append(stream.answer.first_token_seconds)
        theirs.append(settings.max_new_tokens / _bare_stream(loaded, prompt, settings))
    rate, bare = statistics.median(ours[1:]), statistics.median(theirs[1:])  # the first warms up
    _line(
        "one stream", f"{rate:.1f} tokens/s, first token {statistics.median(first[1:]) * 1000:.0f} ms", rate / bare, f"{bare:.1f}"
    )


def sessions(engine: Engine, prompts: list[list[int]], settings: GenerationSettings, number: int) -> None:
    """Many chats at once, against one after another on the same engine."""
    alone = _timed(lambda: list(engine.stream(prompts[0], settings)))
    waits: list[float] = []

    def chat(place: int) -> None:
        stream = engine.ask(prompts[place % len(prompts)], settings)
        for _piece in stream:
            pass
        waits.append(stream.answer.first_token_seconds)

    threads = [threading.Thread(target=chat, args=(n,)) for n in range(number)]
    seconds = _timed(lambda: [[t.start() for t in threads], [t.join() for t in threads]])
    rate = number * settings.max_new_tokens / seconds
    _line(f"{number} sessions", f"{rate:.0f} tokens/s together, slowest first token {max(waits):.2f} s", alone * number / seconds)


def batch(engine: Engine, loaded: LoadedModel, prompts: list[list[int]], settings: GenerationSettings) -> None:
    """All rows at once, against ``generate`` on the same padded batch."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[engine._pad] * (width - len(p)) + p for p in prompts], device=loaded.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=loaded.device)
    options = _generate_options(settings)
    engine.generate(prompts, settings)
    ours = _timed(lambda: engine.generate(prompts, settings))
    theirs = _timed(lambda: loaded.model.generate(input_ids=ids, attention_mask=mask, **options))
    tokens = len(prompts) * settings.max_new_tokens
    _line(f"{len(prompts)} rows", f"{ours:.1f} s, {tokens / ours:.0f} tokens/s", theirs / ours, f"{theirs:.1f} s")


def adapters(engine: Engine, loaded: LoadedModel, prompts: list[list[int]], settings: GenerationSettings) -> None:
    """Switching between two adapters, and base and both in one batch against three passes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one", "two"):
            random_adapter(loaded, Path(folder) / name)
            engine.attach(name, Path(folder) / name)
    short = settings.model_copy(update={"max_new_tokens": 1})
    for name in ("one", "two"):
        engine.generate(prompts[:1], short, adapter=name)
    switches = [engine._scheduler.run(lambda n=n: _timed(lambda: engine._adapters.select([n]))) for n in ("one", "two") * 5]
    _line("switch", f"{statistics.median(switches) * 1000:.1f} ms between two adapters")
    names: list[str | None] = [None, "one", "two"]
    passes = _timed(lambda: [engine.generate(prompts, settings, adapter=name) for name in names])
    mixed = _timed(lambda: engine.generate(prompts * 3, settings, adapter=[n for n in names for _ in prompts]))
    _line(f"mixed, 3 x {len(prompts)}", f"{mixed:.1f} s in one batch", passes / mixed, f"{passes:.1f} s")


def _bare_stream(loaded: LoadedModel, prompt: list[int], settings: GenerationSettings) -> float:
    import torch
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True)
    ids = torch.tensor([prompt], device=loaded.device)
    options: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "streamer": streamer,
        **_generate_options(settings),
    }
    thread = threading.Thread(target=loaded.model.generate, kwargs=options)
    started = time.perf_counter()
    thread.start()
    for _piece in streamer:
        pass
    thread.join()
    return time.perf_counter() - started


def _generate_options(settings: GenerationSettings) -> dict[str, Any]:
    return {"max_new_tokens": settings.max_new_tokens, "min_new_tokens": settings.max_new_tokens, "do_sample": False}


def _prompt(loaded: LoadedModel, number: int) -> list[int]:
    messages = [
        {"role": "system", "content": "Extract the elements person, organisation, place, date, amount as JSON."},
        {"role": "user", "content": TEXT.format(n=number % 28 + 1)},
    ]
    return list(loaded.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))


def _device_name(loaded: LoadedModel) -> str:
    import torch

    if loaded.device.type == "cuda":
        return f"{torch.cuda.get_device_name(loaded.device)}, torch {torch.__version__}"
    return f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _line(what: str, measured: str, ratio: float | None = None, baseline: str = "") -> None:
    compared = "" if ratio is None else f"  {ratio:.2f} x the baseline" + (f" ({baseline})" if baseline else "")
    print(f"{what:<16}{measured}{compared}", flush=True)


if __name__ == "__main__":
    main()
