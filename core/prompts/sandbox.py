"""Jinja texts of templates, in a sandbox: no way to Python's insides, bounded output, work and time.

The language is Jinja without what a prompt never needs: macros, imports, multiplication, powers, calls other
than a few methods of texts and mappings. Whatever a text does, ``run`` returns within ``SECONDS`` or raises a
SpecError that says where. Knows nothing of rows, templates' records and tokenizers.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.errors import SpecError
from core.prompts import filters
from core.prompts.budget import TooMuchError, spend, written
from core.prompts.instrument import instrument, through, ticked
from core.prompts.traced import Traced, UntraceableError

MAX_SOURCE = 65_536
MAX_DEPTH = 40
METHODS = frozenset({"strip", "lstrip", "rstrip", "startswith", "endswith", "lower", "upper", "split", "get", "items"})
_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.NSRef, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.If, nodes.For, nodes.Assign, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And),
    *(nodes.Or, nodes.Not, nodes.CondExpr, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mod, nodes.Neg, nodes.List),
    *(nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Call),
)
_COUNTERS = frozenset({"tick", "seen", "kept", "part", "joined"})
_TESTS = frozenset({"defined", "undefined", "none", "number", "mapping", "even", "odd"})
_NAMES = {
    nodes.Mul: "multiplication",
    nodes.Pow: "a power",
    nodes.Macro: "a macro",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
    nodes.Block: "a block",
}
_FAULTS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError, RecursionError)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment; every filter, call, loop and sum is counted against the render's budget."""

    intercepted_binops = frozenset({"+", "-", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, finalize=to_text
        )
        self.globals.clear()
        self.filters.clear()
        self.filters.update(filters.FILTERS)
        self.tests = {name: test for name, test in self.tests.items() if name in _TESTS}

    def tick(self) -> None:
        """Count one turn of a loop."""
        spend(50)

    def seen(self, value: Any) -> Any:
        """A value that is tested or compared."""
        spend(len(value) if isinstance(value, str | list) else 10)
        return value

    def kept(self, value: Any) -> Any:
        """A value that is given a name: no lists of lists of lists, whose size would be hidden."""
        if isinstance(value, list | tuple | dict):
            spend(_size(value, 3))
        return self.seen(value)

    def part(self, value: Any, start: int | None, stop: int | None) -> Any:
        """``value[start:stop]``."""
        if not isinstance(value, str | list | tuple):
            raise TypeError(f"{type(value).__name__} has no parts")
        result = value[start:stop]
        spend(len(result) + 10)
        return result

    def joined(self, *parts: Any) -> Any:
        """``a ~ b``."""
        if any(isinstance(part, Traced) for part in parts):
            return reduce(add, [part if isinstance(part, Traced) else to_text(part) for part in parts])
        texts = [to_text(part) for part in parts]
        spend(sum(map(len, texts)))
        return "".join(texts)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Only what the syntax check let through: methods of texts and mappings."""
        owner: Any = getattr(__obj, "__self__", None)
        if owner is __self and getattr(__obj, "__name__", "") in _COUNTERS:
            return __obj(*args)
        if type(owner) not in (str, dict) or getattr(__obj, "__name__", "") not in METHODS:
            raise SecurityError("only methods of texts and mappings can be called")
        spend(len(owner) + 10)
        result = __obj(*args, **kwargs)
        return list(result) if isinstance(result, ItemsView) else result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Sums of numbers, texts or lists; differences and remainders of numbers."""
        if operator == "+" and (isinstance(left, Traced) or isinstance(right, Traced)):
            return left + right
        numbers = all(isinstance(side, int | float) for side in (left, right))
        if not numbers and not (operator == "+" and type(left) is type(right) and isinstance(left, str | list)):
            raise TypeError(f"{operator!r} of {type(left).__name__} and {type(right).__name__}")
        if not numbers:
            spend(len(left) + len(right))
        return self.binop_table[operator](left, right)


def _size(value: Any, depth: int) -> int:
    if not isinstance(value, list | tuple | dict):
        return 1
    if depth == 0:
        raise TypeError("a list in a list in a list can't be kept under a name")
    spend(len(value))
    items = value.values() if isinstance(value, dict) else value
    return len(value) + sum(_size(item, depth - 1) for item in items if isinstance(item, list | tuple | dict))


def to_text(value: Any) -> Any:
    """How a value is written: text as it is, nothing for none, lists and mappings as JSON."""
    if isinstance(value, str):
        spend(len(value))
        return value
    if isinstance(value, Traced):
        return value.written
    if value is None:
        return ""
    if isinstance(value, Undefined):
        return str(value)
    if isinstance(value, bool | int | float | list | tuple | dict):
        return filters.tojson(value)
    raise TypeError("a value that can't be written as text; is a pair of brackets missing?")


@dataclass(frozen=True)
class Text:
    """A compiled Jinja text; ``names`` are the variables that it reads from outside."""

    source: str
    names: frozenset[str]
    template: Any


def _check(node: nodes.Node, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise TemplateSyntaxError("it is nested too deeply", getattr(node, "lineno", 1))
    line = getattr(node, "lineno", 1)
    if not isinstance(node, _ALLOWED):
        raise TemplateSyntaxError(f"{_NAMES.get(type(node), type(node).__name__.lower())} is not part of templates", line)
    if isinstance(node, nodes.For) and node.recursive:
        raise TemplateSyntaxError("a recursive loop is not part of templates", line)
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise TemplateSyntaxError(f"{node.attr!r} is out of reach", line)
    if isinstance(node, nodes.Slice) and node.step is not None:
        raise TemplateSyntaxError("a slice with a step is not part of templates", line)
    if isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS):
        raise TemplateSyntaxError(f"only these can be called: {', '.join(sorted(METHODS))}", line)
    if isinstance(node, nodes.Filter) and node.name not in filters.FILTERS:
        raise TemplateSyntaxError(f"there is no filter {node.name!r}; filters: {', '.join(sorted(filters.FILTERS))}", line)
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise TemplateSyntaxError(f"there is no test {node.name!r}; tests: {', '.join(sorted(_TESTS))}", line)
    for child in node.iter_child_nodes():
        _check(child, depth + 1)


def _counted(node: nodes.Node) -> nodes.Node:
    """The node with what may cost something in it passed through the budget."""
    if isinstance(node, nodes.For):
        ticked(node)
    elif isinstance(node, nodes.If | nodes.CondExpr):
        node.test = through(node, "seen", node.test)
    elif isinstance(node, nodes.Compare):
        node.expr = through(node, "seen", node.expr)
    elif isinstance(node, nodes.Assign):
        node.node = through(node, "kept", node.node)
    elif isinstance(node, nodes.Concat):
        return through(node, "joined", *node.nodes)
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        ends = [end or nodes.Const(None) for end in (node.arg.start, node.arg.stop)]
        return through(node, "part", node.node, *ends)
    return node


_ENVIRONMENT = Sandbox()


@lru_cache(maxsize=512)
def compile_text(source: str) -> Text:
    """Compile a text; TemplateSyntaxError (see ``syntax_fault``) if it is not one."""
    if len(source) > MAX_SOURCE:
        raise TemplateSyntaxError(f"it is longer than {MAX_SOURCE:,} characters", 1)
    try:
        tree = _ENVIRONMENT.parse(source)
        _check(tree)
        names = _outside_names(tree)
        instrument(tree, _counted, MAX_DEPTH)
        tree.set_environment(_ENVIRONMENT)
        code = _ENVIRONMENT.compile(tree)
    except (RecursionError, MemoryError, OverflowError, ValueError, SyntaxError) as error:
        raise TemplateSyntaxError("it is nested too deeply or holds a number that is too long", 1) from error
    return Text(source, names, _ENVIRONMENT.template_class.from_code(_ENVIRONMENT, code, {}))


def _outside_names(tree: nodes.Template) -> frozenset[str]:
    from jinja2.meta import find_undeclared_variables

    return frozenset(find_undeclared_variables(tree))


def syntax_fault(where: str, error: TemplateSyntaxError) -> SpecError:
    """What a user is told about a text that can't be compiled."""
    message = (error.message or "it can't be read").rstrip(".")
    hint = "Check the braces: {{ variable }}, {% if … %} … {% endif %}, {% for … %} … {% endfor %}."
    if "Unexpected end of template" in message or "end of print statement" in message:
        message = message.removeprefix("Unexpected end of template. ")
        hint = "A block is not closed: each {% if %} needs {% endif %}, each {% for %} needs {% endfor %}, each {{ needs }}."
    return SpecError(f"{where}, line {error.lineno}: {message}", hint)


def run(text: Text, variables: Mapping[str, Any], where: str) -> str:
    """The text with its variables; SpecError naming ``where`` if it fails, is too long or takes too long."""
    try:
        return "".join(written(text.template.generate(**variables)))
    except UndefinedError as error:
        known = ", ".join(sorted(variables))
        raise SpecError(f"{where}: {error.message}", f"Variables: {known}. Test one with `is defined`.") from error
    except TooMuchError as error:
        raise SpecError(f"{where}: {error}", "Make the template or the row shorter.") from error
    except (TemplateError, MemoryError, UntraceableError, *_FAULTS) as error:
        raise SpecError(f"{where}: {error or type(error).__name__}", "Try the template on this row in the preview.") from error
