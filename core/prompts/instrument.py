"""Calls of an environment's own methods put into a template's tree, so that its steps pass through them.

Knows nothing of what the methods do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import TemplateSyntaxError, nodes


def instrument(node: nodes.Node, change: Callable[[nodes.Node], nodes.Node], levels: int) -> nodes.Node:
    """The node as ``change`` returns it (itself, or what stands in its place), once all nodes in it are changed.

    TemplateSyntaxError where nodes stand in each other more than ``levels`` deep.
    """
    if levels < 0:
        raise TemplateSyntaxError("it is nested too deeply", getattr(node, "lineno", 1))
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, instrument(value, change, levels - 1))
        elif isinstance(value, list):
            value[:] = [instrument(item, change, levels - 1) if isinstance(item, nodes.Node) else item for item in value]
    return change(node)


def through(at: nodes.Node, method: str, *arguments: Any) -> nodes.Call:
    """A call of the environment's ``method``, to stand at ``at``."""
    call = nodes.Call(nodes.EnvironmentAttribute(method), list(arguments), [], None, None)
    call.set_lineno(at.lineno)
    return call


def ticked(node: Any, *arguments: nodes.Node) -> None:
    """Let each turn of a loop (or call of a macro) begin with a call of the environment's ``tick``."""
    node.body.insert(0, nodes.ExprStmt(through(node, "tick", *arguments)).set_lineno(node.lineno))
