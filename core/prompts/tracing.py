"""Chat templates run on traced texts: a copy of transformers' environment in which no operation on one goes unseen.

Only for finding out how a chat template puts texts together (``core.prompts.plan``); what a model is given is
always written by ``chat.apply``, and plans are checked against it. A traced run takes the way that the same messages
take as plain texts, so those go first, under a budget: what would not end doesn't come here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, nodes
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from core.prompts import chat
from core.prompts.traced import Traced, UntraceableError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CAPTURING = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.FilterBlock, nodes.Concat)
"""What turns output into plain text again, where operations on it would go unseen."""
_KNOWN_TESTS = {"string": True, "defined": True, "undefined": False, "none": False, "mapping": False, "iterable": True}
_METHODS = frozenset({"startswith", "endswith", "strip", "lstrip", "rstrip", "split"})


def _holds_traced(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_traced, value.values()))
    return isinstance(value, Traced) or (isinstance(value, list | tuple) and any(map(_holds_traced, value)))


def _without_traced(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        if _holds_traced(args) or _holds_traced(kwargs):
            raise UntraceableError(f"{getattr(function, '__name__', 'a filter')} of a text")
        return function(*args, **kwargs)

    for name in ("jinja_pass_arg", "__name__"):
        if hasattr(function, name):
            setattr(checked, name, getattr(function, name))
    return checked


def _tested(name: str, test: Any) -> Callable[..., Any]:
    plain = _without_traced(test)
    if getattr(test, "jinja_pass_arg", None) is not None or name not in _KNOWN_TESTS:
        return plain
    return lambda value, *rest: _KNOWN_TESTS[name] if isinstance(value, Traced) else plain(value, *rest)


def _raise(message: str) -> None:
    raise TemplateError(message)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], finalize=_written, optimized=False)
        self.filters = {name: _without_traced(f) for name, f in self.filters.items()}
        trim = self.filters["trim"]
        self.filters["trim"] = lambda value, *rest: value.strip(*rest) if isinstance(value, Traced) else trim(value, *rest)
        self.filters["tojson"] = _without_traced(lambda value, **options: json.dumps(value, ensure_ascii=False, **options))
        self.tests = {name: _tested(name, test) for name, test in self.tests.items()}
        self.globals["raise_exception"] = _raise
        self.globals["namespace"] = Namespace

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, Traced):
            if getattr(__obj, "__name__", "") not in _METHODS:
                raise UntraceableError("a method of a text")
        elif __obj is not Namespace and (_holds_traced(args) or _holds_traced(kwargs)):
            raise UntraceableError("a function of a text")
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and (isinstance(left, Traced) or isinstance(right, Traced)):
            return left + right
        if _holds_traced((left, right)):
            raise UntraceableError(f"{operator} of a text")
        return super().call_binop(context, operator, left, right)


@pass_context
def _written(_: Context, value: Any) -> Any:
    """What is put out; the context keeps it from being computed when the template is compiled."""
    return value.written if isinstance(value, Traced) else value


def _plain(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: text.value if isinstance(text, Traced) else text for key, text in m.items()} for m in messages]


@lru_cache(maxsize=32)
def _compiled(source: str) -> Any:
    environment = _Environment()
    tree = environment.parse(source)
    if any(tree.find_all(_CAPTURING)):
        raise UntraceableError("the chat template captures what it writes")
    return environment.from_string(source)


def apply_traced(tokenizer: PreTrainedTokenizerFast, messages: Sequence[dict[str, Any]], thinking: bool | None, mark: str) -> str:
    """``chat.apply`` with an open turn, for messages whose contents may be Traced; UntraceableError if it can't be done."""
    source = tokenizer.chat_template
    if not isinstance(source, str) or mark in source or "strftime_now" in source:
        raise UntraceableError("no chat template that can be traced")
    chat.apply(tokenizer, _plain(messages), thinking=thinking, open_turn=True)
    try:
        text: str = _compiled(source).render(**chat.variables_of(tokenizer, messages, thinking, True))
    except UntraceableError:
        raise
    except Exception as error:  # whatever a foreign template runs into, the rows are then rendered one by one
        raise UntraceableError(str(error)) from error
    return text
