"""Slots of a form or template that nobody filled in: ``{{name}}``, ``${name}``, ``%(name)s``, ``[TODO]``, ``____``."""

from __future__ import annotations

_WORDS = r"TODO|TBD|TBC|INSERT[^\]】>]{0,40}|YOUR [^\]】>]{0,40}|待[^\]】>]{1,8}|此处[^\]】>]{0,12}|请[填输][^\]】>]{0,12}"
PATTERN = (
    r"\{\{\s*[\pL_][\pL\pN_.\- ]*\}\}|\$\{[\pL_][\pL\pN_.]*\}|%\([\pL_][\pL\pN_]*\)[sd]|<%=[^%]+%>"
    rf"|[\[【<](?:{_WORDS})[\]】>]|_{{4,}}|＿{{3,}}|\b[Xx]{{3,}}[\-－][Xx]{{3,}}"
)
"""RE2."""
