"""Counting tokens against the tokenizer's own bare batches and against ``datasets.map``, in one run.

    python bench/tokenise.py [--rows 1000000] [--places]

Rows of about 60 characters (instruction, input and output together), half Chinese, half English, are stored as a
dataset; ``measure`` counts prompt and answer of every row with the chat template and the default tokenizer. After
each of its chunks the baselines run on rows of that chunk, so that all meet the same load of the machine:

- bare: ``encode_batch_fast`` on the rows' own texts, one text a row, no template around them, in the same batches (all rows);
- rendered: ``encode_batch_fast`` on the rendered rows (a part of the rows);
- map: ``datasets.map`` row by row on the rows' own texts with the transformers tokenizer (a part of the rows).

Then a second template, a second visit and (``--places``) the truncation slider. Prints rates, ratios, peak memory.
Exits 1 when the rate is under 0.9 of bare or 2.5 of map, memory over 2 GB, the second visit over 1 s, the slider 300 ms.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa

from core.lengths import measure
from core.lengths.measuring import CHUNK, COLUMNS
from core.lengths.places import places
from core.lengths.truncation import POLICIES, Truncation
from core.models.tokenizer import load_tokenizer
from core.prompts.control import backend
from core.prompts.render import render
from core.prompts.templates import find_template
from core.records import Dataset, ModelRef, SilentReporter, Version
from core.store import datasets as store
from core.store import schema

WORDS = [
    "the",
    "of",
    "company",
    "moved",
    "to",
    "London",
    "Paris",
    "invoice",
    "paid",
    "March",
    "Ann",
    "Lee",
    "Smith",
    "Ltd",
    "receipt",
    "order",
    "bank",
    "store",
    "signed",
    "near",
]
HAN = "高勇男中国籍无境外居留权公司职务董事长北京上海本科学历工程师姓名机构年月日任职起于担"
SAMPLED = 2_500
"""Rows of each chunk on which the slow baselines run."""


def make(count: int) -> None:
    """Write the dataset; in a process of its own, so that its memory isn't counted."""
    pick = random.Random(7)

    def text(number: int) -> str:
        return " ".join(pick.choices(WORDS, k=5)) + f" {number}" if number % 2 else "".join(pick.choices(HAN, k=24)) + str(number)

    columns: dict[str, Any] = {
        "row_id": [f"b-{n:07d}" for n in range(count)],
        "instruction": ["Extract"] * count,
        "input": [text(n) for n in range(count)],
        "output": [f'{{"name":["{pick.choice(WORDS)}"]}}' for _ in range(count)],
        "messages": pa.nulls(count, pa.large_string()),
        "split": ["train"] * count,
        "source": ["bench"] * count,
        "line": list(range(count)),
        "extra": pa.nulls(count, pa.large_string()),
    }
    rows = pa.table(columns).cast(schema.ROWS)
    store.save_version(Dataset(name="bench"), Version(dataset="bench", number=1, rows=count, content_hash="bench"), rows)


class Baselines(SilentReporter):
    """Runs the baselines on a chunk whenever one has been counted, and keeps their time apart."""

    def __init__(self, rows: pa.Table) -> None:
        from datasets import disable_caching, disable_progress_bars

        disable_caching()
        disable_progress_bars()
        self.rows, self.tokenizer, self.template = rows, load_tokenizer(ModelRef()), find_template("chat")
        self.engine = backend(self.tokenizer)
        self.seconds = {"bare": 0.0, "rendered": 0.0, "map": 0.0}
        self.counted = dict.fromkeys(self.seconds, 0)
        self.apart = 0.0

    def progress(self, done: int, total: int, *, unit: str = "rows", message: str = "") -> None:
        began = time.perf_counter()
        start = (done - 1) // CHUNK * CHUNK
        listed = self.rows.slice(start, done - start).to_pylist()
        own = [f"{r['instruction']}\n{r['input']}\n{r['output']}" for r in listed]
        self._batches("bare", own)
        made = [render(self.template, row, tokenizer=self.tokenizer) for row in listed[:SAMPLED]]
        self._batches("rendered", [m.prompt + m.answer for m in made])
        self._map(own[:SAMPLED])
        self.apart += time.perf_counter() - began

    def _batches(self, name: str, texts: list[str], size: int = 2_000) -> None:
        began = time.perf_counter()
        for start in range(0, len(texts), size):
            self.engine.encode_batch_fast(texts[start : start + size], add_special_tokens=False)
        self._add(name, began, len(texts))

    def _map(self, texts: list[str]) -> None:
        from datasets import Dataset as Table

        table = Table.from_dict({"text": texts})
        began = time.perf_counter()
        table.map(lambda row: {"input_ids": self.tokenizer(row["text"], add_special_tokens=False)["input_ids"]})
        self._add("map", began, len(texts))

    def _add(self, name: str, began: float, count: int) -> None:
        self.seconds[name] += time.perf_counter() - began
        self.counted[name] += count

    def rate(self, name: str) -> float:
        """Rows per second."""
        return self.counted[name] / self.seconds[name]


