"""A tiny generation: whether a model answers here, and how fast. Imports torch by way of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from core.doctor.report import Generation
from core.models.cache import engines
from core.prompts import chat
from core.records import GenerationSettings, ModelRef

if TYPE_CHECKING:
    from core.models.engine import Engine

Using = Callable[[ModelRef], AbstractContextManager["Engine"]]
WORDS = "Name one colour."


def try_generation(using: Using | None = None, ref: ModelRef | None = None) -> Generation:
    """Let a model (none: the default) answer a few words, on the first device.

    ``using``: where its engine comes from; none: this process's cache, which lets it go again. SpecError for a model whose
    chat template is missing, refuses a question or takes too much.
    """
    model = ref or ModelRef()
    begun = time.monotonic()
    try:
        with (using or engines().using)(model) as engine:
            loading = time.monotonic() - begun
            tokenizer = engine.tokenizer
            messages = [{"role": "user", "content": WORDS}]
            text = chat.apply(tokenizer, messages, thinking=None, open_turn=True)
            prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
            answer = engine.generate([prompt], GenerationSettings(max_new_tokens=16))[0]
            device, decoding = str(engine.device), engine.decoding
    finally:
        if using is None:
            engines().release(model)
    rate = answer.tokens / answer.seconds if answer.seconds else 0.0
    return Generation(
        text=answer.text.strip(), tokens=answer.tokens, load_seconds=loading, tokens_per_second=rate,
        device=device, decoding=decoding,
    )  # fmt: skip
