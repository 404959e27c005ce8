"""Models' own chat templates under a budget: whatever one does, a render ends, with a text or with a fault.

A chat template comes with a model, from anywhere. transformers runs it in a sandbox without a bound: a loop in a loop
or ``'x' * 10**10`` would hang a page or fill its memory. Here the same environment (filters, globals and extensions are
transformers' own) counts what every loop, call, filter, sum and assignment touches against ``budget``. What it writes is
checked to be what transformers writes (``chat.answer_frame``). Knows nothing of tokenizers and rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from core.prompts.budget import MAX_CHARACTERS, TooMuchError, budget, spend
from core.prompts.prefixes import Prefixes, Watch, Watched, main_loop, note_attribute, watching

FIXED_DATE = "26 Jul 2024"
"""The date that templates may write: today's would make training differ from use."""
MAX_SOURCE = 500_000
MAX_DEPTH = 100
MAX_NUMBER = 1_000_000
"""Largest number that a function or filter may be given: widths and repetitions are numbers."""
MAX_BITS = 10_000
_WIDE = re.compile(r"\d{5,}")
_WIDE_PERCENT = re.compile(r"%[-+ #0(\w)]*?(?:\*|\d{5,}|\.(?:\*|\d{5,}))")
_TICKED = (nodes.For, nodes.Macro, nodes.CallBlock)
_CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
_OF_SEQUENCES = frozenset(
    {"attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "join", "last", "length", "list", "map"}
    | {"max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort", "sum", "unique"}
)
"""Filters that may be given what can't be written (a generator, a macro)."""
_STEPS = ("tick", "weighed", "named", "walked", "joined")
"""The environment's own methods that are put into a template."""
_NO_FILTERS = ("random", "pprint", "urlize")
"""Not the same twice, or not bounded by what they are given."""
FAULTS: tuple[type[Exception], ...] = (
    *(TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, MemoryError),
)
"""What a chat template runs into."""


def weigh(value: Any, *, written: bool = False) -> Any:
    """Count all that a value holds, however deep; returns it. ``written``: TypeError where it can't be put into a text."""
    held = [value]
    while held:
        one = held.pop()
        if isinstance(one, str | bytes):
            spend(len(one))
        elif isinstance(one, Mapping):
            spend(10 + len(one))
            held += [*one.keys(), *one.values()]
        elif isinstance(one, _CONTAINERS):
            spend(10 + len(one))
            held += one
        elif isinstance(one, Namespace):
            spend(10)
            held += object.__getattribute__(one, "_Namespace__attrs").values()
        elif isinstance(one, int) and not isinstance(one, bool):
            spend(10 + one.bit_length() // 8)
        elif written and not (one is None or isinstance(one, bool | float | Undefined)):
            raise TypeError(f"a {type(one).__name__} can't be written")
    return value


def _numbers(values: Any) -> None:
    for one in values:
        if isinstance(one, int) and abs(one) > MAX_NUMBER:
            raise TooMuchError(f"it asks for more than {MAX_NUMBER:,} of something")


def _counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    begin = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0  # Jinja's own first argument

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        subject, more = args[begin] if len(args) > begin else None, [*args[begin + 1 :], *kwargs.values()]
        _numbers(more)
        weigh(subject, written=name not in _OF_SEQUENCES)
        weigh(more)
        spend(_growth(name, subject, more))
        result = function(*args, **kwargs)
        return weigh(result) if isinstance(result, str | list) else result

    return counted


def _growth(name: str, subject: Any, more: list[Any]) -> int:
    """The most characters or items that a filter can make."""
    if name == "format":
        _check_percent(str(subject))
    if name == "tojson" and any(isinstance(one, int) and one > 64 for one in more):
        raise TooMuchError("it indents too far")
    size = len(subject) if isinstance(subject, str | list | tuple) else 0
    factor = sum(len(one) if isinstance(one, str) else one if isinstance(one, int) else 0 for one in more)
    if name in ("indent", "replace", "join"):
        return size + (size + 1) * factor
    return size + factor


def _check_percent(text: str) -> None:
    if _WIDE_PERCENT.search(text):
        raise TooMuchError("it pads a text too far")


class Bounded(ImmutableSandboxedEnvironment):
    """transformers' environment for chat templates, with every step counted."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, theirs: Any) -> None:
        extensions = [type(extension) for extension in theirs.extensions.values()]
        super().__init__(
            trim_blocks=theirs.trim_blocks, lstrip_blocks=theirs.lstrip_blocks, extensions=extensions, finalize=_written,
            optimized=False,
        )  # fmt: skip
        self.globals = {name: value for name, value in theirs.globals.items() if name != "lipsum"}
        self.globals["strftime_now"] = _fixed_date
        self.filters = {name: _counted_filter(name, f) for name, f in theirs.filters.items() if name not in _NO_FILTERS}
        self.tests = {name: _counted_test(test) for name, test in theirs.tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        loop = main_loop(tree)
        _instrument(tree)
        if loop is not None:
            loop.iter = _through(loop, "walked", loop.iter)
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

    def walked(self, value: Any) -> Any:
        """What the main loop goes through."""
        return value.walked() if isinstance(value, Watched) else value

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
        if _WIDE.search(str(getattr(value, "__self__", ""))):
            raise TooMuchError("it pads a text too far")

        def checked(*args: Any, **kwargs: Any) -> Any:
            _numbers(abs(n) * 10 for n in (*args, *kwargs.values()) if isinstance(n, int))
            weigh([args, kwargs], written=True)
            return weigh(inner(*args, **kwargs))

        return checked

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Calls of methods, macros and globals."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if owner is __self and name in _STEPS:
            return __obj(*args)
        _numbers((*args, *kwargs.values()))
        weigh([args, kwargs])
        if isinstance(owner, bytes | bytearray) or (isinstance(owner, str) and name == "translate"):
            raise SecurityError(f"{type(owner).__name__}.{name} is out of reach")
        if isinstance(owner, str):
            spend(_most(owner, name, args) + 10)
        result = super().call(__context, __obj, *args, **kwargs)
        return weigh(result) if isinstance(result, str | list) else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Sums and products, bounded before they are computed."""
        if operator == "%" and isinstance(left, str):
            _check_percent(left)
            weigh(right, written=True)
        elif operator in ("*", "**"):
            _check_product(operator, left, right)
        elif operator == "+":
            sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
            spend(sum(sizes) + 10)
        return super().call_binop(context, operator, left, right)


def _most(owner: str, name: str, args: tuple[Any, ...]) -> int:
    """The most characters that a method of a text can make."""
    sizes = [len(a) if isinstance(a, str | list | tuple) else a if isinstance(a, int) else 1 for a in args]
    if name == "replace" and len(args) > 1:
        return len(owner) + (owner.count(str(args[0])) if args[0] else len(owner) + 1) * sizes[1]
    if name == "join" and args:
        return len(owner) * max(1, sizes[0])
    if name == "expandtabs":
        return len(owner) + owner.count("\t") * max([8, *sizes])
    return len(owner) + sum(sizes)


def _check_product(operator: str, left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple | bytes) and isinstance(times, int):
            spend(len(text) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise TooMuchError("it makes too large a number")


def _counted_test(test: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(test)
    def counted(*args: Any, **kwargs: Any) -> Any:
        weigh([args, kwargs])
        return test(*args, **kwargs)

    return counted


@pass_context
def _written(_: Context, value: Any) -> Any:
    """What is put out, as Jinja does it; the context keeps it from being computed when the template is compiled."""
    return weigh(value, written=True)


def _fixed_date(format: str) -> str:
    if len(format) > 64 or any(c.isdigit() for c in format):
        raise TooMuchError("it writes a date too wide")
    return datetime.strptime(FIXED_DATE, "%d %b %Y").strftime(format)


def _instrument(node: nodes.Node, depth: int = 0) -> nodes.Node:
    """Let every step that may cost something pass through the budget; returns the node to stand here instead."""
    if depth > MAX_DEPTH:
        raise TemplateSyntaxError("it is nested too deeply", getattr(node, "lineno", 1))
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _instrument(value, depth + 1))
        elif isinstance(value, list):
            value[:] = [_instrument(item, depth + 1) if isinstance(item, nodes.Node) else item for item in value]
    if isinstance(node, _TICKED):
        size = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.body.insert(0, nodes.ExprStmt(_through(node, "tick", nodes.Const(size))).set_lineno(node.lineno))
    elif isinstance(node, nodes.Assign):
        node.node = _through(node, "named", node.node)
    elif isinstance(node, nodes.Compare):
        node.expr = _through(node, "weighed", node.expr)
        for operand in node.ops:
            operand.expr = _through(node, "weighed", operand.expr)
    elif isinstance(node, nodes.Concat):
        return _through(node, "joined", *node.nodes)
    return node


def _through(at: nodes.Node, method: str, *arguments: Any) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(method), list(arguments), [], None, None)
    call.set_lineno(at.lineno)
    return call


@lru_cache(maxsize=1)
def _environment() -> Bounded:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return Bounded(_compile_jinja_template("").environment)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(f"it is longer than {MAX_SOURCE:,} characters", 1)
    try:
        return _environment().from_string(source)
    except TemplateError:
        raise
    except (SyntaxError, RecursionError, MemoryError, ValueError, ArithmeticError, TooMuchError) as error:
        raise TemplateSyntaxError("it is nested too deeply or can't be compiled", 1) from error


def render_chat(source: str, variables: Mapping[str, Any]) -> str:
    """A chat template's text. TooMuchError over the budget, ``FAULTS`` for what else goes wrong."""
    return "".join(_written_parts(source, variables))


def render_prefixes(source: str, variables: Mapping[str, Any]) -> Prefixes | None:
    """``render_chat`` of all beginnings of ``messages`` (at least one) at once; none where they can't be told from one run."""
    watch, messages = Watch(), variables["messages"]
    token = watching.set(watch)
    try:
        parts = []
        for part in _written_parts(source, {**variables, "messages": Watched(messages, watch)}):
            parts.append(part)
            watch.written += len(part)
    finally:
        watching.reset(token)
    return watch.found("".join(parts), len(messages))


def _written_parts(source: str, variables: Mapping[str, Any]) -> Iterator[str]:
    size = 0
    with budget():
        for part in _compiled(source).generate(**variables):
            size += len(part)
            if size > MAX_CHARACTERS:
                raise TooMuchError(f"it writes more than {MAX_CHARACTERS:,} characters")
            yield part
