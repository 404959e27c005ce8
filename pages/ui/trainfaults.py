"""Faults of a training's settings in the words of its form: what a field is called there, not its key in a file.

Finds no fault (``core.training.spec`` does); the command line shows the same ones with their keys.
"""

from __future__ import annotations

import re

from pages.ui import states, trainsettings
from pages.ui.trainform import OVERFLOW

_SETTINGS = (
    *trainsettings.STEPS, *trainsettings.ADAPTER, *trainsettings.DEV, *trainsettings.KEEP, *trainsettings.MACHINE,
    trainsettings.GPUS,
)  # fmt: skip
LABELS = {setting.name: setting.label for setting in _SETTINGS} | {
    "learning_rate": "Learning rate",
    "epochs": "Epochs",
    "method": "Method",
    "max_length": "Maximum length in tokens",
    "overflow": "A longer row",
    "turns": "Learn",
    "loss_on": "Learn from",
    "eval_every": "Looks at dev",
}
"""What the form calls a key of the spec."""
_BESIDE = {
    "data": "Data",
    "dev": "Look at dev while training",
    "template": "Template",
    "model": "Model",
    "name": "Name of the run",
}
"""What it says of keys that have no field of their own, or another one each time."""
_VALUES = {
    str(value): words
    for offered in (OVERFLOW, trainsettings.METRICS, *(setting.choices for setting in _SETTINGS))
    for value, words in offered.items()
    if "_" in str(value)
}
_NAMED = re.compile(r"`?\b(" + "|".join([*(key for key in LABELS if "_" in key), "overflow", "gpus", "patience"]) + r")\b`?")
_SAID = re.compile(r"\b(" + "|".join(map(re.escape, _VALUES)) + r")\b`?")
_HEAD = re.compile(r"([a-z_]+)(?:\[\d+\])?(?:\.\w+)*: ")


def said(fault: str) -> str:
    """A fault as Markdown: ``max_length: …`` becomes ``**Maximum length in tokens**: …``, keys and values inside it as well."""
    head = _HEAD.match(fault)
    known = LABELS | _BESIDE
    label = known.get(head[1], "") if head else ""
    rest = fault[head.end() :] if head and label else fault
    rest = _SAID.sub(lambda found: _VALUES[found[1]], _NAMED.sub(lambda found: f"“{LABELS[found[1]]}”", rest))
    return (f"**{label}**: " if label else "") + states.plain(rest)