def timed(work: Any) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def busy(work: Any) -> tuple[float, float]:
    """Seconds of a call, and of processor time, which other work on the machine hardly changes."""
    began = time.process_time()
    seconds, _ = timed(work)
    return seconds, time.process_time() - began


def bare_pieces(rows: pa.Table, tokenizer: Any, write: Any) -> float:
    """Processor seconds of the tokenizer alone on the new texts of a template, one a row."""
    engine = backend(tokenizer)
    texts = [write(row) for row in rows.select(["instruction", "input"]).to_pylist()]

    def encode() -> None:
        for start in range(0, len(texts), 2_000):
            engine.encode_batch_fast(texts[start : start + 2_000], add_special_tokens=False)

    return busy(encode)[1]


def slider(chat: Any) -> float:
    """Median seconds of all policies at one length, after the places are known."""
    seconds, found = timed(lambda: places("bench", 1, chat))
    print(f"places of values, once     {seconds:8.1f} s")
    seconds, truncation = timed(lambda: Truncation(measure("bench", 1, chat), found))
    print(f"arrays of the slider       {seconds:8.3f} s")
    lengths = (40, 50, 60, 70, 80)
    taken = [timed(lambda n=n: [truncation.simulate(n, policy) for policy in POLICIES])[0] for n in lengths]
    worst = max(timed(lambda p=p: truncation.simulate(60, p))[0] for p in POLICIES)
    every = statistics.median(taken)
    print(f"slider, one policy         {worst * 1000:8.1f} ms; all {len(POLICIES)} policies {every * 1000:.1f} ms")
    return worst


def main() -> int:
    """Run everything; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--places", action="store_true", help="the truncation slider too (minutes)")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.rows)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNEWISE_WORKSPACE"] = folder
        subprocess.run([sys.executable, __file__, "--make", "--rows", str(options.rows)], check=True)
        return run(options.rows, options.places)


def run(count: int, with_places: bool) -> int:
    """The comparison over the stored dataset."""
    rows = store.read_rows("bench", 1, columns=COLUMNS)
    chat = find_template("chat")
    baselines = Baselines(rows)
    seconds, table = timed(lambda: measure("bench", 1, chat, reporter=baselines))
    ours = count / (seconds - baselines.apart)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    again, _ = timed(lambda: measure("bench", 1, chat)["whole"].to_numpy().sum())
    shared, _ = timed(lambda: measure("bench", 1, find_template("chat-zh")))
    new, new_busy = busy(lambda: measure("bench", 1, find_template("json-en")))
    alone = bare_pieces(rows, baselines.tokenizer, lambda r: f"user\nTask: {r['instruction']}\nText:\n{r['input']}")
    cores = os.cpu_count()
    print(f"{count:,} rows on {cores} cores, load {os.getloadavg()[0]:.1f}, {table['whole'].to_numpy().sum():,} tokens rendered")
    print(f"measure                    {ours:8,.0f} rows/s, peak memory {memory:.2f} GB (baselines included)")
    for name, label in {"bare": "bare, own texts", "rendered": "bare, rendered rows", "map": "datasets.map row by row"}.items():
        rate = baselines.rate(name)
        print(f"{label:26} {rate:8,.0f} rows/s on {baselines.counted[name]:,} rows: measure is {ours / rate:.2f} times as fast")
    print(f"second visit               {again:8.3f} s")
    print(f"second template, shared    {shared:8.1f} s (chat-zh: every varying piece is known)")
    words = f"{new_busy:.0f} s of processor time, {new_busy / alone:.2f} times the tokenizer alone on its new texts"
    print(f"second template, new user  {new:8.1f} s (json-en: only the answer is known; {words})")
    worst = slider(chat) if with_places else 0.0
    good = ours >= 0.9 * baselines.rate("bare") and ours >= 2.5 * baselines.rate("map")
    return 0 if good and memory < 2 and again < 1 and worst < 0.3 else 1


if __name__ == "__main__":
    sys.exit(main())
