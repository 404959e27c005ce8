"""Operations on the characters of a text: white space, width, markup, control characters, wrong encodings, script.

Input and answer get the same treatment, so that a value that stood in the input still does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from core.data import normalise as forms
from core.data.detect import characters, markup, mojibake, personal
from core.data.operations.base import Context, Operation, Outcome, State
from core.data.texts import TextFunction, map_texts

Column = Literal["instruction", "input", "output", "messages"]
_ALL: tuple[Column, ...] = ("instruction", "input", "output", "messages")


class _TextOperation(Operation):
    columns: tuple[Column, ...] = Field(default=_ALL, min_length=1)

    def _map(self, state: State, context: Context, function: TextFunction, pattern: str, reason: str) -> Outcome:
        return self.change(state, context, map_texts(state.rows, function, pattern, self.columns), reason)


class Normalise(_TextOperation):
    """White space at the ends and runs of it removed; full-width letters, digits and signs made half width.

    Chinese punctuation stays as it is unless ``punctuation`` asks for ASCII.
    """

    op: ClassVar[str] = "normalise"
    title: ClassVar[str] = "Normalise white space and width"
    whitespace: bool = True
    width: bool = True
    punctuation: bool = False
    join_lines: bool = Field(default=False, description="line ends become spaces")

    def run(self, state: State, context: Context) -> Outcome:
        patterns = [forms.SPACE_PATTERN] if self.whitespace else []
        if self.whitespace and self.join_lines:
            patterns.append(r"\n")
        if self.width:
            patterns.append(r"[\x{FF01}-\x{FF5E}\x{3000}\x{3002}]" if self.punctuation else forms.WIDE_PATTERN)
        if not patterns:
            return self.unchanged(state)
        named = [word for word, on in (("white space", self.whitespace), ("width", self.width)) if on]
        return self._map(state, context, self._normal, "|".join(patterns), " and ".join(named) + " normalised")

    def _normal(self, text: str) -> str:
        if self.width:
            text = forms.narrow(text, self.punctuation)
        return forms.tidy_spaces(text, self.join_lines) if self.whitespace else text


class StripMarkup(_TextOperation):
    """HTML tags, comments and character references taken out or made characters."""

    op: ClassVar[str] = "strip_markup"
    title: ClassVar[str] = "Strip HTML"

    def run(self, state: State, context: Context) -> Outcome:
        return self._map(state, context, _if(markup.has_markup, markup.strip_markup), markup.PATTERN, "HTML taken out")


class StripControl(_TextOperation):
    """Control characters, zero-width characters and direction marks taken out."""

    op: ClassVar[str] = "strip_control"
    title: ClassVar[str] = "Strip control and zero-width characters"

    def run(self, state: State, context: Context) -> Outcome:
        return self._map(state, context, characters.strip_hidden, characters.PATTERN, "unseen characters taken out")


class RepairMojibake(_TextOperation):
    """Wrong decodings undone where that is sure: a proposal to be looked at in the preview. Lost characters stay."""

    op: ClassVar[str] = "repair_mojibake"
    title: ClassVar[str] = "Repair wrong encodings"

    def run(self, state: State, context: Context) -> Outcome:
        repair = _if(mojibake.is_mojibake, mojibake.repair_mojibake)
        return self._map(state, context, repair, mojibake.PATTERN, "decoded anew")


class ConvertScript(_TextOperation):
    """Traditional characters written as simplified ones, character by character."""

    op: ClassVar[str] = "convert_script"
    title: ClassVar[str] = "Write traditional Chinese as simplified"

    def run(self, state: State, context: Context) -> Outcome:
        table = forms.to_simplified()
        return self._map(state, context, lambda text: text.translate(table), r"\p{Han}", "traditional to simplified")


class MaskPersonal(_TextOperation):
    """Identity, phone and card numbers and e-mail addresses starred, in input and answer alike."""

    op: ClassVar[str] = "mask_personal"
    title: ClassVar[str] = "Mask personal data"
    kinds: tuple[personal.Kind, ...] = Field(default=personal.KINDS, min_length=1)

    def run(self, state: State, context: Context) -> Outcome:
        kinds = self.kinds
        reason = "masked: " + ", ".join(kinds)
        return self._map(state, context, lambda text: personal.mask_personal(text, kinds), personal.PATTERN, reason)


class ReplaceText(_TextOperation):
    """Texts replaced by others wherever they stand, such as a ``{{name}}`` that nobody filled in; names of elements, too.

    They are looked for as they are written, case included, the longest first, and what was put in isn't looked through again.
    """

    op: ClassVar[str] = "replace_text"
    title: ClassVar[str] = "Replace text"
    replacements: dict[str, str | None] = Field(
        min_length=1, description="One a line: text = new text. Nothing after the sign takes it out."
    )

    @field_validator("replacements")
    @classmethod
    def _told(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        if not all(text.strip() for text in value):
            raise ValueError("a text to replace is empty")
        return value

    def run(self, state: State, context: Context) -> Outcome:
        texts = ", ".join(sorted(self.replacements))
        return self._map(state, context, self._replaced, self._pattern, f"replaced: {texts}")

    def elements_after(self, elements: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self._replaced, elements))) if "output" in self.columns else elements

    @property
    def _pattern(self) -> str:
        return "|".join(re.escape(text) for text in sorted(self.replacements, key=len, reverse=True))

    def _replaced(self, text: str) -> str:
        return re.sub(self._pattern, lambda match: self.replacements[match[0]] or "", text)


def _if(test: Callable[[str], bool], function: TextFunction) -> TextFunction:
    return lambda text: function(text) if test(text) else text
