"""Control tokens, and how a text becomes ids without a row being able to forge one.

A row may hold the characters ``<|im_end|>``. They must reach the model as those characters, not as the token
that ends a turn. So control tokens inside row data are marked before a template sees them (a character that
occurs nowhere else is put inside), the marks are taken out of the rendered text and their places remembered,
and ``encode`` reads a token that covers such a place as ordinary text. Only what a template itself writes
becomes a control token. Added tokens that aren't special (``<think>``, ``<tool_call>``) are text that answers
rightly hold, and stay as they are. Knows nothing of templates and rows.
"""

from __future__ import annotations

import bisect
import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.errors import SpecError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MARKS = (*range(0xFDD0, 0xFDF0), *range(0x100000, 0x10FFFE))


@dataclass(frozen=True)
class Controls:
    """The control tokens of a tokenizer, and what tells at a glance whether a text may hold (part of) one."""

    tokens: tuple[str, ...]
    exact: re.Pattern[str]
    loose: re.Pattern[str]
    firsts: frozenset[str]
    starts: frozenset[str]
    ends: frozenset[str]
    longest: int
    together: str

    def marked(self, text: str, mark: str) -> str:
        """``text`` with ``mark`` inside each control token, whole or torn off at an end of the text."""
        if not self.firsts.isdisjoint(text):
            text = self.loose.sub(lambda m: m[0][0] + mark + m[0][1:], text)
        core = text.strip()
        if not core:
            return text
        left = len(text) - len(text.lstrip())
        right = left + len(core)
        tails = [n for n in range(1, min(self.longest, len(core) + 1)) if core[-n:].lower() in self.starts]
        heads = [n for n in range(1, min(self.longest, len(core) + 1)) if core[:n].lower() in self.ends]
        if tails:
            text = text[:right] + mark + text[right:]
        if heads or (len(core) < self.longest and core.lower() in self.together):
            text = text[:left] + mark + text[left:]
        return text

    def suspicious(self, text: str) -> bool:
        """Whether ``marked`` would change the text."""
        return self.marked(text, _PROBE) != text


_PROBE = "\ufdef"
_controls: WeakKeyDictionary[Any, Controls] = WeakKeyDictionary()
_parts: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_plain: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def controls(tokenizer: PreTrainedTokenizerFast) -> Controls:
    """The control tokens of a tokenizer: its special tokens, and what it names as ``chat_control_tokens``."""
    found = _controls.get(tokenizer)
    if found is None:
        special = {str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special}
        tokens = sorted(
            {*special, *tokenizer.all_special_tokens, *(getattr(tokenizer, "chat_control_tokens", None) or ())} - {""}
        )
        found = _of(tokens)
        _controls[tokenizer] = found
    return found


def _of(tokens: Sequence[str]) -> Controls:
    pattern = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"
    lowered = [t.lower() for t in tokens]
    return Controls(
        tokens=tuple(tokens),
        exact=re.compile(pattern),
        loose=re.compile(pattern, re.IGNORECASE),
        firsts=frozenset(c for t in tokens for c in (t[0].lower(), t[0].upper())),
        starts=frozenset(t[:n] for t in lowered for n in range(1, len(t))),
        ends=frozenset(t[n:] for t in lowered for n in range(1, len(t))),
        longest=max(map(len, tokens), default=0),
        together="\n".join(lowered),
    )


NO_CONTROLS = _of(())
"""Of a model whose tokenizer isn't here."""


def pick_mark(texts: Iterable[str]) -> str:
    """A character that occurs in none of the texts; UserError if every one occurs (a text made for that)."""
    used: set[str] = set().union(*map(set, texts))
    for code in _MARKS:
        if chr(code) not in used:
            return chr(code)
    raise UserError("The row holds every character that could mark control tokens", "Clean the row's private-use characters.")


def unmark(text: str, mark: str) -> tuple[str, tuple[int, ...]]:
    """The text without marks, and the places where they stood."""
    pieces = text.split(mark)
    places, at = [], 0
    for piece in pieces[:-1]:
        at += len(piece)
        places.append(at)
    return "".join(pieces), tuple(places)


def forged(known: Controls, text: str, places: Sequence[int]) -> tuple[int, ...]:
    """``places`` if a control token in the text covers one of them, else nothing: then the text is safe as it is."""
    at = 0
    while match := known.exact.search(text, at):
        if _within(places, *match.span()):
            return tuple(places)
        at = match.start() + 1
    return ()


