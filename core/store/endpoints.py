"""Endpoints that speak the OpenAI chat protocol, by name: one small file each. A key is never in it."""

from __future__ import annotations

import json

from core.errors import NotFoundError, SpecError
from core.records import NamedEndpoint
from core.store.files import area, check_name, write_json

_AREA = "endpoints"


def save_endpoint(endpoint: NamedEndpoint) -> NamedEndpoint:
    """Keep an endpoint under its name; one of that name is replaced. SpecError: no address, or a key inside it."""
    check_name(endpoint.name, "name of an endpoint")
    check_endpoint(endpoint)
    write_json(area(_AREA, f"{endpoint.name}.json"), endpoint.model_dump(mode="json"))
    return endpoint


def check_endpoint(endpoint: NamedEndpoint) -> None:
    """SpecError: no address, a key inside it, no model, or a key where a variable's name is asked for."""
    if not endpoint.url.startswith(("http://", "https://")):
        raise SpecError(f"{endpoint.url!r} is no address of an endpoint", "Write for example http://localhost:8000/v1.")
    if "@" in endpoint.url or "?" in endpoint.url:
        raise SpecError("The address holds more than an address", "Keep keys out of it: name an environment variable instead.")
    if not endpoint.model.strip():
        raise SpecError("An endpoint needs the name of its model", "Give the name as its provider writes it.")
    if not endpoint.key_variable.isidentifier():
        raise SpecError(
            f"{endpoint.key_variable!r} is no name of an environment variable",
            "Name the variable that holds the key, not the key itself.",
        )


def list_endpoints() -> list[NamedEndpoint]:
    """All endpoints, by name."""
    folder = area(_AREA)
    return [NamedEndpoint.model_validate(json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.json"))]


def get_endpoint(name: str) -> NamedEndpoint:
    """The endpoint of a name; NotFoundError lists those there are."""
    found = {endpoint.name: endpoint for endpoint in list_endpoints()}
    if name not in found:
        known = (
            f"Known: {', '.join(found)}."
            if found
            else "Add it: `python -m core models --endpoint NAME --url URL --serves MODEL`."
        )
        raise NotFoundError(f"There is no endpoint {name!r}", known)
    return found[name]


def delete_endpoint(name: str) -> None:
    """Forget an endpoint."""
    get_endpoint(name)
    area(_AREA, f"{name}.json").unlink(missing_ok=True)
