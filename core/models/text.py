"""Tokens to text, one at a time: never half a character, never part of a stop string.

A byte-level token can end in the middle of a character (a Chinese character is three bytes), and a
stop string can come in pieces. What is not certain yet is held back. Streaming and whole answers use
the same object, so their texts are equal. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_HALF = "\ufffd"


def stop_tokens(tokenizer: PreTrainedTokenizerFast, stop: Iterable[str]) -> frozenset[int]:
    """Identifiers of the special tokens that stop strings name; special tokens never show in the text."""
    specials = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(number for text in stop for token, number in specials.items() if token and token in text)


def _special_texts(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    return {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}


class TextStream:
    """The text of an answer while its tokens come.

    Decodes a short window with a settled start (the way of Hugging Face's text-generation-inference), so
    the cost of a token doesn't grow with the answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stop: Sequence[str] = ()) -> None:
        self._decode = tokenizer.backend_tokenizer.decode
        self._stop = tuple(s for s in dict.fromkeys(stop) if s)
        self._ids: list[int] = []
        self._start = 0  # of the window
        self._settled = 0  # tokens whose text is complete
        self._held = ""  # complete text that may be the start of a stop string
        self._pieces: list[str] = []
        self.stopped = False
        self.lazy = not self._stop or set(self._stop) <= _special_texts(tokenizer)
        """Nothing can stop it but a token, so who doesn't stream may ``put`` all and decode once, in ``finish``."""

    @property
    def text(self) -> str:
        """All text given out so far."""
        return "".join(self._pieces)

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain by now, possibly none. Sets ``stopped`` at a stop string."""
        if self.stopped:
            return ""
        self._ids.append(token)
        before, after = self._window()
        if len(after) <= len(before) or after.endswith(_HALF):
            return ""
        self._start, self._settled = self._settled, len(self._ids)
        return self._give(self._held + after[len(before) :], last=False)

    def put(self, token: int) -> None:
        """Add a token without looking at the text."""
        self._ids.append(token)

    def finish(self) -> str:
        """The text that was held back; call once, at the end."""
        if self.stopped:
            return ""
        before, after = self._window()
        self._settled = len(self._ids)
        return self._give(self._held + after[len(before) :], last=True)

    def _window(self) -> tuple[str, str]:
        before = self._decode(self._ids[self._start : self._settled], skip_special_tokens=True)
        return before, self._decode(self._ids[self._start :], skip_special_tokens=True)

    def _give(self, text: str, *, last: bool) -> str:
        found = [at for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        elif last:
            self._held = ""
        else:
            keep = max((_overlap(text, s) for s in self._stop), default=0)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if text:
            self._pieces.append(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a start of ``stop``, shorter than all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
