"""The chat engine at 7B shape on a GPU: one stream, first token, adapters, memory; each against bare transformers in one run.

    python bench/engine_gpu.py [--tokens 128] [--prompt 512] [--only bf16,nf4,release] [--record FILE]
    python bench/engine_gpu.py --tiny          the same code small, on the CPU, to try it out

Qwen2.5-7B's shape with random weights (none are downloaded), sdpa attention. Three to five minutes on an H100, by its host.
For bf16 and for NF4:

- stream: tokens a second of one answer, by the engine's plain steps and by its captured CUDA graphs, against ``generate``
  bare and with a streamer; and how many seconds of plain steps and capture the warm-up took;
- first token: what the engine adds to the bare forward pass over the prompt;
- switch: selecting one of two attached adapters and back; mixed: base and both adapters in one batch against three
  passes one after another (8 rows an arm), plain steps both;
- agree: how far the logits of captured steps are from those of one pass over the same tokens, and how many choices are the
  same (``agree``: of whole greedy answers, which go apart for good at the first near tie that tips).

release: memory of the device before a load and after the release, by the cache of the pages.
Prints a table and one JSON line; exits 1 where a target of issue 6 is missed (not with ``--tiny``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

TARGETS = {
    "stream_ratio": (">=", 2.5),
    "first_token_added_ms": ("<=", 100.0),
    "switch_ms": ("<=", 20.0),
    "mixed_ratio": (">=", 1.8),
    "left_mib": ("<=", 64.0),
    "logits_error": ("<=", 0.05),
}
ONLY_OF_BF16 = ("stream_ratio",)
PARTS = ("bf16", "nf4", "release")
ROWS_AN_ARM = 8
MIXED_TOKENS = 48


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--record", type=Path, default=None, help="write the figures to this JSON file")
    options = parser.parse_args()
    if options.tiny:
        options.tokens, options.prompt, options.repeats = 16, 24, 1
    import torch

    device = torch.device("cpu" if options.tiny else "cuda:0")
    name = "CPU" if options.tiny else torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}, prompt of {options.prompt} tokens, {options.tokens} new")
    found: dict[str, Any] = {"device": name, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.only.split(","):
            began = time.perf_counter()
            found[part] = (
                release(Path(folder), device, options) if part == "release" else engine_at(part, Path(folder), device, options)
            )
            found[part]["seconds"] = round(time.perf_counter() - began, 1)
            if options.record:  # after each part, so that a run which is cut off has shown something
                options.record.write_text(json.dumps(found, indent=1), "utf-8")
    print(json.dumps(found))
    missed = shortfalls(found)
    print("\n".join(["missed:", *missed]) if missed else "all targets are met")
    return 1 if missed and not options.tiny else 0


def shortfalls(found: dict[str, Any]) -> list[str]:
    """What is below its target."""
    missed = []
    for part in PARTS:
        for key, (how, limit) in TARGETS.items():
            value = found.get(part, {}).get(key)
            if value is None or (part == "nf4" and key in ONLY_OF_BF16):
                continue
            if not (value >= limit if how == ">=" else value <= limit):
                missed.append(f"{part}: {key} {value:.4g}, wanted {how} {limit:g}")
    return missed


def engine_at(part: str, folder: Path, device: Any, options: argparse.Namespace) -> dict[str, float]:
    """All figures of one number format."""
    from core.models.engine import Engine
    from core.records import GenerationSettings

    loaded = random_model(part, folder / part, device, tiny=options.tiny)
    settings = GenerationSettings(max_new_tokens=options.tokens)
    prompt = [5 + n % 400 for n in range(options.prompt)]
    as_transformers_has_it()
    bare, streamed = bare_rates(loaded, prompt, options)
    found: dict[str, float] = {"bare": bare, "bare_streamer": streamed}
    line(part, f"generate bare {bare:.1f} tokens/s, with a streamer {streamed:.1f}")
    with Engine(loaded, capture=False) as engine:
        endless(engine)
        engine._lane = engine._scheduler._lane = None
        plain, answer = stream_rate(engine, prompt, settings, options.repeats)
        found["plain"] = plain
        prefill = bare_prefill(loaded, prompt, options.repeats)
        first = [engine_first(engine, prompt) for _ in range(options.repeats + 1)]
        found["first_token_added_ms"] = (statistics.median(first[1:]) - prefill) * 1000
        found["prefill_ms"] = prefill * 1000
    line(part, f"plain steps {plain:.1f} tokens/s, {plain / max(bare, streamed):.2f} times bare")
    line(part, f"prefill {prefill * 1000:.0f} ms, the engine adds {found['first_token_added_ms']:.1f} ms to the first token")
    with Engine(loaded, capture=None if device.type == "cuda" else False) as engine:
        endless(engine)
        began = time.perf_counter()
        fast, other = stream_rate(engine, prompt, settings, options.repeats)
        found["graphs"] = fast
        found["graphs_seconds"] = time.perf_counter() - began
        found["stream_ratio"] = fast / max(bare, streamed)
        found["agree"] = sum(a == b for a, b in zip(answer, other, strict=False)) / len(answer)
        found |= engine._scheduler.run(lambda: step_by_step(engine, prompt, answer))
        line(part, f"{engine.decoding}: {fast:.1f} tokens/s, {found['stream_ratio']:.2f} times bare")
        line(part, f"after the same tokens {found['agree_forced']:.0%} of its choices are those of one pass over all, logits off "
                   f"by {found['logits_error']:.4f} at most")  # fmt: skip
        found |= adapters(engine, loaded, folder / part, prompt, settings)
    line(part, f"switch {found['switch_ms']:.2f} ms, mixed batch {found['mixed_ratio']:.2f} times three passes")
    del loaded
    free(device)
    return found


def as_transformers_has_it() -> None:
    """Bare ``generate`` with transformers' own attention, though an engine was here before."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("sdpa", sdpa_attention_forward)


