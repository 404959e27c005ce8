"""Models' own chat templates under a budget: whatever one does, a render ends, with a text or with a fault.

A chat template comes with a model, from anywhere. transformers runs it in a sandbox without a bound: a loop in a loop
or ``'x' * 10**10`` would hang a page or fill its memory. Here the same environment (filters, globals and extensions are
transformers' own) counts what every loop, call, filter, sum and assignment touches against ``budget``. What it writes is
checked to be what transformers writes (``chat.answer_frame``). Knows nothing of tokenizers and rows.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

from core.prompts.budget import TooMuchError, spend, written
from core.prompts.instrument import instrument, through, ticked
from core.prompts.prefixes import Prefixes, Watch, Watched, main_loop, note_attribute, watching
from core.prompts.resumed import FEWEST, Course, Resumed, UnlikeError, facts_of, loop_context
from core.prompts.searching import end_searches
from core.prompts.weighing import (
    check_format,
    check_numbers,
    check_percent,
    check_product,
    counted_filter,
    counted_test,
    most_of_method,
    weigh,
)

FIXED_DATE = "26 Jul 2024"
"""The date that templates may write: today's would make training differ from use."""
MAX_SOURCE = 500_000
MAX_DEPTH = 100
_TICKED = (nodes.For, nodes.Macro, nodes.CallBlock)
_STEPS = ("tick", "weighed", "named", "walked", "joined", "compared")
"""The environment's own methods that are put into a template."""
_IN_ORDER = {"lt": operator.lt, "lteq": operator.le, "gt": operator.gt, "gteq": operator.ge}
_NO_FILTERS = ("random", "pprint", "urlize")
"""Not the same twice, or not bounded by what they are given."""
FAULTS: tuple[type[Exception], ...] = (
    *(TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, MemoryError),
)
"""What a chat template runs into."""


