"""The command ``serve``: an OpenAI-compatible server for a run."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Literal

import typer

from core.cli.common import AsJson, emit, say


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("serve")(serve)


def serve(
    run: Annotated[str, typer.Argument(help="A finished run, by identifier or name.")],
    also: Annotated[list[str] | None, typer.Option(help="A further run of the same base; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    key: Annotated[
        str | None,
        typer.Option(help="The key that clients must send; else TUNEWISE_SERVE_KEY, else one is made and printed."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or cuda:0; the first there is if left away.")] = None,
    engine: Annotated[Literal["auto", "own", "vllm"], typer.Option(help="vLLM is taken where it is installed.")] = "auto",
    most: Annotated[int, typer.Option(min=1, max=1024, help="Answers under way at once; the next gets 429.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Answer like OpenAI's API: base and fine-tunes as models, with the template of their training. Ctrl-C ends it."""
    from core.serving.clients import curl, example
    from core.serving.keys import key_from
    from core.serving.served import plan_serving
    from core.serving.server import LOOPBACK, Ready
    from core.serving.server import serve as run_server

    warnings.filterwarnings("ignore", category=FutureWarning)  # between libraries, as in a job's log
    plan = plan_serving(run, also or ())
    secret, made = key_from(key)
    if host not in LOOPBACK:
        say(f"Listening on {host}: whoever reaches this machine and has the key can ask, and nothing is encrypted on the way.")
    say(f"Loading {plan.model.label}")

    def ready(state: Ready) -> None:
        server = state.server
        values = {"url": server.url, "models": list(server.models), "engine": state.engine, "pid": server.pid}
        lines = [f"{server.url} answers as {', '.join(server.models)} with the {state.engine}."]
        if state.waits:
            lines.append(f"{state.waits} Until then it answers 503.")
        if made:
            lines.append(f"Key, shown only now: {secret}")
        emit(
            values | ({"key": secret} if made else {}),
            as_json,
            [*lines, "", curl(server.url, server.models[0], plan.instruction, example(server.language, plan.instruction))],
        )
        sys.stdout.flush()

    run_server(plan, secret, host=host, port=port, device=device, engine=engine, most_answers=most, on_ready=ready)
