"""Which script, and roughly which language, texts are in, by counting characters. Whole columns at once.

Simplified and traditional Chinese are told apart by the characters that only one of them uses (OpenCC's tables).
Latin text is called English when its letters are all but ASCII; finer would need a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from core.data.duplicates import code_points
from core.data.normalise import script_characters

LANGUAGES = ("none", "English", "Latin, other", "Hans", "Hant", "Han", "Japanese", "Korean", "mixed", "other")
"""``Han``: Chinese in which no character tells simplified from traditional; ``mixed``: Chinese and Latin alike."""
_ASCII, _LATIN, _HAN, _HANS, _HANT, _KANA, _HANGUL, _OTHER = range(1, 9)
_KINDS = 9
_CHUNK = 20_000
Counts = npt.NDArray[np.int64]


@cache
def _table() -> npt.NDArray[np.uint8]:
    kinds = np.zeros(0x30000, dtype=np.uint8)
    for start, end, kind in (
        (0xC0, 0x24F, _LATIN), (0x1E00, 0x1EFF, _LATIN), (0x370, 0x1DFF, _OTHER),
        (0x3040, 0x30FF, _KANA), (0x31F0, 0x31FF, _KANA), (0xAC00, 0xD7AF, _HANGUL), (0x1100, 0x11FF, _HANGUL),
        (0x3400, 0x4DBF, _HAN), (0x4E00, 0x9FFF, _HAN), (0xF900, 0xFAFF, _HAN), (0x20000, 0x2FFFF, _HAN),
        (ord("A"), ord("Z"), _ASCII), (ord("a"), ord("z"), _ASCII), (0xFF21, 0xFF3A, _ASCII), (0xFF41, 0xFF5A, _ASCII),
    ):  # fmt: skip
        kinds[start : end + 1] = kind
    for chars, kind in zip(script_characters(), (_HANS, _HANT), strict=True):
        kinds[[ord(char) for char in chars if ord(char) < len(kinds)]] = kind
    return kinds


def count_kinds(texts: Sequence[str]) -> Counts:
    """Characters of each kind in each text (rows: texts)."""
    made = [np.empty((0, _KINDS), dtype=np.int64)]
    for begin in range(0, len(texts), _CHUNK):
        points, starts = code_points(texts[begin : begin + _CHUNK])
        kinds = _table()[np.minimum(points, 0x2FFFF)].astype(np.int64)
        size = len(starts) - 1
        row = np.repeat(np.arange(size), np.diff(starts))
        made.append(np.bincount(row * _KINDS + kinds, minlength=size * _KINDS).reshape(size, _KINDS))
    return np.concatenate(made)


def languages(counts: Counts) -> npt.NDArray[np.int64]:
    """For each text a place in ``LANGUAGES``. A Chinese character weighs as three Latin letters."""
    latin = counts[:, _ASCII] + counts[:, _LATIN]
    han = counts[:, _HAN] + counts[:, _HANS] + counts[:, _HANT]
    kana, hangul, other = counts[:, _KANA], counts[:, _HANGUL], counts[:, _OTHER]
    weight = np.stack([latin, 3 * han, 3 * kana, 3 * hangul, 2 * other], axis=1)
    total = weight.sum(axis=1)
    named = np.full(len(counts), LANGUAGES.index("none"))

    def assign(name: str, where: npt.NDArray[np.bool_]) -> None:
        named[where] = LANGUAGES.index(name)

    main = weight.argmax(axis=1)
    some = total > 0
    assign("English", some & (main == 0))
    assign("Latin, other", some & (main == 0) & (counts[:, _LATIN] > 0.05 * latin) & (counts[:, _LATIN] >= 3))
    chinese = some & (main == 1)
    assign("Han", chinese)
    assign("Hans", chinese & (counts[:, _HANS] > counts[:, _HANT]))
    assign("Hant", chinese & (counts[:, _HANT] >= np.maximum(counts[:, _HANS], 1)))
    assign("mixed", some & (np.minimum(weight[:, 0], weight[:, 1]) > 0.35 * total))
    assign("Japanese", some & (kana > 0.1 * (han + kana)) & (main != 0) & (kana >= 2))
    assign("Korean", some & (main == 3))
    assign("other", some & (main == 4))
    return named


def weighted_lengths(counts: Counts) -> Counts:
    """The texts' lengths in Latin letters: a Chinese, Japanese or Korean character counts three."""
    wide = counts[:, [_HAN, _HANS, _HANT, _KANA, _HANGUL]].sum(axis=1)
    lengths: Counts = counts.sum(axis=1) + 2 * wide
    return lengths


def mixes_scripts(counts: Counts) -> npt.NDArray[np.bool_]:
    """Texts that hold both simplified-only and traditional-only characters, at least two of each and a tenth."""
    fewer = np.minimum(counts[:, _HANS], counts[:, _HANT])
    found: npt.NDArray[np.bool_] = (fewer >= 2) & (fewer * 10 >= counts[:, _HANS] + counts[:, _HANT])
    return found
