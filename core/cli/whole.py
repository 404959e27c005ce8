"""The command ``demo``: the whole way on the bundled data, printed as it goes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.common import AsJson, emit, say, table


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    app.command("demo")(demo)


def demo(
    as_json: AsJson = False,
    load: Annotated[bool, typer.Option("--load", help="Only import the bundled datasets that aren't here yet.")] = False,
) -> None:
    """Walk the whole way on the bundled data: import, clean, lengths, prompt, QLoRA, compare."""
    from core.demo import load_samples, run_demo

    if load:
        added = load_samples()
        emit({"imported": added}, as_json, f"Imported: {', '.join(added)}" if added else "The samples are here already.")
        return
    result = run_demo(say if as_json else print, _progress())
    emit(result, as_json, _report(result))


def _progress() -> Any:
    from core.cli.progress import printer

    return printer()


def _report(result: dict[str, Any]) -> list[str]:
    """The table that ends a demo: base with prompt against LoRA, with intervals."""

    def cell(scores: dict[str, Any], key: str) -> str:
        value = scores["micro"]["f1"] if key == "micro_f1" else scores.get(key)
        text = "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
        interval = scores.get("intervals", {}).get(key)
        return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else text

    rows = []
    for key, label in (
        ("micro_f1", "micro-F1 ↑"),
        ("exact_match", "exact match ↑"),
        ("bleu", "BLEU ↑"),
        ("perplexity", "perplexity of gold ↓"),
        ("tokens_per_request", "tokens per request ↓"),
    ):
        d = result["difference"].get(key)
        change = f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" if d else ""
        rows.append((label, cell(result["base"], key), cell(result["lora"], key), change))
    return ["", *table(("", "base prompt", "LoRA", "difference (95 %)"), rows), f"Took {result['seconds']:.0f} s."]
