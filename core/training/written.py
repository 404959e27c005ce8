"""A spec as people write it: YAML, short forms, ``key=value`` overrides. Knows nothing of which values are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.data.elements import separated_names
from core.errors import SpecError
from core.models.catalogue import parse_model
from core.store.yamltext import read_yaml


def lengthen(values: dict[str, Any]) -> dict[str, Any]:
    """Replace the short forms by what they stand for."""
    if isinstance(values.get("model"), str):
        values["model"] = parse_model(values["model"]).model_dump()
    elif isinstance(values.get("model"), dict) and values["model"].get("source") == "path":
        values["model"] = {**values["model"], "name": str(Path(str(values["model"].get("name", ""))).expanduser().absolute())}
    data = values.get("data")
    if isinstance(data, str | dict):
        data = [data]
    if isinstance(data, list):
        values["data"] = [{"dataset": use} if isinstance(use, str) else use for use in data]
    dev = values.get("dev")
    if isinstance(dev, str):
        values["dev"] = {"dataset": dev, "split": "dev"}
    elif isinstance(dev, dict):
        values["dev"] = {"split": "dev", **dev}
    if values.get("target_modules") == "all-linear":  # peft's name for what is taken without names
        values["target_modules"] = None
    for key in ("target_modules", "report_to"):
        if isinstance(values.get(key), str):
            values[key] = list(separated_names(values[key]))
    for key in ("learning_rate", "weight_decay", "max_grad_norm"):
        if isinstance(values.get(key), str):
            values[key] = _number(values[key])
    return values


def override(values: dict[str, Any], text: str) -> None:
    """Put ``key=value`` into the values; the value is YAML, so that 3, true and [a, b] are what they look like."""
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text!r} has no key and value", "Write it as --set key=value, e.g. --set epochs=3.")
    value = read_yaml(raw, f"--set {key}", "Quote what YAML would read otherwise: --set 'name=\"[1\"'.") if raw.strip() else None
    if isinstance(value, str):
        value = _number(value)
    place: Any = values
    parts = key.strip().split(".")
    if parts[0] == "data" and len(parts) > 1 and parts[1].isdigit() and not isinstance(values.get("data"), list):
        values.update(lengthen({"data": values.get("data")}))
    for part in parts[:-1]:
        place = _inside(place, part, key)
    last = parts[-1]
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise SpecError(f"--set {key}: there is nothing at {last!r}", "Keys inside are written as model.name or data.0.limit.")


def _inside(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list) and part.isdigit() and int(part) < len(place):
        if isinstance(place[int(part)], str):
            place[int(part)] = {"dataset": place[int(part)]}
        return place[int(part)]
    if isinstance(place, dict):
        if isinstance(place.get(part), str):  # a short form that is reached into
            place[part] = lengthen({part: place[part]})[part]
        return place.setdefault(part, {})
    raise SpecError(f"--set {key}: there is nothing at {part!r}", "Keys inside are written as model.name or data.0.limit.")


def _number(text: str) -> Any:
    """``1e-3`` as the number it is meant to be (YAML 1.1 reads it as text)."""
    try:
        return float(text)
    except ValueError:
        return text
