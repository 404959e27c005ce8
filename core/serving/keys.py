"""The bearer key of a server: made, or taken from who starts it. Held in memory only; nothing here writes it anywhere."""

from __future__ import annotations

import os
import secrets

from core.errors import SpecError

VARIABLE = "TUNEWISE_SERVE_KEY"


def make_key() -> str:
    """A key with 192 bits of chance."""
    return f"tw-{secrets.token_urlsafe(24)}"


def key_from(given: str | None) -> tuple[str, bool]:
    """The key to ask for, and whether it was made here and must be told: the one given, TUNEWISE_SERVE_KEY, or a new one.

    The variable is taken out of this process's environment, so that no worker started from here inherits it.
    """
    inherited = os.environ.pop(VARIABLE, None)
    key = given if given is not None else inherited
    if key is None:
        return make_key(), True
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SpecError("The key can't be sent in a header", "Use letters, digits and signs of ASCII, without spaces.")
    return key, False
