"""Puts a template's parts together: turns of a chat, or one running text. Makes texts only, no tokens.

Works on real texts and on ``traced`` ones alike: ``Means`` says how a part is written and a chat template applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.prompts import chat
from core.prompts.control import Controls, controls
from core.prompts.prefixes import Prefixes
from core.prompts.rowdata import RowData, RowError, Turn
from core.prompts.sandbox import Text, run
from core.prompts.templates import part, uses_shots
from core.records import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Means:
    """``text``: a compiled part with its variables, and where that is; ``turns``: messages, with an open turn.

    ``prefixes``: all beginnings of the messages at once, where that can be done.
    """

    text: Callable[[Text, Mapping[str, Any], str], str]
    turns: Callable[[PreTrainedTokenizerFast, chat.Messages, bool | None], str]
    prefixes: Callable[[PreTrainedTokenizerFast, chat.Messages, bool | None], Prefixes | None] = lambda *_: None


def _opened(tokenizer: PreTrainedTokenizerFast, messages: chat.Messages, thinking: bool | None) -> str:
    return chat.apply(tokenizer, messages, thinking=thinking, open_turn=True)


def _prefixes(tokenizer: PreTrainedTokenizerFast, messages: chat.Messages, thinking: bool | None) -> Prefixes | None:
    return chat.prefixes(tokenizer, messages, thinking=thinking)


REAL = Means(run, _opened, _prefixes)


@dataclass(frozen=True)
class Composed:
    """Texts in order, each with whether the assistant says it; the last is the answer."""

    pieces: list[tuple[str, bool]]
    note: str = ""


class Writer:
    """Writes the parts of a template for one row."""

    def __init__(self, template: Template, data: RowData, known: Controls, mark: str, means: Means) -> None:
        self.template, self.data, self.known, self.mark, self.means = template, data, known, mark, means
        self.place_shots = bool(data.shots) and not uses_shots(template)

    def system(self) -> str:
        return self.data.system or self._part("system", self.data.row)

    def user(self, row: Mapping[str, Any]) -> str:
        return self._part("user", row)

    def answer(self, row: Mapping[str, Any], output: str) -> str:
        return self._part("answer", {**row, "output": output})

    def spoken(self, turn: Turn) -> str:
        """A turn of a conversation, worded like a question or an answer of a single row."""
        if turn.role == "user":
            return self.user({**self.data.row, "instruction": "", "input": turn.text})
        return self.answer(self.data.row, turn.text) if turn.role == "assistant" else turn.text

    def _part(self, name: str, row: Mapping[str, Any]) -> str:
        names = ("instruction", "input", "passages", "extra", *(("output",) if name == "answer" else ()))
        variables = {key: row[key] for key in names}
        where = f"Template {self.template.ref}, {name}, row {row.get('row_id') or '(unnamed)'}"
        compiled = part(self.template, name)
        text = self.means.text(compiled, {**variables, "elements": self.data.elements, "shots": self.data.shots}, where)
        return self._guarded(text, compiled.source)

    def _guarded(self, text: str, source: str) -> str:
        """A control token that the template's own text doesn't hold was put together from data: make it plain text."""
        if self.mark:
            for token in self.known.tokens:
                if token in text and token not in source:
                    text = text.replace(token, token[0] + self.mark + token[1:])
        return text


def compose(
    template: Template, data: RowData, tokenizer: PreTrainedTokenizerFast, mark: str = "", means: Means = REAL
) -> Composed:
    """All texts of a row; ``mark`` is what stands inside control tokens of the data ("": there are none)."""
    write = Writer(template, data, controls(tokenizer), mark, means)
    return _chat(write, tokenizer) if template.kind == "chat" else _raw(write, tokenizer)


def messages_of(write: Writer) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What comes before the conversation (system text, worked examples), and the conversation up to the question."""
    data = write.data
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
    return messages, turns


def _chat(write: Writer, tokenizer: PreTrainedTokenizerFast) -> Composed:
    template, data = write.template, write.data
    frame = chat.answer_frame(tokenizer, template.enable_thinking)
    before, turns = messages_of(write)
    messages = [*before, *turns]
    said = {
        len(before) + place: frame.lead + turn["content"] + frame.end
        for place, turn in enumerate(turns)
        if turn["role"] == "assistant" and len(before) + place > 0
    }
    answer = "" if data.answer is None else frame.lead + write.answer(data.row, data.answer) + frame.end
    known = write.means.prefixes(tokenizer, messages, template.enable_thinking) if said else None
    if known is not None and all(place in known.cuts for place in said):
        return _stitched(_cut(known, said), lambda: known.text, answer)

    def prompts() -> Iterator[tuple[str, str, str]]:
        done = ""
        for place, text in said.items():
            prompt = _applied(write, tokenizer, messages[:place])
            yield done, prompt, text
            done = prompt + text
        yield done, _applied(write, tokenizer, messages), ""

    return _stitched(prompts(), lambda: _applied(write, tokenizer, messages), answer)


def _cut(known: Prefixes, said: Mapping[int, str]) -> Iterator[tuple[str, str, str]]:
    """For each prompt only its last turns, as only they have to be compared: the time is that of one text."""
    done, at = "", 0
    for place, text in [*said.items(), (known.count, "")]:
        yield done, known.text[at : known.cuts[place]] + known.tail(place), text
        done, at = known.tail(place) + text, known.cuts[place]


def _applied(write: Writer, tokenizer: PreTrainedTokenizerFast, messages: chat.Messages) -> str:
    data = write.data
    try:
        return write.means.turns(tokenizer, messages, write.template.enable_thinking)
    except chat.ChatTemplateError as fault:
        if data.single and not data.turns:
            raise
        raise RowError(f"Row {data.row['row_id']}: {fault.message}", fault.hint) from fault


def _stitched(prompts: Iterable[tuple[str, str, str]], last: Callable[[], str], answer: str) -> Composed:
    """Segments whose texts together are the last prompt and the answer, with borders where earlier answers stand.

    ``prompts``: what is written already, the text that should go on from it, and what is said there; the last for ``answer``.
    """
    pieces: list[tuple[str, bool]] = []
    for done, prompt, said in prompts:
        if not prompt.startswith(done):
            note = "the chat template rewrites earlier turns, so only the last one can be trained on"
            return Composed([(last(), False), (answer, True)], note)
        pieces += [(prompt[len(done) :] if done else prompt, False), (said, True)]
    return Composed([*pieces[:-1], (answer, True)])


def _raw(write: Writer, tokenizer: PreTrainedTokenizerFast) -> Composed:
    template, data = write.template, write.data
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
    return Composed([*pieces, (text, False), (answer, True)])


def _closed(answer: str, template: Template, close: str, *, last: bool) -> str:
    """An answer with its end-of-text token; between turns the template's own stop string is end enough."""
    own = any(answer.endswith(stop) for stop in template.stop)
    return answer if own and not last else answer + close


def bos(tokenizer: PreTrainedTokenizerFast) -> str:
    """The begin-of-text token if this tokenizer puts one before every text, else nothing."""
    ids = tokenizer.backend_tokenizer.encode("", add_special_tokens=True).ids
    return str(tokenizer.bos_token) if ids and ids[0] == tokenizer.bos_token_id else ""