def step_by_step(engine: Any, prompt: list[int], answer: list[int]) -> dict[str, float]:
    """Logits of the lane's steps against those of one pass over prompt and answer: equal choices, largest relative error."""
    import torch
    from transformers import DynamicCache

    lane, device = engine._lane, engine.device
    ids = torch.tensor([[*prompt, *answer]], device=device)
    with torch.inference_mode():
        wanted = engine._model(input_ids=ids, use_cache=False).logits[0, len(prompt) : -1]
        cache = DynamicCache(config=engine._model.config)
        engine._model(input_ids=ids[:, : len(prompt)], use_cache=True, **{lane._cache_name: cache})
        owner = object.__new__(type("Owner", (), {}))
        assert lane.enter(owner, [(x.keys, x.values) for x in cache.layers], len(prompt), len(prompt) + len(answer) + 1)
        select = lambda: engine._adapters.select([None])  # noqa: E731
        found = torch.cat([lane.step(token, None, select).clone() for token in answer[:-1]])
        lane.give_up()
    errors = (found.float() - wanted.float()).norm(dim=1) / wanted.float().norm(dim=1)
    same = (found.argmax(1) == wanted.argmax(1)).float().mean()
    return {"agree_forced": float(same), "logits_error": float(errors.max())}


def stream_rate(engine: Any, prompt: list[int], settings: Any, repeats: int) -> tuple[float, list[int]]:
    """Tokens a second of one answer, prefill left out (median, after one to warm up), and the answer's tokens."""
    rates = []
    for _ in range(repeats + 1):
        stream = engine.ask(prompt, settings)
        for _piece in stream:
            pass
        answer = stream.answer
        decoding = stream._request.ended - stream._request.first_token
        rates.append((answer.tokens - 1) / decoding)
    return statistics.median(rates[1:]), list(answer.ids)


def bare_rates(loaded: Any, prompt: list[int], options: argparse.Namespace) -> tuple[float, float]:
    """Tokens a second of ``generate``, and with a streamer in a thread; the pass over the prompt left out."""
    import torch
    from transformers import TextIteratorStreamer

    ids = torch.tensor([prompt], device=loaded.device)
    common = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": None}

    def generate(tokens: int, streamer: Any = None) -> float:
        def work() -> None:
            loaded.model.generate(**common, max_new_tokens=tokens, min_new_tokens=tokens, streamer=streamer)

        began = time.perf_counter()
        if streamer is None:
            work()
        else:
            thread = threading.Thread(target=work)
            thread.start()
            for _piece in streamer:
                pass
            thread.join()
        wait(loaded.device)
        return time.perf_counter() - began

    rates = []
    for with_streamer in (False, True):
        made = []
        generate(1)
        prefill = statistics.median(generate(1) for _ in range(3))
        for _ in range(options.repeats):
            streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True) if with_streamer else None
            made.append((options.tokens - 1) / max(1e-9, generate(options.tokens, streamer) - prefill))
        rates.append(statistics.median(made))
    return rates[0], rates[1]


def bare_prefill(loaded: Any, prompt: list[int], repeats: int) -> float:
    """Seconds of the model's own forward pass over the prompt."""
    import torch

    ids = torch.tensor([prompt], device=loaded.device)
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with torch.inference_mode():
            loaded.model(input_ids=ids, use_cache=True, logits_to_keep=1).logits.argmax().item()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def engine_first(engine: Any, prompt: list[int]) -> float:
    """Seconds from being asked to the first token."""
    from core.records import GenerationSettings

    stream = engine.ask(prompt, GenerationSettings(max_new_tokens=1))
    for _piece in stream:
        pass
    return float(stream.answer.first_token_seconds)


