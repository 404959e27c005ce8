"""A row, a template and a tokenizer become a prompt and an answer. The one render of Tunewise: lengths, training,
chat, evaluation, export and serving all call it.

A rendered row is a list of segments. Each is encoded by itself and the ids are put one behind another, in training
and in generation alike. Prompt and answer are encoded apart because that is what happens when a model is asked: the
prompt's ids are fixed before the first answer token exists, so no token may reach over the border. (Encoded as one
text, ``:`` + ``{`` can become one token that the model never gets to produce.) Earlier turns of a conversation keep
their borders for the same reason. Knows nothing of ids and labels: that is ``examples``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import SpecError
from core.prompts import chat
from core.prompts.control import Controls, controls, pick_mark, unmark
from core.prompts.sandbox import run
from core.prompts.templates import PARTS, part, uses_shots
from core.records import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class RowError(SpecError):
    """A row that this template can't put into words; other rows may be fine."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is encoded by itself. ``literal``: places that no control token may cover."""

    text: str
    answer: bool
    literal: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered row: ``segments`` in order, the last one the answer that is asked for (empty text if the row has none).

    Answer segments before the last are earlier assistant turns, which may be trained on too.
    """

    segments: tuple[Segment, ...]
    stop: tuple[str, ...]
    note: str = ""

    @property
    def prompt(self) -> str:
        """All that the model is given."""
        return "".join(s.text for s in self.segments[:-1])

    @property
    def answer(self) -> str:
        """What it must produce, with the text that ends its turn."""
        return self.segments[-1].text


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    text: str


def render(
    template: Template,
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str] = (),
    shots: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """The prompt and the answer of a row.

    ``row`` has instruction, input, output, and perhaps messages (list or JSON text) and extra. ``shots`` are worked
    examples with instruction, input, output: turns before the question, unless the template places them itself.
    ``history`` are earlier turns (role, content) of a chat whose next question is ``row``.
    SpecError: the template or the tokenizer doesn't fit; RowError: this row doesn't.
    """
    known = controls(tokenizer)
    data = _Data.of(row, elements, shots, history)
    mark = data.mark(known, template)
    made = _chat(template, data, tokenizer, mark) if template.kind == "chat" else _raw(template, data, tokenizer, mark)
    segments = tuple(Segment(*_cleared(text, mark, answer)) for text, answer in made.pieces)
    return Rendered(segments, stop_strings(template, tokenizer), made.note)


def stop_strings(template: Template, tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """Texts that end an answer beside the tokenizer's end-of-text token."""
    ends = list(template.stop)
    if template.kind == "chat":
        end = chat.answer_frame(tokenizer, template.enable_thinking).end.strip()
        ends += [end] if end else []
    return tuple(dict.fromkeys(ends))


@dataclass(frozen=True)
class _Made:
    pieces: list[tuple[str, bool]]
    note: str = ""


def _cleared(text: str, mark: str, answer: bool) -> tuple[str, bool, tuple[int, ...]]:
    if not mark:
        return text, answer, ()
    clean, places = unmark(text, mark)
    return clean, answer, places


@dataclass
class _Data:
    """What a template may see of a row, and the row's turns."""

    row: dict[str, Any]
    turns: list[_Turn]
    answer: str | None
    elements: list[str]
    shots: list[dict[str, Any]]
    system: str
    single: bool

    @classmethod
    def of(
        cls,
        row: Mapping[str, Any],
        elements: Sequence[str],
        shots: Sequence[Mapping[str, Any]],
        history: Sequence[Mapping[str, Any]],
    ) -> _Data:
        messages = _messages(row.get("messages"))
        output = row.get("output")
        answer: str | None = None if output is None else str(output)
        turns = [_Turn(str(m["role"]), str(m["content"] or "")) for m in (messages or history)]
        if messages:
            answer = turns.pop().text if turns[-1].role == "assistant" else None
        system = "\n".join(t.text for t in turns if t.role == "system")
        turns = [t for t in turns if t.role != "system"]
        if messages and not turns:
            raise RowError(f"Row {row.get('row_id', '')}: the conversation asks nothing", "It needs a user turn.")
        return cls(_variables(row), turns, answer, list(elements), [_variables(s) for s in shots], system, not messages)

    def mark(self, known: Controls, template: Template) -> str:
        """Put marks inside control tokens of the data; returns the mark, "" if there was nothing to mark."""
        texts = [*_strings([self.row, self.elements, self.shots]), *(t.text for t in self.turns), self.system, self.answer or ""]
        if not any(known.suspicious(text) for text in texts):
            return ""
        mark = pick_mark([*texts, *(getattr(template, name) for name in PARTS)])
        self.row = _mapped(self.row, known, mark)
        self.elements = _mapped(self.elements, known, mark)
        self.shots = _mapped(self.shots, known, mark)
        self.turns = [_Turn(t.role, known.marked(t.text, mark)) for t in self.turns]
        self.system = known.marked(self.system, mark)
        self.answer = None if self.answer is None else known.marked(self.answer, mark)
        return mark


def _variables(row: Mapping[str, Any]) -> dict[str, Any]:
    extra = row.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    texts = {name: "" if row.get(name) is None else str(row[name]) for name in ("instruction", "input", "output")}
    return {**texts, "extra": extra, "row_id": str(row.get("row_id", ""))}


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        value = json.loads(value) if value else None
    return [m if isinstance(m, Mapping) else m.model_dump() for m in value or ()]


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_strings(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, known: Controls, mark: str) -> Any:
    if isinstance(value, str):
        return known.marked(value, mark)
    if isinstance(value, Mapping):
        return {key: _mapped(item, known, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, known, mark) for item in value]
    return value


