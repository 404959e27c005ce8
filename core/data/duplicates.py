"""Near duplicates: texts that share most of their character 5-grams.

MinHash signatures with banding propose pairs (Broder 1997; Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, ch. 3), exact Jaccard similarity decides. Characters rather than words, since Chinese has no spaces.
Knows nothing of rows, answers or of what is done about what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
SHINGLE = 5
PERMUTATIONS = 128
SEED = 7
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
CHUNK = 2_000
"""Texts hashed at a time: small enough to stay in the processor's cache."""
BUCKET = 48
"""Texts of a larger bucket of the banding aren't paired each with each, but with the first and their neighbours."""
PILE = 4_000_000
"""Proposed pairs from which on those that are proposed again are dropped at once."""
_WINDOW = 50_000
_RIGHT = np.int64(0xFFFFFFFF)
"""The right one of a packed pair, ``left * 2^32 + right``."""
NEIGHBOURS = 8
TRIES = 24
"""A text of crowded buckets is compared with at most so many others of them."""
RECALL = 0.995
Tick = Callable[[], None]
"""Called now and then by long work; it may raise to end it."""


def no_tick() -> None:
    """For callers that can't be stopped."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of positions (``left`` < ``right``) with their exact Jaccard similarity."""

    left: Codes
    right: Codes
    similarity: npt.NDArray[np.float64]


def banding(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: the most rows a band that still propose a pair at the threshold with ``RECALL``."""
    for rows in range(PERMUTATIONS // 2, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def code_points(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], Codes]:
    """All characters of the texts as numbers, and where each text begins (one more than texts)."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4"), starts


def shingle_hashes(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """64-bit hashes of all character 5-grams, flat, and where each text's begin. A shorter text is one shingle, padded.

    A polynomial in the code points modulo 2^64, then mixed (the finaliser of SplitMix64).
    """
    padded = [text if len(text) >= SHINGLE else text.ljust(SHINGLE, "\0") for text in texts]
    points, starts = code_points(padded)
    size = max(len(points) - SHINGLE + 1, 0)
    wide = points.astype(np.uint64)
    hashes = wide[:size] * _FACTOR
    for shift in range(1, SHINGLE):
        hashes += wide[shift : shift + size]
        hashes *= _FACTOR
    folded = hashes >> np.uint64(30)
    hashes ^= folded
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(hashes, np.uint64(27), out=folded)
    hashes ^= folded
    inside = np.ones(size, dtype=np.bool_)
    for back in range(1, SHINGLE):
        inside[starts[1:-1] - back] = False
    counts = np.diff(starts) - (SHINGLE - 1)
    return hashes[inside], np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)


def signatures(texts: Sequence[str], tick: Tick = no_tick) -> npt.NDArray[np.uint32]:
    """MinHash signatures, one row of ``PERMUTATIONS`` numbers a text."""
    from rensa import RMinHash

    made = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    for begin in range(0, len(texts), CHUNK):
        tick()
        hashes, starts = shingle_hashes(texts[begin : begin + CHUNK])
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts, PERMUTATIONS, SEED)
        made[begin : begin + CHUNK] = matrix.to_rows()
    return made


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Packed pairs that share a band and a group: all of small buckets, and a few for each text of crowded ones."""

    small: Codes
    crowded: Codes


def _candidates(signature: npt.NDArray[np.uint32], groups: Codes, threshold: float, tick: Tick) -> _Candidates:
    bands, rows = banding(threshold)
    count = len(signature)
    small: list[Codes] = [np.empty(0, dtype=np.int64)]
    crowded: list[Codes] = [np.empty(0, dtype=np.int64)]
    for band in range(bands):
        tick()
        part = signature[:, band * rows : (band + 1) * rows]
        key = np.full(count, band + 1, dtype=np.uint64) + groups.astype(np.uint64) * _FACTOR
        for column in range(part.shape[1]):
            key = (key ^ part[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
            key ^= key >> np.uint64(31)
        order = np.argsort(key, kind="stable")
        for piled, pairs in _bucket_pairs(key[order], order):
            _add(crowded if piled == "crowded" else small, _promising(signature, pairs, threshold)[0])
    pairs, more = _merged(small), _merged(crowded)
    more, alike = _promising(signature, more[~_among(more, pairs)], threshold)
    return _Candidates(pairs, more[_best_of_each(more & _RIGHT, alike)])


def _add(piled: list[Codes], pairs: Codes) -> None:
    """Put pairs upon others; whenever half as many have come, those that several bands propose are kept once."""
    piled.append(pairs)
    if sum(map(len, piled[1:])) > max(PILE, len(piled[0]) // 2):
        piled.append(_merged(piled))


def _merged(piled: list[Codes]) -> Codes:
    """All pairs of a pile, ascending, each once; the pile is emptied, so that they are held but twice at a time."""
    whole = np.concatenate(piled)
    piled.clear()
    whole.sort()
    fresh = np.ones(len(whole), dtype=np.bool_)
    np.not_equal(whole[1:], whole[:-1], out=fresh[1:])
    return whole[fresh]


def _among(some: Codes, known: Codes) -> npt.NDArray[np.bool_]:
    """Which of ``some`` stand among ``known``, both ascending."""
    if not len(known):
        return np.zeros(len(some), dtype=np.bool_)
    found: npt.NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, some), len(known) - 1)] == some
    return found


def _bucket_pairs(keys: npt.NDArray[np.uint64], order: Codes) -> Iterator[tuple[Literal["small", "crowded"], Codes]]:
    """The pairs of one band, packed, a part at a time; ``order`` sorts texts by ``keys``, ties by position."""
    if not len(keys):
        return
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sizes = np.diff(np.append(starts, len(keys)))
    head = np.repeat(starts, sizes)
    place = np.arange(len(keys)) - head
    large = np.repeat(sizes, sizes) > BUCKET
    for distance in range(1, int(min(sizes.max(), BUCKET + 1))):
        reach = np.flatnonzero(place >= distance)
        if not len(reach):
            break
        chosen = reach[~large[reach]]
        yield "small", (order[chosen - distance] << 32) | order[chosen]
        if distance <= NEIGHBOURS:
            chosen = reach[large[reach]]
            yield "crowded", (order[chosen - distance] << 32) | order[chosen]
    far = np.flatnonzero(large & (place > NEIGHBOURS))
    yield "crowded", (order[head[far]] << 32) | order[far]


def _promising(signature: npt.NDArray[np.uint32], packed: Codes, threshold: float) -> tuple[Codes, npt.NDArray[np.uint8]]:
    """Of packed pairs those whose signatures agree about enough, within three standard deviations of the threshold.

    And in how many of the ``PERMUTATIONS`` places they agree.
    """
    alike = np.empty(len(packed), dtype=np.uint8)
    for begin in range(0, len(packed), _WINDOW):
        window = slice(begin, begin + _WINDOW)
        alike[window] = (signature[packed[window] >> 32] == signature[packed[window] & _RIGHT]).sum(axis=1)
    least = PERMUTATIONS * (threshold - 3 * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5)
    close = alike >= least
    return packed[close], alike[close]


def _best_of_each(right: Codes, alike: npt.NDArray[np.uint8]) -> Codes:
    """Places of the pairs that are among the ``TRIES`` most alike ones of their right text."""
    order = np.lexsort((PERMUTATIONS - alike, right))
    ordered = right[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else order
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    chosen: Codes = np.sort(order[rank < TRIES])
    return chosen


def _exact(texts: Sequence[str], left: Codes, right: Codes, tick: Tick) -> npt.NDArray[np.float64]:
    """Jaccard similarity of the pairs' sets of 5-grams, each 5-gram known by its 64 bits.

    Two different 5-grams of a pair have the same bits with a probability below 1e-13.
    """
    similarity = np.empty(len(left), dtype=np.float64)
    for begin in range(0, len(left), CHUNK):
        tick()
        window = slice(begin, begin + CHUNK)
        needed = np.unique(np.concatenate([left[window], right[window]]))
        hashes, starts = shingle_hashes([texts[place] for place in needed.tolist()])
        values, ends = hashes.tolist(), starts.tolist()
        held = [frozenset(values[ends[n] : ends[n + 1]]) for n in range(len(needed))]
        ones, others = (np.searchsorted(needed, side[window]).tolist() for side in (left, right))
        for number, (a, b) in enumerate(zip(ones, others, strict=True), start=begin):
            common = len(held[a] & held[b])
            similarity[number] = common / (len(held[a]) + len(held[b]) - common)
    return similarity


def shingle_set(text: str) -> frozenset[str]:
    """The set of a text's character 5-grams; of a shorter text, the text itself."""
    return frozenset(text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1)))


