"""Dirt as real sets show it, put into rows on purpose, so that a cleaner's recall and precision can be measured.

Two sorts: ``SPOILERS`` make a bad row out of a fresh good one; ``COPIERS`` make a bad copy of a good row
that stays. Which row carries what is written to ``dirt.json`` by ``samples.make``.
Knows nothing of cleaning.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from samples.compose import PARTS, Composer, Sentence, shingles


@dataclass(eq=False)
class Made:
    """A row on its way: its columns, and the kinds of dirt in it with the row each refers to (or none)."""

    instruction: str
    input: str
    output: str
    split: str
    language: str
    dirt: list[tuple[str, Made | None]] = field(default_factory=list)

    def columns(self) -> dict[str, str]:
        """The row as it stands in the file."""
        names = ("instruction", "input", "output", "split", "language")
        return {name: getattr(self, name) for name in names}


def dump(elements: dict[str, Any]) -> str:
    """An answer as compact JSON."""
    return json.dumps(elements, ensure_ascii=False, separators=(",", ":"))


def to_row(sentence: Sentence, language: str, split: str) -> Made:
    """A clean row."""
    return Made(PARTS[language]["instruction"], sentence.text, dump(sentence.elements), split, language)


# ---------------------------------------------------------------- spoilers: one fresh row, made bad

Spoiler = Callable[[Made, Composer, int], None]


def invalid_json(row: Made, composer: Composer, turn: int) -> None:
    """The ways in which annotators and models break JSON."""
    text = row.output
    row.output = (
        text[: -2 - turn % 3],
        text.replace('"', "'"),
        text[:-1] + ",}",
        text.replace(":", "：", 1),
        f"```json\n{text}\n",
        text.replace('"', "“", 1).replace('"', "”", 1),
        f"Answer: {text}",
        text.replace("]", "", 1),
    )[turn % 8]


def unknown_element(row: Made, composer: Composer, turn: int) -> None:
    """An element that the schema doesn't name; no name often enough to be taken for part of it."""
    name = ("phone", "title", "机构", "Person", "currency", "email")[turn % 6]
    elements = json.loads(row.output)
    first = next(iter(elements))
    elements[name] = elements.pop(first) if turn % 2 else elements[first]
    row.output = dump(elements)


def ungrounded_value(row: Made, composer: Composer, turn: int) -> None:
    """A value that the input doesn't hold: somebody else's, or one that was reworded."""
    elements = json.loads(row.output)
    name = composer.rng.choice(list(elements))
    while True:
        other = composer.fill("{" + name + "}").text
        if other not in row.input and other not in row.output and len(shingles(other) & shingles(row.input)) <= 1:
            break
    elements[name] = [other, *elements[name][1:]] if turn % 2 else [*elements[name], other]
    row.output = dump(elements)


def mojibake(row: Made, composer: Composer, turn: int) -> None:
    """UTF-8 read as something else: whole rows as Windows-1252, a stretch as GBK, lost bytes, curly quotes."""
    if row.language == "en":
        quoted, mark = ("the firm’s own words", "“as agreed”", "café prices", "a 5 – 7 day delay")[turn // 2 % 4], " - "
        row.input += mark + _windows_1252(quoted)
    elif turn % 6 == 0:
        row.input, row.output = _windows_1252(row.input), _windows_1252(row.output)
    elif turn % 6 == 2:
        row.input += "（" + "以原件为准".encode().decode("gbk", "replace") + "）"
    else:
        row.input += "（以原\ufffd\ufffd为准，锟斤拷）"


def _windows_1252(text: str) -> str:
    """The text's UTF-8 bytes as a browser shows them when it takes them for Windows-1252."""
    return "".join(bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b) for b in text.encode())


def width(row: Made, composer: Composer, turn: int) -> None:
    """Full-width letters and digits in the input; in half of the rows the answer has them half-width."""
    wide = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F) if chr(c).isalnum() or chr(c) in "$.%-"})
    before = row.input
    row.input = row.input.translate(wide)
    if row.input == before:
        row.input += "（编号ＡＢ１２）"
    elif turn % 4 < 2:
        elements = json.loads(row.output)
        row.output = dump({name: [value.translate(wide) for value in values] for name, values in elements.items()})


def markup(row: Made, composer: Composer, turn: int) -> None:
    """What is left of HTML."""
    row.input = (
        f"<p>{row.input}</p>",
        f"{row.input}<br/>&nbsp;",
        f'<div class="content">{row.input}',
        f"&nbsp;&nbsp;{row.input}&lt;/td&gt;",
        f"{row.input}<a href='#note'>[1]</a>",
        f"<!-- row -->{row.input}",
    )[turn % 6]


def empty(row: Made, composer: Composer, turn: int) -> None:
    """No answer at all (``{}`` would be one)."""
    row.output = "  " if turn % 5 == 4 else ""


def over_long(row: Made, composer: Composer, turn: int) -> None:
    """A document where a sentence was meant: the row's sentence amid others, over 1,024 tokens of the default model."""
    needed = 1100 if row.language == "zh" else 4800
    before: list[str] = []
    while sum(map(len, before)) < needed:
        before.append(composer.sentence("empty").text)
    cut = composer.rng.randrange(len(before))
    row.input = ("" if row.language == "zh" else " ").join([*before[:cut], row.input, *before[cut:]])


