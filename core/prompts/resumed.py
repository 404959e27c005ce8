"""What a chat template that looks ahead writes of every beginning of a conversation, without going through each from its start.

A template that asks ``loop.last`` or how many messages there are writes other things of the first k than of all, so one run
can't tell (``prefixes``). But the turns before the last of the k are written as in the run of all, if

- what is named before the loop is the same in both, or isn't looked at in the loop;
- an attribute of a namespace that differs is only compared in the loop, and comes out alike each time (``Course.bounds``);
- these turns look at no message behind the one after theirs, nor at how many there are.

So a run of the first k does what stands before the loop, takes the namespaces over as the run of all had them, and enters the
loop at its last turn; what follows is written for real. Where that can't be shown, each beginning is written by itself.
Knows nothing of budgets, tokenizers and rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace

from core.prompts.prefixes import Watch, Watched

Attribute = tuple[str, str]
"""A namespace's name, and an attribute of it."""
_SCALARS = (str, int, float, bool, type(None))
_ORDERS = ("lt", "lteq", "gt", "gteq")
_ONE_MORE = frozenset({("lteq", True), ("gt", True), ("lt", False), ("gteq", False)})
"""Comparisons of a number v (on the left or not) with another, n, that say whether ``v < n + 1``; others, whether ``v < n``."""
FEWEST = 4
"""Beginnings from which on it is quicker than writing each by itself."""


class UnlikeError(Exception):
    """A beginning's run can't be shown to go as the run of all did."""


@dataclass(frozen=True)
class Facts:
    """What a template's loop and its macros read and change.

    ``names`` of all kinds, ``bare`` ones otherwise than by an attribute, attributes ``read`` otherwise than in a comparison,
    attributes that are ``changed``.
    """

    names: frozenset[str]
    bare: frozenset[str]
    read: frozenset[Attribute]
    changed: frozenset[str]


def facts_of(tree: nodes.Template, loop: nodes.For) -> tuple[tuple[Any, ...], ...]:
    """The fields of ``Facts`` as constants; none for a loop that picks. Sets ``recorded`` on comparisons for ``Course``."""
    if loop.test is not None:
        return ()
    parts = [loop, *tree.find_all((nodes.Macro, nodes.CallBlock))]
    names = [name for part in parts for name in part.find_all(nodes.Name) if name.ctx == "load"]
    attributes: list[Any] = [n for part in parts for n in part.find_all(nodes.Getattr) if isinstance(n.node, nodes.Name)]
    owned = {id(node.node) for node in attributes}
    told: set[int] = set()
    compare: Any
    for compare in loop.find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        of = [side for side in sides if any(side is node for node in attributes) and side.node.name != "loop"]
        if len(sides) == 2 and compare.ops[0].op in _ORDERS and len(of) == 1:
            told.add(id(of[0]))
            compare.recorded = (of[0].node.name, of[0].attr, of[0] is compare.expr)
    read = {(node.node.name, node.attr) for node in attributes if id(node) not in told}
    stored = {node.attr for part in parts for node in part.find_all(nodes.NSRef)}
    bare = {name.name for name in names if id(name) not in owned}
    return tuple(tuple(sorted(group)) for group in ({name.name for name in names}, bare, read, stored))


def loop_context(iterable: Any, *more: Any, **named: Any) -> LoopContext:
    """What a compiled template makes ``loop`` of."""
    return (Steps if isinstance(iterable, Entered) else LoopContext)(iterable, *more, **named)


class Steps(LoopContext):
    """``loop``, which can begin in the middle of what it goes through, and tells when each turn begins."""

    def __init__(self, iterable: Entered, *more: Any, **named: Any) -> None:
        super().__init__(iterable, *more, **named)
        self.entered = iterable
        iterable.told_by_loop = True
        if iterable.start:
            self.index0, self._current = iterable.start - 1, iterable.before

    def __next__(self) -> Any:
        self.entered.step(self.index0 + 1)
        return super().__next__()


class Entered(list[Any]):
    """The messages that the main loop goes through, from place ``start`` (among them) on."""

    def __init__(self, messages: Iterable[Any], watch: Course | Resumed, base: int, start: int = 0) -> None:
        super().__init__(messages)
        self.watch, self.base, self.start, self.told_by_loop = watch, base, start, False

    @property
    def before(self) -> Any:
        """The message before the first that is gone through."""
        return super().__getitem__(self.start - 1)

    def step(self, place: int) -> None:
        """The message at a place among these is asked for."""
        self.watch.asked(self.base + place)

    def __iter__(self) -> Iterator[Any]:
        for place in range(self.start, len(self)):
            if not self.told_by_loop:
                self.step(place)
            yield super().__getitem__(place)
        if not self.told_by_loop:
            self.step(len(self))