def near_pairs(texts: Sequence[str], threshold: float = 0.8, groups: Codes | None = None, tick: Tick = no_tick) -> Pairs:
    """Pairs of distinct texts (each text once) whose Jaccard similarity is at least ``threshold``, within a group only.

    Every pair is verified exactly; one at the threshold is missed with a probability below 1 %, a more similar
    one with much less. Of more than ``BUCKET`` texts that are all alike only as many pairs are given as hold
    them together, so that the work stays linear in the number of texts.
    """
    groups = np.zeros(len(texts), dtype=np.int64) if groups is None else groups
    found = _candidates(signatures(texts, tick), groups, threshold, tick)
    linked = Links(len(texts))
    kept, similarities = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float64)]
    for packed, settles in ((found.small, False), (found.crowded, True)):
        for begin in range(0, len(packed), CHUNK):
            some = packed[begin : begin + CHUNK]
            if settles:  # one that holds what is held together already says nothing new
                some = some[linked.apart(some >> 32, some & _RIGHT)]
            left, right = some >> 32, some & _RIGHT
            similarity = _exact(texts, left, right, tick)
            near = similarity >= threshold
            linked.join(left[near], right[near])
            kept.append(some[near])
            similarities.append(similarity[near])
    del found
    pairs = np.concatenate(kept)
    kept.clear()
    return Pairs(pairs >> 32, pairs & _RIGHT, np.concatenate(similarities))


def listed(*columns: npt.NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """Equally long columns row by row as Python's numbers, made a few at a time: each takes five times an array's room."""
    for begin in range(0, len(columns[0]), _WINDOW):
        yield from zip(*(column[begin : begin + _WINDOW].tolist() for column in columns), strict=True)


class Links:
    """Positions 0 … count-1 that are linked by and by (union-find); a cluster is known by its smallest position."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, place: int) -> int:
        """The smallest position of a position's cluster."""
        parent = self._parent
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def join(self, left: Codes, right: Codes) -> None:
        """Link pairs."""
        for a, b in listed(left, right):
            one, other = self.root(a), self.root(b)
            if one != other:
                self._parent[max(one, other)] = min(one, other)

    def apart(self, left: Codes, right: Codes) -> npt.NDArray[np.bool_]:
        """Pairs that aren't in one cluster yet."""
        both = zip(left.tolist(), right.tolist(), strict=True)
        return np.fromiter((self.root(a) != self.root(b) for a, b in both), np.bool_, len(left))


def connected(count: int, left: Codes, right: Codes) -> Codes:
    """Clusters of positions 0 … count-1 linked by pairs: for each the smallest position of its cluster."""
    links = Links(count)
    links.join(left, right)
    return np.array([links.root(place) for place in range(count)], dtype=np.int64)
