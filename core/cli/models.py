"""The command ``models``: what can be loaded or asked here, fetching by name, endpoints, and a model's own code."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table
from core.errors import SpecError


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("models")(models)


def models(
    fetch: Annotated[
        str | None, typer.Option(help="Put this model on this machine: default, hub:org/name or modelscope:org/name.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of it.")] = None,
    remove: Annotated[str | None, typer.Option(help="Take this downloaded model off this machine, whole or half.")] = None,
    code: Annotated[
        str | None, typer.Option(help="Show the Python files that this model would run, without running them.")
    ] = None,
    trust: Annotated[
        str | None, typer.Option(help="With --code: let them run from now on; the checksum that --code shows.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Keep an OpenAI-like endpoint under this name; ask it as endpoint:NAME.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Its address, e.g. https://api.example.com/v1.")] = None,
    serves: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds its key; the key itself is kept nowhere.")
    ] = "TUNEWISE_ENDPOINT_KEY",
    price_in: Annotated[float | None, typer.Option(min=0, help="Price of a million prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Price of a million answer tokens.")] = None,
    forget: Annotated[str | None, typer.Option(help="Forget this endpoint.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models on this machine, with size and licence, and the endpoints; --fetch adds a model."""
    from core.models.catalogue import parse_model, resolve
    from core.records import NamedEndpoint
    from core.store.endpoints import delete_endpoint, save_endpoint

    if code is not None:
        _code(code, revision, trust, as_json)
        return
    if trust is not None:
        raise SpecError("--trust says which code of which model", "Add --code MODEL.")
    if fetch is not None:
        say(str(resolve(parse_model(fetch, revision=revision), say)))
    if remove is not None:
        from core.models.hub import remove_model

        say(f"{remove_model(parse_model(remove, revision=revision)) / 1e6:,.0f} MB are free again")
    if endpoint is not None:
        if not url or not serves:
            raise SpecError("An endpoint needs its address and the name of its model", "Add --url URL --serves MODEL.")
        save_endpoint(
            NamedEndpoint(name=endpoint, url=url, model=serves, key_variable=key_variable, price_in=price_in, price_out=price_out)
        )
    if forget is not None:
        delete_endpoint(forget)
    _list(as_json)


def _list(as_json: bool) -> None:
    from core.models.catalogue import list_models, list_unfinished
    from core.store.endpoints import list_endpoints

    found, half, endpoints = list_models(), list_unfinished(), list_endpoints()
    rows = [
        (m.text, "ready" if m.ready else "not made yet", f"{m.bytes / 1e6:,.0f} MB" if m.ready else "", m.license, str(m.folder))
        for m in found
    ]
    rows += [(m.text, "not whole: --fetch goes on", f"{m.bytes / 1e6:,.0f} MB", "", str(m.folder)) for m in half]
    rows += [(f"endpoint:{e.name}", f"asks {e.model}", "", "", e.url) for e in endpoints]
    listed = [
        {"model": m.text, "ready": m.ready, "bytes": m.bytes, "license": m.license, "folder": str(m.folder)}
        for m in [*found, *half]
    ]
    known = [e.model_dump(mode="json", exclude={"schema_version", "created_at"}) for e in endpoints]
    emit({"models": listed, "endpoints": known}, as_json, table(("model", "state", "weights", "licence", "where"), rows))


def _code(model: str, revision: str | None, digest: str | None, as_json: bool) -> None:
    from core.models.catalogue import parse_model
    from core.models.code import code_of, trust, trusted

    ref = parse_model(model, revision=revision)
    found = code_of(ref) if digest is None else trust(ref, digest)
    said = trusted(ref)
    running = said is not None and said.digest == found.digest
    files: list[dict[str, Any]] = [
        {"path": f.path, "bytes": len(f.content), "sha256": f.sha256, "entry": f.entry, "text": f.text} for f in found.files
    ]
    lines = table(("file", "bytes", "sha256"), [(f["path"], f"{f['bytes']:,}", f["sha256"]) for f in files])
    for file in files if digest is None else ():
        lines += ["", f"==> {file['path']}", file["text"].rstrip()]
    at = f" at {found.revision}" if found.revision else ""
    more = f" --revision {revision}" if revision else ""
    way = f"python -m core models --code {model}{more} --trust {found.digest}"
    lines += ["", f"Trusted{at}: it runs when the model is loaded." if running else f"Not trusted{at}. To let it run: {way}"]
    lines += [
        "That holds for exactly these files of this revision. A server keeps code that it has loaded until it is restarted."
    ]
    value = {"model": model, "revision": found.revision, "digest": found.digest, "trusted": running, "files": files}
    emit(value, as_json, lines)
