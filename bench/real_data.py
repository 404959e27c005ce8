"""Prompt against fine-tune on real data, through the command line alone, in a workspace of its own.

    python bench/real_data.py zh_resume --train 400 --test 100 --arms base,qlora

imports a set of ``../shared/datasets``, cleans it with the default recipe, answers the same test rows with each
arm (base prompt, 3 worked examples, LoRA, QLoRA) and prints a Markdown table: micro-F1 with its 95 % interval,
exact match, JSON validity, wall times, and the difference of each arm from the base prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TUNEWISE_REAL_DATA", ROOT.parent / "shared" / "datasets"))


def core(*arguments: str) -> dict[str, Any]:
    """One command of ``python -m core`` with ``--json``; its object, with the seconds it took."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "core", *arguments, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"python -m core {' '.join(arguments)} ended with {done.returncode}")
    return {**json.loads(done.stdout), "wall": time.monotonic() - started}


def prepare(name: str, test: int) -> None:
    """Import the set's files as splits of one dataset, and clean it; split anew where its own test split has too few rows."""
    files = {split: DATA / f"{name}.{split}.jsonl" for split in ("train", "dev", "test")}
    files = {split: path for split, path in files.items() if path.is_file()}
    rows = {split: sum(1 for _ in path.open(encoding="utf-8")) for split, path in files.items()}
    anew = rows["test"] < test
    for split, path in files.items():
        kept = () if anew else ("--split", split)
        found = core("import", str(path), "--name", name, *kept, "--task", "extraction")
        print(f"{name}.{split}: {found['rows']} rows, {found['quarantined']} quarantined", file=sys.stderr)
    core("clean", name)
    if anew:
        share = test / sum(rows.values())
        found = core("split", name, "--dev", "0", "--test", f"{share + 0.01:.3f}")
        print(f"{name}: its {rows['test']} test rows are fewer than {test}, so it was split anew", file=sys.stderr)


def spec(name: str, method: str, options: argparse.Namespace) -> str:
    """A training spec as a YAML (JSON) file; returns its path."""
    value = {
        "name": f"{name}-{method}",
        "model": {"quantisation": "nf4" if method == "qlora" else "none"},
        "data": [{"dataset": name, "split": "train", **({"limit": options.train} if options.train else {})}],
        "template": "chat",
        "method": method,
        "learning_rate": options.learning_rate,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "max_length": options.max_length,
        "save_every": 10_000,
        "lora_dropout": 0.0,
    }
    path = Path(tempfile.mkdtemp()) / f"{method}.yaml"
    path.write_text(json.dumps(value))
    return str(path)


def answer(name: str, arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train if the arm is a method, evaluate; scores and wall times."""
    extra: list[str] = []
    trained = 0.0
    if arm in ("lora", "qlora", "full"):
        run = core("train", spec(name, arm, options), "--wait")
        trained = run["wall"]
        extra = ["--run", run["run"]]
    elif arm.startswith("shots"):
        extra = ["--shots", arm.removeprefix("shots")]
    limit = ["--limit", str(options.test)] if options.test else []
    limit += [] if options.perplexity else ["--no-perplexity"]
    found = core("evaluate", name, "--split", "test", "--template", "chat", *limit, *extra, "--wait")
    return {"arm": arm, "evaluation": found["evaluation"], "train_s": trained, "answer_s": found["wall"], "scores": found}


def main() -> None:
    """Parse the arguments, go the way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--arms", default="base,shots3,lora,qlora")
    parser.add_argument("--train", type=int, default=0, help="rows trained on; 0: all")
    parser.add_argument("--test", type=int, default=100, help="test rows; 0: all there are; more than there are: split anew")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--no-perplexity", dest="perplexity", action="store_false", help="leave the gold answers' perplexity out")
    parser.add_argument("--reports", type=Path, help="folder for an HTML report of each set, rows named but not quoted")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    options = parser.parse_args()
    os.environ.setdefault("TUNEWISE_WORKSPACE", tempfile.mkdtemp(prefix="tunewise-bench-"))
    everything: dict[str, Any] = {}
    for name in options.names:
        prepare(name, options.test)
        arms = []
        for arm in options.arms.split(","):
            arms.append(answer(name, arm, options))
            scores = arms[-1]["scores"]
            print(f"{name} {arm}: micro-F1 {scores['micro']['f1']:.3f}, exact match {scores['exact_match']:.3f}", flush=True)
        page = ["--report", str(options.reports / f"{name}.html"), "--no-texts"] if options.reports else []
        compared = core("compare", *[a["evaluation"] for a in arms], *page) if len(arms) > 1 else None
        everything[name] = {"arms": arms, "compare": compared}
        tested = f", {compared['rows']} test rows" if compared else ""
        print(f"\n{name}: {options.train or 'all'} training rows{tested}, {platform.machine()}")
        print("| arm | micro-F1 | exact match | JSON valid | training s | answering s |\n|---|---|---|---|---|---|")
        for a in arms:
            s = a["scores"].get("scores", a["scores"])
            low, high = s.get("intervals", {}).get("micro_f1", (float("nan"), float("nan")))
            print(
                f"| {a['arm']} | {s['micro']['f1']:.3f} [{low:.3f}, {high:.3f}] | {s['exact_match']:.3f} | {s['json_valid']:.3f} "
                f"| {a['train_s']:.0f} | {a['answer_s']:.0f} |"
            )
        for other in arms[1:]:
            d = core("compare", arms[0]["evaluation"], other["evaluation"])["difference"]["micro_f1"]
            print(
                f"{other['arm']} − {arms[0]['arm']}: {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}], p {d['p']:.2g}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(everything, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