@dataclass
class Course(Watch):
    """The run of all messages. Of the first k: ``cuts``, what was written when the k-th was asked for; ``spaces``, the
    namespaces' attributes then; ``bounds`` of their attributes [from, below) within which all comparisons came out alike."""

    wanted: frozenset[int] = frozenset()
    head: int = -1
    base: int = 0
    names: dict[str, Any] = field(default_factory=dict)
    facts: Facts | None = None
    begun: dict[str, dict[str, Any]] = field(default_factory=dict)
    spaces: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    bounds: dict[int, dict[Attribute, tuple[float, float]]] = field(default_factory=dict)
    within: dict[Attribute, tuple[float, float]] = field(default_factory=dict)
    ended: bool = False

    def looks_ahead(self, attribute: str) -> bool:
        """Whether an attribute of ``loop`` tells more than a run of its own finds out for the last turn."""
        return attribute != "last" and (attribute == "changed" or super().looks_ahead(attribute))

    def walk(self, names: Mapping[str, Any], value: Watched, independent: bool, facts: tuple[Any, ...]) -> Any:
        """The main loop begins: what was seen so far each run sees for itself."""
        if not facts:
            raise UnlikeError
        self.seen, self.blind = -1, False
        self.head, self.base, self.names, self.facts = self.written, value.base, dict(names), Facts(*map(frozenset, facts))
        self.begun = _spaces(names)
        return Entered(value.plain(), self, value.base)

    def asked(self, place: int) -> None:
        """The main loop asks for a message: the first ``place`` + 1 of them have it as their last."""
        if place + 1 in self.wanted and not self.blind and self.seen <= place:
            self.cuts[place + 1] = self.written
            self.spaces[place + 1] = _spaces(self.names)
            self.bounds[place + 1] = dict(self.within)
        self.ended = place >= max(self.wanted)

    def compared(self, order: str, value: Any, other: Any, on_left: bool, attribute: Attribute) -> None:
        """An attribute's ``value`` was compared with ``other``: which values would have come out alike?"""
        if type(value) is not int or type(other) is not int:
            self.blind = True
            return
        threshold = other + ((order, on_left) in _ONE_MORE)
        low, high = self.within.get(attribute, (float("-inf"), float("inf")))
        self.within[attribute] = (low, min(high, threshold)) if value < threshold else (max(low, threshold), high)


@dataclass
class Resumed(Watch):
    """A run of the first ``count`` messages, which enters the main loop at its last turn. ``head``: written before it."""

    course: Course = field(default_factory=Course)
    count: int = 0
    head: int = -1

    def asked(self, place: int) -> None:
        """Nothing has to be noted."""

    def walk(self, names: Mapping[str, Any], value: Watched, independent: bool, facts: tuple[Any, ...]) -> Any:
        """The main loop begins. UnlikeError where its turns may not go as they did in the run of all."""
        self.head = self.written
        differing = self._differing(names, value.base)
        for name, attributes in self.course.spaces[self.count].items():
            held = _attributes(names[name])
            held.update({key: one for key, one in attributes.items() if (name, key) not in differing})
        return Entered(value.plain(), self, value.base, self.count - 1 - value.base)

    def _differing(self, names: Mapping[str, Any], base: int) -> set[Attribute]:
        """Attributes of namespaces that aren't what they were, none of which makes a difference."""
        course, facts = self.course, self.course.facts
        assert facts is not None, "the run of all came to its loop"
        spaces = _spaces(names)
        others = (course.names.keys() | names.keys()) - spaces.keys()
        unlike = {name for name in others if not _same(course.names.get(name, self), names.get(name, self))}
        if base != course.base or self.count <= base or spaces.keys() != course.begun.keys() or unlike & facts.names:
            raise UnlikeError
        differing: set[Attribute] = set()
        for name, attributes in spaces.items():
            was = course.begun[name]
            for key in attributes.keys() | was.keys():
                if not _same(attributes.get(key, self), was.get(key, self)):
                    self._check(name, key, attributes.get(key))
                    differing.add((name, key))
        return differing

    def _check(self, name: str, key: str, value: Any) -> None:
        facts = self.course.facts
        assert facts is not None, "the run of all came to its loop"
        low, high = self.course.bounds[self.count].get((name, key), (None, None))
        within = low is None or (type(value) is int and low <= value < high)  # type: ignore[operator]
        if name in facts.bare or (name, key) in facts.read or key in facts.changed or not within:
            raise UnlikeError


def _attributes(space: Namespace) -> dict[str, Any]:
    held: dict[str, Any] = object.__getattribute__(space, "_Namespace__attrs")
    return held


def _spaces(names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of the namespaces among some names, copied. UnlikeError where one holds more than scalars, or two names."""
    found = {name: value for name, value in names.items() if isinstance(value, Namespace)}
    if len({id(value) for value in found.values()}) < len(found):
        raise UnlikeError
    copied = {name: dict(_attributes(value)) for name, value in found.items()}
    if not all(isinstance(value, _SCALARS) for attributes in copied.values() for value in attributes.values()):
        raise UnlikeError
    return copied


def _same(one: Any, other: Any) -> bool:
    """Whether two values are alike for a template, and can't become unlike."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Watched):
        return bool(one.base == other.base)
    if isinstance(one, _SCALARS):
        return bool(one == other)
    if isinstance(one, Macro):
        return one._func.__code__ is other._func.__code__
    if isinstance(one, Undefined):
        return True
    if isinstance(one, dict):
        return one is other or (list(one) == list(other) and all(_same(one[key], other[key]) for key in one))
    if isinstance(one, list | tuple):
        return one is other or (len(one) == len(other) and all(map(_same, one, other)))
    return False