def control_character(row: Made, composer: Composer, turn: int) -> None:
    """Characters that nobody sees, beside the values."""
    mark = ("\u200b", "\x07", "\ufeff", "\x1f", "\u202e", "\u200e")[turn % 6]
    row.input = mark + row.input if turn % 2 else row.input + mark


def placeholder(row: Made, composer: Composer, turn: int) -> None:
    """A form that was never filled in."""
    row.input += (
        ("（经办人：{{name}}）", "（电话：XXX-XXXX）", "（日期：____年__月）", "（详见[待补充]）")
        if row.language == "zh"
        else (" (clerk: {{name}})", " (phone: XXX-XXXX)", " (date: ____)", " (see [TODO])")
    )[turn // 2 % 4]


def personal_data(row: Made, composer: Composer, turn: int) -> None:
    """A Chinese ID or mobile number, made up, with a check digit that is right."""
    number = mobile_number(composer.rng) if turn // 2 % 2 else id_number(composer.rng)
    label = ("手机" if len(number) == 11 else "身份证号") if row.language == "zh" else ("tel" if len(number) == 11 else "ID")
    row.input += f"（{label}{number}）" if row.language == "zh" else f" ({label} {number})"


def id_number(rng: random.Random) -> str:
    """An 18-digit resident ID number (GB 11643-1999), born 1901 to 1909 so that it is nobody's who lives."""
    region = rng.choice(("110101", "310104", "440106", "510104", "330106"))
    body = f"{region}19{rng.randint(1, 9):02d}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.randint(1, 999):03d}"
    total = sum(int(digit) * pow(2, 17 - i, 11) for i, digit in enumerate(body))
    return body + "10X98765432"[total % 11]


def mobile_number(rng: random.Random) -> str:
    """An 11-digit mobile number, out of a block that starts with zeros."""
    return f"{rng.choice((135, 138, 139, 159, 186))}0000{rng.randint(0, 9999):04d}"


SPOILERS: dict[str, tuple[Spoiler, int]] = {
    "invalid_json": (invalid_json, 16),
    "unknown_element": (unknown_element, 12),
    "ungrounded_value": (ungrounded_value, 16),
    "mojibake": (mojibake, 12),
    "width": (width, 12),
    "markup": (markup, 12),
    "empty": (empty, 10),
    "over_long": (over_long, 6),
    "control_character": (control_character, 6),
    "placeholder": (placeholder, 8),
    "personal_data": (personal_data, 12),
}
"""Kind: what spoils a fresh row, and how many rows it spoils, Chinese and English in turn."""


# ---------------------------------------------------------------- copiers: a bad copy of a good row

Copier = Callable[[Made, random.Random, int], Made]


def _copy(row: Made, kind: str, **changes: str) -> Made:
    columns = {**row.columns(), **changes}
    return Made(**columns, dirt=[(kind, row)])


def exact_duplicate(row: Made, rng: random.Random, turn: int) -> Made:
    """The same row once more."""
    return _copy(row, "exact_duplicate")


def near_duplicate(row: Made, rng: random.Random, turn: int) -> Made:
    """The same text with other spacing or punctuation, or a word that changes nothing."""
    return _copy(row, "near_duplicate", input=_nearly(row, turn))


def _nearly(row: Made, turn: int) -> str:
    text = row.input
    if row.language == "zh":
        return (
            text.replace("，", ", ", 1) + " ",
            text.rstrip("。") + "！",
            text.rstrip("。") + "了。",
            "　" + text.rstrip("。"),
        )[turn // 2 % 4]
    return (text + " ", text.rstrip(".") + " today.", text.replace(" ", "  ", 2), text + " Ends.")[turn // 2 % 4]


def conflicting_output(row: Made, rng: random.Random, turn: int) -> Made:
    """The same input, annotated otherwise: an element forgotten, or put under another name. Both rows are marked."""
    elements = json.loads(row.output)
    name = rng.choice(list(elements))
    if turn % 2 and len(elements) > 1:
        del elements[name]
    else:
        other = {
            "person": "organization",
            "organization": "place",
            "position": "person",
            "date": "amount",
            "place": "organization",
        }
        elements = {other.get(key, "date") if key == name else key: value for key, value in elements.items()}
    copied = _copy(row, "conflicting_output", output=dump(elements))
    row.dirt.append(("conflicting_output", copied))
    return copied


def leak_exact(row: Made, rng: random.Random, turn: int) -> Made:
    """A row of train that stands in test or dev as well."""
    copied = _copy(row, "leak_exact", split="dev" if turn % 4 == 3 else "test")
    copied.dirt.append(("exact_duplicate", row))
    return copied


def leak_near(row: Made, rng: random.Random, turn: int) -> Made:
    """A row of train that stands in test, nearly the same."""
    copied = _copy(row, "leak_near", split="test", input=_nearly(row, turn))
    copied.dirt.append(("near_duplicate", row))
    return copied


COPIERS: dict[str, tuple[Copier, int]] = {
    "exact_duplicate": (exact_duplicate, 14),
    "near_duplicate": (near_duplicate, 14),
    "conflicting_output": (conflicting_output, 12),
    "leak_exact": (leak_exact, 12),
    "leak_near": (leak_near, 8),
}
"""Kind: what copies a good row of train, and how many copies there are."""