def encode(tokenizer: PreTrainedTokenizerFast, text: str, literal: Sequence[int] = ()) -> list[int]:
    """Token ids of a text in which every control token counts but those that cover a place of ``literal``.

    No BOS or the like is added: what a model needs at the start is in the text.
    """
    if not literal or not text:
        ids: list[int] = backend(tokenizer).encode(text, add_special_tokens=False).ids
        return ids
    ids = []
    for start, end, is_control in _runs(controls(tokenizer), text, literal):
        ids += _encode_run(tokenizer, text[start:end], plain=not is_control, first=start == 0)
    return ids


def text_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a whole prompt as a completion server reads it: it puts a begin-of-text token before one without."""
    begun = bool(tokenizer.bos_token) and text.startswith(str(tokenizer.bos_token))
    ids: list[int] = backend(tokenizer).encode(text, add_special_tokens=not begun).ids
    return ids


def _runs(known: Controls, text: str, literal: Sequence[int]) -> list[tuple[int, int, bool]]:
    """The text as (start, end, is a control token that counts), in order, none empty."""
    runs: list[tuple[int, int, bool]] = []
    done = at = 0
    while match := known.exact.search(text, at):
        start, end = match.span()
        if _within(literal, start, end):
            at = start + 1
            continue
        runs += [(done, start, False), (start, end, True)]
        done = at = end
    runs.append((done, len(text), False))
    return [run for run in runs if run[1] > run[0]]


def control_tokens(known: Controls, text: str, literal: Sequence[int] = ()) -> list[tuple[str, bool]]:
    """The control tokens that a text holds, each with whether it counts (or covers a place of ``literal``)."""
    found: list[tuple[str, bool]] = []
    at = 0
    while match := known.exact.search(text, at):
        counts = not _within(literal, *match.span())
        found.append((match[0], counts))
        at = match.end() if counts else match.start() + 1
    return found


def _within(literal: Sequence[int], start: int, end: int) -> bool:
    at = bisect.bisect_right(literal, start)
    return at < len(literal) and literal[at] < end


def _encode_run(tokenizer: PreTrainedTokenizerFast, run: str, *, plain: bool, first: bool) -> list[int]:
    engine = plain_backend(tokenizer) if plain else backend(tokenizer)
    if first or parts_at_controls(tokenizer):
        ids: list[int] = engine.encode(run, add_special_tokens=False).ids
        return ids
    lead = engine.encode("\n", add_special_tokens=False).ids  # keeps a SentencePiece prefix space out of the run
    ids = engine.encode("\n" + run, add_special_tokens=False).ids
    if ids[: len(lead)] != lead:
        raise SpecError("This tokenizer can't tell a control token in a row from a real one", "Remove it from the row.")
    return ids[len(lead) :]


def backend(tokenizer: PreTrainedTokenizerFast) -> Any:
    """The ``tokenizers.Tokenizer`` inside, with no truncation or padding left over from another caller."""
    engine = tokenizer.backend_tokenizer
    if engine.truncation is not None:
        engine.no_truncation()
    if engine.padding is not None:
        engine.no_padding()
    return engine


def plain_backend(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A copy of the tokenizer's engine that reads control tokens as ordinary text."""
    engine = _plain.get(tokenizer)
    if engine is None:
        engine = copy.deepcopy(backend(tokenizer))
        engine.encode_special_tokens = True
        _plain[tokenizer] = engine
    return engine


def parts_at_controls(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the texts on both sides of any control token are encoded as if each stood alone (probed, not assumed)."""
    known = _parts.get(tokenizer)
    if known is None:
        tokens = [t for t in tokenizer.added_tokens_decoder.values() if t.content in controls(tokenizer).tokens]
        clean = bool(tokens) and not any(t.lstrip or t.rstrip or t.single_word for t in tokens)
        known = clean and _parts_at(backend(tokenizer), tokens[0].content)
        _parts[tokenizer] = known
    return known


def _parts_at(engine: Any, token: str) -> bool:
    def ids(text: str) -> list[int]:
        found: list[int] = engine.encode(text, add_special_tokens=False).ids
        return found

    probes = ("a b", " a", "\n\na ", "中 文", "  1")
    return all(ids(p + token + q) == ids(p) + ids(token) + ids(q) for p in probes for q in probes)
