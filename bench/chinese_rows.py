"""Rows of made-up Chinese text for the benchmarks: words drawn by Zipf's law, and copies with a few edits.

A copy has 1 to 24 edits of one character, so similarities run from about 0.98 down past the threshold.
"""

from __future__ import annotations

import numpy as np

CHARACTERS = 240


def chinese_rows(count: int, *, seed: int = 7, copies: float = 0.1) -> list[str]:
    """``count`` texts of about 240 characters; the share ``copies`` of them edited copies of earlier ones."""
    chance = np.random.default_rng(seed)
    common = [chr(code) for code in range(0x4E00, 0x4E00 + 6000)]
    weights = 1 / np.arange(10, 3010)
    weights /= weights.sum()
    words = ["".join(common[i] for i in chance.choice(3000, size=chance.integers(1, 5), p=weights)) for _ in range(20_000)]
    odds = 1 / np.arange(10, 20_010)
    odds /= odds.sum()
    drawn = chance.choice(20_000, size=count * 110, p=odds)
    texts: list[str] = []
    for number in range(count):
        if number and chance.random() < copies:
            text = list(texts[int(chance.integers(max(0, number - 5000), number))])
            for _ in range(int(chance.integers(1, 25))):
                text[int(chance.integers(len(text)))] = common[int(chance.integers(3000))]
            texts.append("".join(text))
            continue
        size = int(chance.integers(CHARACTERS - 40, CHARACTERS + 41))
        sentence: list[str] = []
        length = 0
        for place, word in enumerate(drawn[number * 110 : (number + 1) * 110]):
            sentence.append(words[word] + ("，" if place % 7 == 6 else ""))
            length += len(sentence[-1])
            if length >= size - 1:
                break
        texts.append("".join(sentence)[: size - 1] + "。")
    return texts
