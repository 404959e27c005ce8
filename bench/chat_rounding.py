"""How often a chat's greedy answer differs from a lone one because of what is answered beside it, in bf16 and float32.

    python bench/chat_rounding.py [--model default] [--questions 64] [--tokens 48] [--together 2,8,32]

The samples' extraction rows are asked one by one, then several at once, by the same engine. Prints the share of answers
that differ, at which token they part, and how much likelier the model finds the one token than the other there; the
baseline is asking one by one a second time, which must give no difference.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.models.catalogue import parse_model
from core.models.engine import Engine
from core.models.load import load_model
from core.prompts.examples import prompt_ids
from core.prompts.templates import find_template
from core.records import GenerationSettings

ROWS = Path(__file__).resolve().parents[1] / "samples" / "extraction.jsonl"
Ids = tuple[int, ...]


def main() -> None:
    """Measure both formats and print a line for each number of questions at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default=None)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--together", default="2,8,32")
    options = parser.parse_args()
    sizes = [int(size) for size in options.together.split(",")]
    for dtype in ("bfloat16", "float32"):
        ref = parse_model(options.model).model_copy(update={"dtype": dtype})
        with Engine(load_model(ref, device=options.device, progress=print)) as engine:
            measure(engine, dtype, options.questions, sizes, GenerationSettings(max_new_tokens=options.tokens))


def measure(engine: Engine, dtype: str, questions: int, sizes: list[int], settings: GenerationSettings) -> None:
    """One number format: alone twice, then ``sizes`` at once."""
    rows = [json.loads(line) for line in ROWS.read_text("utf-8").splitlines()]
    step = max(1, len(rows) // questions)
    template = find_template("chat")
    prompts = [prompt_ids(template, row, tokenizer=engine.tokenizer) for row in rows[::step][:questions]]
    alone = [ask(engine, [ids], settings)[0] for ids in prompts]
    again = [ask(engine, [ids], settings)[0] for ids in prompts]
    print(f"{dtype}: {len(prompts)} questions, one by one again: {told(engine, prompts, alone, again)}", flush=True)
    for size in sizes:
        found = [
            answer for start in range(0, len(prompts), size) for answer in ask(engine, prompts[start : start + size], settings)
        ]
        print(f"{dtype}: {size} at once: {told(engine, prompts, alone, found)}", flush=True)


def ask(engine: Engine, prompts: list[list[int]], settings: GenerationSettings) -> list[Ids]:
    """The answers' tokens."""
    return [answer.ids for answer in engine.generate(prompts, settings)]


def told(engine: Engine, prompts: list[list[int]], alone: list[Ids], found: list[Ids]) -> str:
    """How many differ, where first, and the likelihoods of the two tokens there."""
    parted = []
    for prompt, one, other in zip(prompts, alone, found, strict=True):
        if one == other:
            continue
        at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        end = sorted(engine._ends)[0]
        tokens = [[answer[at]] if at < len(answer) else [end] for answer in (one, other)]
        (first, _), (second, _) = engine.score([[*prompt, *one[:at]]] * 2, tokens)
        parted.append((at, abs(first - second)))
    share = f"{len(parted)} of {len(alone)} answers differ from the lone ones"
    if not parted:
        return share
    places, gaps = [at for at, _ in parted], [gap for _, gap in parted]
    return (
        f"{share}: they part at token {min(places) + 1} to {max(places) + 1} (median {statistics.median(places) + 1:g}), "
        f"where the two tokens' log-likelihoods are {statistics.median(gaps):.3f} apart (median; at most {max(gaps):.3f})"
    )


if __name__ == "__main__":
    main()
