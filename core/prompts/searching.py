"""Loops of chat templates that only look for something end when they have found it.

Qwen3's goes through all messages from behind for the last question, under a flag that it takes down there, and through the rest
for nothing. Such a loop writes nothing, and does all that has an effect under the flag, so it may end when the flag is down.
Knows nothing of messages.
"""

from __future__ import annotations

from jinja2 import nodes

_COUNTS = frozenset({"index", "index0", "revindex", "revindex0", "length"})


def end_searches(tree: nodes.Template) -> None:
    """Let each such loop of the template end with the turn after which its flag is down."""
    for loop in list(tree.find_all(nodes.For)):
        flag = None if loop.recursive else _flag(loop)
        if flag is not None:
            down = nodes.Not(nodes.Getattr(nodes.Name(flag[0], "load"), flag[1], "load"))
            loop.body.append(nodes.If(down, [nodes.Break()], [], []).set_lineno(loop.lineno, override=True))


def _flag(loop: nodes.For) -> tuple[str, str] | None:
    """The name and attribute that all of a loop's work depends on, if it has one."""
    flags: set[tuple[str, str]] = set()
    one = {loop.target.name} if isinstance(loop.target, nodes.Name) else {n.name for n in loop.target.find_all(nodes.Name)}
    named = {*one, "loop"}
    for node in loop.body:
        if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name) and _is_count(node.node, one):
            named.add(node.target.name)
        elif isinstance(node, nodes.If) and not node.elif_ and not node.else_:
            first: nodes.Node = node.test
            while isinstance(first, nodes.And):
                first = first.left
            if not isinstance(first, nodes.Getattr) or not isinstance(first.node, nodes.Name):
                return None
            flags.add((first.node.name, first.attr))
        else:
            return None
    return flags.pop() if len(flags) == 1 and not {name for name, _ in flags} & named else None


def _is_count(node: nodes.Node, varying: set[str]) -> bool:
    """Whether it is a sum that can't fail in one turn of a loop if it didn't in another; ``varying``: what they don't share."""
    if isinstance(node, nodes.Add | nodes.Sub):
        return _is_count(node.left, varying) and _is_count(node.right, varying)
    if isinstance(node, nodes.Getattr):
        return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _COUNTS
    if isinstance(node, nodes.Filter):
        return node.name in ("length", "count") and isinstance(node.node, nodes.Name) and node.node.name not in varying
    return isinstance(node, nodes.Const) or (isinstance(node, nodes.Name) and node.name not in varying)
