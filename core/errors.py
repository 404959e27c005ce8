"""Faults that a user can mend. Everything else is a bug and is left to surface.

Knows nothing of pages or the command line: both show ``message`` and ``hint`` whole.
"""

from __future__ import annotations

from collections.abc import Mapping


class UserError(Exception):
    """A fault in the user's input, with a way out.

    ``message`` names what is wrong and where (file, line, row or field), in one line;
    ``hint`` says what to do about it. The command line exits with 2 on it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputFileError(UserError):
    """A file that can't be read as what it was given for."""


class UnnamedColumnsError(InputFileError):
    """A table of which no column goes by a known name of a text or of its answer; ``columns`` are all it has.

    ``likely``: column → field as the cells tell, if they do.
    """

    def __init__(self, message: str, hint: str, columns: tuple[str, ...], likely: Mapping[str, str] | None = None) -> None:
        super().__init__(message, hint)
        self.columns = columns
        self.likely = dict(likely or {})


class ConflictError(UserError):
    """Somebody else wrote the same thing a moment before."""


class NotFoundError(UserError):
    """A dataset, version, run, evaluation, template, model or job that isn't there."""


class SpecError(UserError):
    """A specification (training, recipe, template) with one or more faults; ``faults`` lists them all."""

    def __init__(self, message: str, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.faults = faults


class ModelError(UserError):
    """A model that can't be found, fetched or loaded."""


class MissingDependencyError(UserError):
    """An optional library or program that an action needs."""