class _Writer:
    """Writes the parts of a template for one row."""

    def __init__(self, template: Template, data: _Data, known: Controls, mark: str) -> None:
        self.template, self.data, self.known, self.mark = template, data, known, mark
        self.place_shots = bool(data.shots) and not uses_shots(template)

    def system(self) -> str:
        return self.data.system or self._part("system", self.data.row)

    def user(self, row: Mapping[str, Any]) -> str:
        return self._part("user", row)

    def answer(self, row: Mapping[str, Any], output: str) -> str:
        return self._part("answer", {**row, "output": output})

    def spoken(self, turn: _Turn) -> str:
        """A turn of a conversation, worded like a question or an answer of a single row."""
        if turn.role == "user":
            return self.user({**self.data.row, "instruction": "", "input": turn.text})
        return self.answer(self.data.row, turn.text) if turn.role == "assistant" else turn.text

    def _part(self, name: str, row: Mapping[str, Any]) -> str:
        names = ("instruction", "input", "extra", *(("output",) if name == "answer" else ()))
        variables = {key: row[key] for key in names}
        where = f"Template {self.template.ref}, {name}, row {row.get('row_id') or '(unnamed)'}"
        compiled = part(self.template, name)
        text = run(compiled, {**variables, "elements": self.data.elements, "shots": self.data.shots}, where)
        return self._guarded(text, compiled.source)

    def _guarded(self, text: str, source: str) -> str:
        """A control token that the template's own text doesn't hold was put together from data: make it plain text."""
        if self.mark:
            for token in self.known.tokens:
                if token in text and token not in source:
                    text = text.replace(token, token[0] + self.mark + token[1:])
        return text


def _chat(template: Template, data: _Data, tokenizer: PreTrainedTokenizerFast, mark: str) -> _Made:
    write = _Writer(template, data, controls(tokenizer), mark)
    thinking = template.enable_thinking
    frame = chat.answer_frame(tokenizer, thinking)
    messages: list[dict[str, str]] = []
    if system := write.system():
        messages.append({"role": "system", "content": system})
    if write.place_shots:
        for shot in data.shots:
            messages.append({"role": "user", "content": write.user(shot)})
            messages.append({"role": "assistant", "content": write.answer(shot, shot["output"])})
    turns = [{"role": t.role, "content": write.spoken(t)} for t in data.turns]
    if data.single:
        turns.append({"role": "user", "content": write.user(data.row)})
    prompts: list[tuple[str, str]] = []
    for place, turn in enumerate(turns):
        if turn["role"] == "assistant":
            asked = [*messages, *turns[:place]]
            if not asked:
                continue
            opened = _applied(tokenizer, asked, thinking, data)
            prompts.append((opened, frame.lead + turn["content"] + frame.end))
    last = _applied(tokenizer, [*messages, *turns], thinking, data)
    answer = "" if data.answer is None else frame.lead + write.answer(data.row, data.answer) + frame.end
    return _stitched(prompts, last, answer)


def _applied(tokenizer: PreTrainedTokenizerFast, messages: chat.Messages, thinking: bool | None, data: _Data) -> str:
    try:
        return chat.apply(tokenizer, messages, thinking=thinking, open_turn=True)
    except chat.ChatTemplateError as fault:
        if data.single and not data.turns:
            raise
        raise RowError(f"Row {data.row['row_id']}: {fault.message}", fault.hint) from fault


def _stitched(earlier: Sequence[tuple[str, str]], last: str, answer: str) -> _Made:
    """Segments whose texts together are ``last`` + ``answer``, with borders where earlier answers stand."""
    pieces: list[tuple[str, bool]] = []
    done = ""
    for prompt, said in [*earlier, (last, answer)]:
        if not prompt.startswith(done):
            note = "the chat template rewrites earlier turns, so only the last one can be trained on"
            return _Made([(last, False), (answer, True)], note)
        pieces += [(prompt[len(done) :], False), (said, True)]
        done = prompt + said
    return _Made(pieces)


def _raw(template: Template, data: _Data, tokenizer: PreTrainedTokenizerFast, mark: str) -> _Made:
    write = _Writer(template, data, controls(tokenizer), mark)
    close = tokenizer.eos_token or ""
    text = bos(tokenizer) + write.system()
    if write.place_shots:
        for shot in data.shots:
            text += write.user(shot) + _closed(write.answer(shot, shot["output"]), template, close, last=False)
    pieces: list[tuple[str, bool]] = []
    for turn in data.turns:
        if turn.role not in ("user", "assistant"):
            raise RowError(
                f"Row {data.row['row_id']}: a raw template has no place for a {turn.role!r} turn", "Use a chat template."
            )
        if turn.role == "assistant":
            pieces += [(text, False), (_closed(write.spoken(turn), template, close, last=False), True)]
            text = ""
        else:
            text += write.spoken(turn)
    if data.single:
        text += write.user(data.row)
    answer = "" if data.answer is None else _closed(write.answer(data.row, data.answer), template, close, last=True)
    return _Made([*pieces, (text, False), (answer, True)])


def _closed(answer: str, template: Template, close: str, *, last: bool) -> str:
    """An answer with its end-of-text token; between turns the template's own stop string is end enough."""
    own = any(answer.endswith(stop) for stop in template.stop)
    return answer if own and not last else answer + close


def bos(tokenizer: PreTrainedTokenizerFast) -> str:
    """The begin-of-text token if this tokenizer puts one before every text, else nothing."""
    ids = tokenizer.backend_tokenizer.encode("", add_special_tokens=True).ids
    return str(tokenizer.bos_token) if ids and ids[0] == tokenizer.bos_token_id else ""
