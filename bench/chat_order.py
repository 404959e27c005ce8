"""Whether many sessions are answered in a fair order: who waits how long, who is overtaken, at which rates.

    python bench/chat_order.py [--model default] [--sessions 20] [--tokens 64] [--at-once 0]

Most sessions ask for long answers at once; a quarter of them asks for short ones a second later. ``--at-once`` bounds the
rows that are answered together (0: the engine's own bound), so that some must wait. Baseline: a lone short answer, and the
same answers one after another in the order of asking, both in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.models import scheduler
from core.models.answers import Answered
from core.models.batch import Request
from core.models.catalogue import parse_model
from core.models.engine import Engine
from core.models.load import load_model
from core.records import GenerationSettings

LATE_SECONDS, SHORT_TOKENS = 1.0, 8
Asked = tuple[Request, Answered]


def main() -> None:
    """Ask, and print what each had to wait for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default=None)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=0)
    options = parser.parse_args()
    with Engine(load_model(parse_model(options.model), device=options.device, progress=print)) as engine:
        engine._ends = frozenset()  # every answer has its full length
        if options.at_once:
            object.__setattr__(engine._limits, "most", options.at_once)
            scheduler.ALWAYS_ROOM = 0
        measure(engine, options.sessions, options.tokens)


def measure(engine: Engine, sessions: int, tokens: int) -> None:
    """All sessions, then the baselines."""
    late = sessions // 4
    lengths = [tokens] * (sessions - late) + [SHORT_TOKENS] * late
    prompts = [engine.tokenizer(f"Session {n}: describe the colour of the sea near Oslo.").input_ids for n in range(sessions)]
    ask(engine, prompts[0], SHORT_TOKENS)  # warms up
    lone = statistics.median(seconds_of(ask(engine, prompts[0], SHORT_TOKENS)) for _ in range(3))
    asked: list[Asked | None] = [None] * sessions

    def session(place: int) -> None:
        if place >= sessions - late:
            time.sleep(LATE_SECONDS)
        asked[place] = ask(engine, prompts[place], lengths[place])

    threads = [threading.Thread(target=session, args=(n,)) for n in range(sessions)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - started
    done = [one for one in asked if one is not None]
    started = time.perf_counter()
    for prompt, length in zip(prompts, lengths, strict=True):
        ask(engine, prompt, length)
    in_turn = time.perf_counter() - started
    report(done, sessions - late, whole, in_turn, lone)


def ask(engine: Engine, prompt: list[int], tokens: int) -> Asked:
    """One question to its end."""
    stream = engine.ask(prompt, GenerationSettings(max_new_tokens=tokens))
    for _piece in stream:
        pass
    return stream._request, stream.answer


def seconds_of(one: Asked) -> float:
    """From asking to the end."""
    return one[0].ended - one[0].submitted


def report(done: list[Asked], long: int, whole: float, in_turn: float, lone: float) -> None:
    """The figures."""
    requests = [request for request, _ in done]
    overtaken = sum(b.submitted > a.submitted + 0.05 and b.started < a.started for a in requests for b in requests)
    rates = [answer.tokens / seconds_of((request, answer)) for request, answer in done[:long]]
    fair = sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))  # Jain's index: 1 is the same for all
    short = [seconds_of(one) for one in done[long:]]
    waits = [request.first_token - request.submitted for request in requests]
    running = [sum(other.ended > request.ended for other in requests[:long]) for request in requests[long:]]
    print(f"{len(done)} sessions: {whole:.1f} s together, {in_turn:.1f} s one after another ({in_turn / whole:.1f} times)")
    print(f"overtaken: {overtaken}; first token after {min(waits):.2f} to {max(waits):.2f} s")
    print(f"rates of the long answers: {min(rates):.2f} to {max(rates):.2f} tokens/s, Jain's index {fair:.3f}")
    print(
        f"late short answers: {min(short):.2f} to {max(short):.2f} s, {statistics.median(short) / lone:.1f} times a lone one "
        f"({lone:.2f} s); at their end {min(running)} to {max(running)} of {long} earlier long ones were still going on"
    )


if __name__ == "__main__":
    main()
