"""What a chat template writes of every beginning of a conversation, found in one run instead of one for each.

A template that only goes through the messages in order writes the same of their first k, whatever follows. To see that it
does, the messages of the run are ``Watched``: each look at one is noted, and where the text stood when the next was asked
for. What follows the loop has to need nothing that the messages could have changed, which ``main_loop`` reads from
the template's tree. Where either can't be shown there is no answer, and each beginning is written by itself.
Knows nothing of budgets, tokenizers and rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes
from jinja2.runtime import LoopContext

_BACKWARD = frozenset({"index", "index0", "first", "previtem", "cycle", "changed", "depth", "depth0"})
"""What ``loop`` knows without looking ahead."""
_ELSEWHERE = (nodes.Block, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@dataclass(frozen=True)
class Prefixes:
    """``text`` of all ``count`` messages. Of the first k alone it would be ``text[: cuts[k]] + tail(k)``, if ``cuts`` has k.

    ``tails``: what each has behind that, where it isn't the same for all.
    """

    text: str
    count: int
    cuts: Mapping[int, int]
    tails: Mapping[int, str] | None = None

    def tail(self, count: int) -> str:
        """What stands behind ``cuts[count]`` if there are no more messages than ``count``."""
        return self.tails[count] if self.tails is not None else self.text[self.cuts[self.count] :]


@dataclass
class Watch:
    """What a run has seen of the messages: ``seen`` the furthest place, ``blind`` where that can't be said any more.

    ``written``: characters so far; ``cuts``: how many they were when the main loop asked for message 0, 1, and so on.
    """

    seen: int = -1
    blind: bool = False
    written: int = 0
    cuts: dict[int, int] = field(default_factory=dict)

    def asked(self, place: int) -> None:
        """The main loop asks for a message."""
        if not self.blind and self.seen < place:
            self.cuts[place] = self.written
        self.seen = max(self.seen, place)

    def looks_ahead(self, attribute: str) -> bool:
        """Whether an attribute of ``loop`` tells of what follows."""
        return attribute not in _BACKWARD

    def walk(self, names: Mapping[str, Any], value: Watched, independent: bool, facts: tuple[Any, ...]) -> Any:
        """The main loop begins: what it goes through. ``names``: all that were set before; ``facts``: see ``resumed``."""
        return value.walked() if independent else value

    def found(self, text: str, count: int) -> Prefixes | None:
        """The prefixes of ``count`` messages, if the main loop went through them all."""
        return Prefixes(text, count, self.cuts) if count in self.cuts else None


watching: ContextVar[Watch | None] = ContextVar("watching", default=None)


class Watched(list[Any]):
    """Messages from place ``base`` on, of which no look goes unnoted; there is at least one message."""

    def __init__(self, messages: Sequence[Any], watch: Watch, base: int = 0, *, main: bool = False) -> None:
        super().__init__(messages)
        self.watch, self.base, self.main = watch, base, main

    def __iter__(self) -> Iterator[Any]:
        for place, message in enumerate(super().__iter__(), self.base):
            self._step(place)
            yield message
        self._step(self.base + self.plain_length)

    def _step(self, place: int) -> None:
        if self.main:
            self.watch.asked(place)
        else:
            self.watch.seen = max(self.watch.seen, place)

    @property
    def plain_length(self) -> int:
        """How many messages there are, not noted."""
        return super().__len__()

    def plain(self) -> list[Any]:
        """The messages, not watched any more."""
        return list(super().__iter__())

    def walked(self) -> Watched:
        """The same messages, gone through by the main loop."""
        return Watched(self.plain(), self.watch, self.base, main=True)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.stop is None and key.step is None and _natural(key.start or 0):
            return Watched(super().__getitem__(key), self.watch, self.base + (key.start or 0))
        if _natural(key):
            self.watch.seen = max(self.watch.seen, self.base + key)
        else:
            self.watch.blind = True
        return super().__getitem__(key)

    def __bool__(self) -> bool:
        if self.base:
            self.watch.blind = True
        return super().__len__() > 0

    def __len__(self) -> int:
        self.watch.blind = True
        return super().__len__()

    def __contains__(self, item: object) -> bool:
        self.watch.blind = True
        return super().__contains__(item)

    def __eq__(self, other: object) -> bool:
        self.watch.blind = True
        return super().__eq__(other)

    def __reversed__(self) -> Iterator[Any]:
        self.watch.blind = True
        return super().__reversed__()

    __hash__ = None


def _natural(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def note_attribute(owner: Any, name: Any) -> None:
    """A template reads an attribute or item of ``owner`` (messages, or a loop): is that a look ahead?"""
    if isinstance(owner, Watched):
        if not isinstance(name, int | slice):
            owner.watch.blind = True
    elif isinstance(owner, LoopContext) and (watch := watching.get()) is not None and watch.looks_ahead(str(name)):
        watch.blind = True


def main_loop(tree: nodes.Template) -> tuple[nodes.For | None, bool]:
    """The loop to be walked, and whether what follows it and the messages have nothing to do with each other.

    It is the last loop at the top; ``loop`` may be read by its attributes only, so that nobody else can go on with its
    messages. Behind it no name may be read that the template sets, nor the messages themselves, for the second.
    """
    places = [place for place, node in enumerate(tree.body) if isinstance(node, nodes.For)]
    if not places or any(tree.find_all(_ELSEWHERE)):
        return None, False
    loop, behind = tree.body[places[-1]], tree.body[places[-1] + 1 :]
    assert isinstance(loop, nodes.For)
    changing = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    changing |= {macro.name for macro in tree.find_all(nodes.Macro)} | {"messages", "self"}
    read = {name.name for node in behind for name in node.find_all(nodes.Name)}
    by_attribute = sum(_is_loop(attribute.node) for attribute in tree.find_all(nodes.Getattr))
    if loop.else_ or loop.recursive or by_attribute < sum(map(_is_loop, tree.find_all(nodes.Name))):
        return None, False
    return loop, not read & changing


def _is_loop(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "loop"
