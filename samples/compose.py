"""Sentences put together from ``parts.toml``: an input, and the elements that it holds.

A pattern's ``{person}`` becomes a composed value and is noted as an element; ``{~count}`` becomes a
near-miss (a count, a duration, a clause …) and is not. Knows nothing of dirt, splits or files.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ELEMENTS = ("person", "organization", "position", "date", "place", "amount")
_SLOT = re.compile(r"\{(~?)(\w+)\}")
_FRESH_TRIES = 40

PARTS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "parts.toml").read_text(encoding="utf-8"))


@dataclass
class Sentence:
    """A composed text and its elements, ``{element: [values in order of appearance]}``, absent ones left out."""

    text: str
    elements: dict[str, list[str]] = field(default_factory=dict)


def numbers(rng: random.Random) -> dict[str, str]:
    """The number-like parts that any form may use, as text."""
    month, day, n = rng.randint(1, 12), rng.randint(1, 28), rng.randint(2, 89)
    return {
        "year": str(rng.randint(2012, 2026)),
        "month": str(month),
        "month02": f"{month:02d}",
        "day": str(day),
        "day02": f"{day:02d}",
        "n": str(n),
        "few": str(rng.randint(2, 9)),
        "k": str(rng.randint(1, 6)),
        "n00": str(rng.randint(3, 98) * 100 + rng.choice((0, 0, 50, 20, 75))),
        "decimal": f"{rng.randint(1, 29)}.{rng.randint(1, 9)}",
        "comma": f"{rng.randint(1100, 96000):,}",
        "cents": f"{rng.randint(3, 480)}.{rng.choice(range(5, 100, 5)):02d}",
        "unitprice": f"{rng.randint(1, 19)}.{rng.choice((25, 50, 75, 95))}",
    }


def compose_value(rng: random.Random, language: str, element: str) -> str:
    """One value of an element, put together from the language's parts."""
    parts = PARTS[language][element]
    values = {**numbers(rng), **{name: rng.choice(words.split()) for name, words in parts.items() if name != "forms"}}
    return str(rng.choice(parts["forms"])).format_map(values)


class Composer:
    """Composes sentences of one language; remembers the values used, so that test values can be new ones."""

    def __init__(self, rng: random.Random, language: str) -> None:
        self.rng = rng
        self.language = language
        self.used: set[tuple[str, str]] = set()

    def fill(self, pattern: str, *, fresh: float = 0.0) -> Sentence:
        """Fill a pattern's slots. With probability ``fresh`` a value is one that no earlier sentence had."""
        sentence = Sentence("")

        def slot(match: re.Match[str]) -> str:
            near, name = match.groups()
            if near:
                return str(self.rng.choice(PARTS[self.language]["near"][name])).format_map(numbers(self.rng))
            if name not in ELEMENTS:
                return numbers(self.rng)[name]
            value = self._value(name, self.rng.random() < fresh, sentence)
            sentence.elements.setdefault(name, []).append(value)
            return value

        sentence.text = _SLOT.sub(slot, pattern)
        sentence.elements = {name: sentence.elements[name] for name in ELEMENTS if name in sentence.elements}
        return sentence

    def remember(self, sentence: Sentence) -> Sentence:
        """Count the sentence's values as used."""
        self.used.update((name, value) for name, values in sentence.elements.items() for value in values)
        return sentence

    def sentence(self, kind: str = "full", *, fresh: float = 0.0) -> Sentence:
        """A whole input: lead, pattern, tail, within the language's ``longest`` characters."""
        parts = PARTS[self.language]
        while True:
            lead, body, tail = (self.rng.choice(choices) for choices in (parts["leads"], parts["patterns"][kind], parts["tails"]))
            stop = "." if re.match(r" [A-Z]", tail) and body[-1] not in ".!?" else ""
            made = self.fill(lead + body + stop + tail, fresh=fresh)
            if len(made.text) <= parts["longest"] and _unambiguous(made):
                made.text = made.text[0].upper() + made.text[1:]
                return made

    def _value(self, element: str, fresh: bool, sentence: Sentence) -> str:
        taken = [value for values in sentence.elements.values() for value in values]
        for attempt in range(10 * _FRESH_TRIES):
            value = compose_value(self.rng, self.language, element)
            if fresh and attempt < _FRESH_TRIES and (element, value) in self.used:
                continue
            if not any(value in other or other in value for other in taken):
                return value
        raise RuntimeError(f"the parts of {self.language}.{element} are too few")


def _unambiguous(sentence: Sentence) -> bool:
    """Whether each value stands in the text exactly once, so that the gold can't be argued with."""
    return all(sentence.text.count(value) == 1 for values in sentence.elements.values() for value in values)


def shingles(text: str) -> frozenset[str]:
    """Character 3-grams of a text."""
    return frozenset(text[i : i + 3] for i in range(max(1, len(text) - 2)))


class Unlike:
    """Accepts only texts whose 3-gram Jaccard similarity to each accepted one is below ``limit``."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._texts: list[frozenset[str]] = []
        self._holders: dict[str, list[int]] = {}

    def accept(self, text: str) -> bool:
        """Whether the text is unlike all before; if so it is remembered."""
        grams = shingles(text)
        shared: dict[int, int] = {}
        for gram in grams:
            for holder in self._holders.get(gram, ()):
                shared[holder] = shared.get(holder, 0) + 1
        if any(n / (len(grams) + len(self._texts[i]) - n) >= self.limit for i, n in shared.items()):
            return False
        for gram in grams:
            self._holders.setdefault(gram, []).append(len(self._texts))
        self._texts.append(grams)
        return True
