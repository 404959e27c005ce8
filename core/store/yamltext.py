"""YAML that people write: recipes, templates, specs. Knows nothing of what it says."""

from __future__ import annotations

from typing import Any

import yaml

from core.errors import SpecError


def read_yaml(text: str, where: str, hint: str) -> Any:
    """The value of a YAML (or JSON) text. SpecError that says where and why it is none: ``where`` begins the sentence."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else problem or " ".join(str(error).split())
        raise SpecError(f"{where} is no YAML: {reason}{place}", hint) from error