def adapters(engine: Any, loaded: Any, folder: Path, prompt: list[int], settings: Any) -> dict[str, float]:
    """The time of a switch; and base and two adapters in one batch against three passes."""
    for name in ("one", "two"):
        random_adapter(loaded, folder / name)
        engine.attach(name, folder / name)

    def select(name: str) -> float:
        def work() -> float:
            wait(loaded.device)
            began = time.perf_counter()
            engine._adapters.select([name])
            wait(loaded.device)
            return time.perf_counter() - began

        return float(engine._scheduler.run(work))

    switches = [select(name) for name in ("one", "two") * 6][2:]
    names: list[str | None] = [None, "one", "two"]
    rows = [prompt[: len(prompt) // 2]] * ROWS_AN_ARM
    settings = settings.model_copy(update={"max_new_tokens": min(settings.max_new_tokens, MIXED_TOKENS)})

    def passes() -> None:
        for name in names:
            engine.generate(rows, settings, adapter=name)

    def mixed() -> None:
        engine.generate(rows * 3, settings, adapter=[name for name in names for _ in rows])

    taken = {work.__name__: statistics.median([timed(work, loaded.device) for _ in range(2)]) for work in (passes, mixed)}
    return {
        "switch_ms": statistics.median(switches) * 1000,
        "passes_s": taken["passes"],
        "mixed_s": taken["mixed"],
        "mixed_ratio": taken["passes"] / taken["mixed"],
    }


def release(folder: Path, device: Any, options: argparse.Namespace) -> dict[str, float]:
    """Allocated memory of the device before a load and after the release, through the cache, lane and adapters in use."""
    import torch

    from core.models.cache import EngineCache
    from core.models.engine import Engine
    from core.records import GenerationSettings, ModelRef

    def allocated() -> int:
        return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else 0

    free(device)
    before = allocated()
    cache = EngineCache(load=lambda ref, where: Engine(random_model("bf16", folder / "release", device, tiny=options.tiny)),
                        size=lambda ref: 1)  # fmt: skip
    with cache.using(ModelRef(), str(device)) as engine:
        engine.generate([[5] * 64], GenerationSettings(max_new_tokens=16))
        held = allocated() - before
    cache.release()
    del engine
    free(device)
    left = allocated() - before
    line("release", f"{held / 2**20:,.0f} MiB held, {left / 2**20:.1f} MiB left after the release; {cache.released[0].reason}")
    return {"held_mib": held / 2**20, "left_mib": left / 2**20}


def random_model(part: str, folder: Path, device: Any, *, tiny: bool) -> Any:
    """Qwen2.5-7B's shape with random weights on the device, in a folder with its configuration and a small tokenizer."""
    import torch
    from train_gpu import SHAPES, quantise
    from transformers import AutoModelForCausalLM, Qwen2Config

    from core.models.load import LoadedModel
    from core.models.tokenizer import tokenizer_in
    from core.records import ModelRef
    from tests.tiny import make_tiny_tokenizer

    shape = SHAPES["tiny" if tiny else "7b"]
    config = Qwen2Config(**shape, max_position_embeddings=32768, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    config._attn_implementation = "sdpa"
    tokenizer = tokenizer_in(make_tiny_tokenizer(folder))
    config.save_pretrained(folder)
    dtype = torch.float32 if tiny else torch.bfloat16
    torch.manual_seed(7)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if part == "nf4":
        quantise(model.model.layers, str(device))
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    ref = ModelRef(source="path", name=str(folder), quantisation="nf4" if part == "nf4" else "none")
    return LoadedModel(ref, folder, model, tokenizer, device, dtype)


def random_adapter(loaded: Any, folder: Path) -> None:
    """A LoRA adapter of rank 16 on all linear layers, made on the meta device: the base isn't copied."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(loaded.folder))
        model = get_peft_model(empty, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    folder.mkdir(exist_ok=True)
    model.peft_config["default"].save_pretrained(str(folder))
    weights = {
        name.replace(".default.", "."): torch.randn(p.shape) * 0.01 for name, p in model.named_parameters() if "lora_" in name
    }
    save_file(weights, str(folder / "adapter_model.safetensors"))


def endless(engine: Any) -> None:
    """Every answer has its full length, so that rates compare."""
    engine._ends = frozenset()


def timed(work: Callable[[], None], device: Any) -> float:
    """Seconds of a piece of work on the device."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def wait(device: Any) -> None:
    """Until the device has done all it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: Any) -> None:
    """Give back what nobody holds."""
    from core.models.memory import release_memory

    wait(device)
    release_memory()


def line(part: str, text: str) -> None:
    """One finding."""
    print(f"{part:<9}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