class Bounded(ImmutableSandboxedEnvironment):
    """transformers' environment for chat templates, with every step counted."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, theirs: Any) -> None:
        extensions = [type(extension) for extension in theirs.extensions.values()]
        super().__init__(
            trim_blocks=theirs.trim_blocks, lstrip_blocks=theirs.lstrip_blocks, extensions=extensions, finalize=_put_out,
            optimized=False,
        )  # fmt: skip
        self.globals = {name: value for name, value in theirs.globals.items() if name != "lipsum"}
        self.globals["strftime_now"] = _fixed_date
        self.filters = {name: counted_filter(name, f) for name, f in theirs.filters.items() if name not in _NO_FILTERS}
        self.tests = {name: counted_test(test) for name, test in theirs.tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        end_searches(tree)
        loop, independent = main_loop(tree)
        facts = facts_of(tree, loop) if loop is not None else ()
        instrument(tree, _counted, MAX_DEPTH)
        if loop is not None:
            loop.iter = through(loop, "walked", loop.iter, nodes.Const(independent), nodes.Const(facts))
        return tree

    def tick(self, written: int) -> None:
        """Count one turn of a loop, or one call of a macro, with the fixed text in it."""
        spend(50 + written)

    def weighed(self, value: Any) -> Any:
        """A value that is compared."""
        return weigh(value)

    def named(self, value: Any) -> Any:
        """A value that is given a name; the messages keep being watched under it."""
        if isinstance(value, Watched):
            spend(10 + value.plain_length)
            return value
        return weigh(value)

    def walked(self, context: Context, value: Any, independent: bool, facts: tuple[Any, ...]) -> Any:
        """What the main loop goes through."""
        return value.watch.walk(context.vars, value, independent, facts) if isinstance(value, Watched) else value

    def compared(self, order: str, left: Any, right: Any, name: str, attribute: str, on_left: bool) -> Any:
        """Whether ``left`` and ``right``, one of which is an attribute of ``name``, are in order."""
        weigh([left, right])
        if isinstance(course := watching.get(), Course):
            value, other = (left, right) if on_left else (right, left)
            course.compared(order, value, other, on_left, (name, attribute))
        return _IN_ORDER[order](left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``a.b``."""
        note_attribute(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """``a[b]``."""
        note_attribute(obj, argument)
        return super().getitem(obj, argument)

    def joined(self, *parts: Any) -> str:
        """``a ~ b``."""
        for part in parts:
            weigh(part, written=True)
        texts = [str(part) for part in parts]
        spend(sum(map(len, texts)))
        return "".join(texts)

    def wrap_str_format(self, value: Any) -> Any:
        """``format`` of a text, which may neither pad far nor write what can't be written."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None
        check_format(str(getattr(value, "__self__", "")))

        def checked(*args: Any, **kwargs: Any) -> Any:
            check_numbers(abs(n) * 10 for n in (*args, *kwargs.values()) if isinstance(n, int))
            weigh([args, kwargs], written=True)
            return weigh(inner(*args, **kwargs))

        return checked

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Calls of methods, macros and globals."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if owner is __self and name in _STEPS:
            return __obj(__context, *args) if name == "walked" else __obj(*args)
        check_numbers((*args, *kwargs.values()))
        weigh([args, kwargs])
        if isinstance(owner, bytes | bytearray) or (isinstance(owner, str) and name == "translate"):
            raise SecurityError(f"{type(owner).__name__}.{name} is out of reach")
        if isinstance(owner, str):
            spend(most_of_method(owner, name, args) + 10)
        result = super().call(__context, __obj, *args, **kwargs)
        return weigh(result) if isinstance(result, str | list) else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Sums and products, bounded before they are computed."""
        if operator == "%" and isinstance(left, str):
            check_percent(left)
            weigh(right, written=True)
        elif operator in ("*", "**"):
            check_product(operator, left, right)
        elif operator == "+":
            sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
            spend(sum(sizes) + 10)
        return super().call_binop(context, operator, left, right)


@pass_context
def _put_out(_: Context, value: Any) -> Any:
    """What is put out, as Jinja does it; the context keeps it from being computed when the template is compiled."""
    return weigh(value, written=True)


def _fixed_date(format: str) -> str:
    if len(format) > 64 or any(c.isdigit() for c in format):
        raise TooMuchError("it writes a date too wide")
    return datetime.strptime(FIXED_DATE, "%d %b %Y").strftime(format)


def _counted(node: nodes.Node) -> nodes.Node:
    """The node with what may cost something in it passed through the budget."""
    if isinstance(node, _TICKED):
        ticked(node, nodes.Const(sum(len(data.data) for data in node.find_all(nodes.TemplateData))))
    elif isinstance(node, nodes.Assign):
        node.node = through(node, "named", node.node)
    elif isinstance(node, nodes.Compare) and hasattr(node, "recorded"):
        sides = (nodes.Const(node.ops[0].op), node.expr, node.ops[0].expr)
        return through(node, "compared", *sides, *map(nodes.Const, node.recorded))
    elif isinstance(node, nodes.Compare):
        node.expr = through(node, "weighed", node.expr)
        for operand in node.ops:
            operand.expr = through(node, "weighed", operand.expr)
    elif isinstance(node, nodes.Concat):
        return through(node, "joined", *node.nodes)
    return node


@lru_cache(maxsize=1)
def _environment() -> Bounded:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return Bounded(_compile_jinja_template("").environment)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(f"it is longer than {MAX_SOURCE:,} characters", 1)
    try:
        template = _environment().from_string(source)
        template.root_render_func.__globals__["LoopContext"] = loop_context
        return template
    except TemplateError:
        raise
    except (SyntaxError, RecursionError, MemoryError, ValueError, ArithmeticError, TooMuchError) as error:
        raise TemplateSyntaxError("it is nested too deeply or can't be compiled", 1) from error


def render_chat(source: str, variables: Mapping[str, Any]) -> str:
    """A chat template's text. TooMuchError over the budget, ``FAULTS`` for what else goes wrong."""
    return "".join(written(_compiled(source).generate(**variables)))


def render_prefixes(source: str, variables: Mapping[str, Any]) -> Prefixes | None:
    """``render_chat`` of all beginnings of ``messages`` (at least one) at once; none where they can't be told so.

    Beginnings are those before each of the assistant's turns, and the whole.
    """
    watch, messages = Watch(), variables["messages"]
    found = watch.found(_watched(source, variables, messages, watch), len(messages))
    wanted = frozenset([place for place, one in enumerate(messages) if place and one["role"] == "assistant"] + [len(messages)])
    if found is not None or len(wanted) < FEWEST:
        return found
    try:
        return _resumed(source, variables, wanted)
    except UnlikeError:
        return None


def _resumed(source: str, variables: Mapping[str, Any], wanted: frozenset[int]) -> Prefixes | None:
    """The beginnings that are ``wanted`` by a run of all messages, and one of each beginning's last turn."""
    messages, course = variables["messages"], Course(wanted=wanted)
    text = _watched(source, variables, messages, course)
    if not course.ended or wanted - course.cuts.keys():
        return None
    tails = {len(messages): text[course.cuts[len(messages)] :]}
    for count in sorted(wanted - tails.keys()):
        run = Resumed(course=course, count=count)
        part = _watched(source, variables, messages[:count], run)
        if run.head < 0 or part[: run.head] != text[: course.head]:
            return None
        tails[count] = part[run.head :]
    return Prefixes(text, len(messages), course.cuts, tails)


def _watched(source: str, variables: Mapping[str, Any], messages: Sequence[Any], watch: Watch) -> str:
    """``render_chat`` of some messages, watched."""
    token = watching.set(watch)
    try:
        parts = []
        for part in written(_compiled(source).generate(**{**variables, "messages": Watched(messages, watch)})):
            parts.append(part)
            watch.written += len(part)
    finally:
        watching.reset(token)
    return "".join(parts)
