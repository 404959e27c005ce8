"""Makes the bundled datasets: ``python -m samples.make`` writes the same bytes each time.

    extraction.jsonl       six elements, half Chinese (legal, HR), half English (news, receipts), with seeded dirt
    dirt.json              which row of it (0-based line) carries which kind of dirt, and what it was copied from
    classification.jsonl   intents of requests to an office, in both languages
    conversations.jsonl    several turns about one text each

``--seed`` and ``--to`` make others. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from samples.compose import ELEMENTS, PARTS, Composer, Unlike
from samples.dirt import COPIERS, SPOILERS, Made, dump, to_row

SEED = 20
LANGUAGES = ("zh", "en")
CLEAN_ROWS = {"train": 380, "dev": 50, "test": 100}
"""Clean rows of each split, for each language."""
EMPTY_SHARE = 0.1
FRESH_SHARE = 0.9
"""Share of test and dev values that no row before had."""
LIKENESS_LIMIT = 0.62
INTENT_ROWS = 10
CONVERSATIONS = 30


def clean_rows(composer: Composer, unlike: Unlike) -> list[Made]:
    """One language's clean rows, train first, so that the values of dev and test can be new ones."""
    rows: list[Made] = []
    for split, wanted in CLEAN_ROWS.items():
        empty = round(wanted * EMPTY_SHARE)
        for kind, count in (("full", wanted - empty), ("empty", empty)):
            rows += [fresh_row(composer, unlike, split, kind) for _ in range(count)]
    return rows


def fresh_row(composer: Composer, unlike: Unlike, split: str, kind: str = "full") -> Made:
    """A row that is unlike all others."""
    while True:
        sentence = composer.sentence(kind, fresh=0.0 if split == "train" else FRESH_SHARE)
        if unlike.accept(sentence.text):
            return to_row(composer.remember(sentence), composer.language, split)


def extraction(seed: int) -> list[Made]:
    """All rows of the extraction set, dirt included, shuffled."""
    rng = random.Random(seed)
    composers = {language: Composer(rng, language) for language in LANGUAGES}
    unlike = Unlike(LIKENESS_LIMIT)
    rows = [row for language in LANGUAGES for row in clean_rows(composers[language], unlike)]
    sources = {language: copied_from(rows, language) for language in LANGUAGES}
    for kind, (spoil, count) in SPOILERS.items():
        for turn in range(count):
            composer = composers[LANGUAGES[turn % 2]]
            row = fresh_row(composer, unlike, "train")
            spoil(row, composer, turn)
            row.dirt.append((kind, None))
            rows.append(row)
    for copier, count in COPIERS.values():
        for turn in range(count):
            source = sources[LANGUAGES[turn % 2]]
            rows.append(copier(source.pop(rng.randrange(len(source))), rng, turn))
    rng.shuffle(rows)
    return rows


def copied_from(rows: list[Made], language: str) -> list[Made]:
    """The rows that bad copies are made of: answered rows of train, long enough that a small change stays small."""
    shortest = 18 if language == "zh" else 50
    return [r for r in rows if (r.split, r.language) == ("train", language) and r.output != "{}" and len(r.input) >= shortest]


def dirt_report(rows: list[Made], seed: int) -> dict[str, Any]:
    """What ``dirt.json`` says: counts a kind, and each dirty row's line, kind and, for a copy, the other row's line."""
    line = {id(row): number for number, row in enumerate(rows)}
    found = [
        {"line": number, "kind": kind, **({} if other is None else {"of": line[id(other)]})}
        for number, row in enumerate(rows)
        for kind, other in row.dirt
    ]
    counts = dict(sorted(Counter(str(entry["kind"]) for entry in found).items()))
    return {"file": "extraction.jsonl", "seed": seed, "rows": len(rows), "counts": counts, "dirt": found}


def classification(seed: int) -> list[dict[str, str]]:
    """Requests and their intents: two thirds train, one third test, each label and language alike."""
    rng = random.Random(seed + 1)
    rows: list[dict[str, str]] = []
    for language in LANGUAGES:
        composer, parts, seen = Composer(rng, language), PARTS["classification"][language], set[str]()
        for label in PARTS["classification"]["labels"]:
            for turn in range(INTENT_ROWS):
                text = composer.fill(parts[label][turn % len(parts[label])]).text
                while text in seen:
                    text = composer.fill(parts[label][turn % len(parts[label])]).text
                seen.add(text)
                split = "test" if turn % 3 == 2 else "train"
                row = {"instruction": parts["instruction"], "input": text, "output": label, "split": split}
                rows.append({**row, "language": language})
    rng.shuffle(rows)
    return rows


def conversation(composer: Composer) -> list[dict[str, str]]:
    """A talk about one text: two or three questions, one perhaps on what it doesn't hold, then all of it as JSON."""
    rng, words = composer.rng, PARTS["conversation"][composer.language]
    sentence = composer.sentence()
    messages = [{"role": "system", "content": words["system"]}] if rng.random() < 0.5 else []

    def turn(asked: str, said: str) -> None:
        messages.extend(({"role": "user", "content": asked}, {"role": "assistant", "content": said}))

    turn(rng.choice(words["open"]).format(text=sentence.text), rng.choice(words["ack"]))
    absent = [name for name in ELEMENTS if name not in sentence.elements]
    asked = [*list(sentence.elements)[:2], *(rng.sample(absent, 1) if rng.random() < 0.5 else [])]
    for name in asked:
        values = words["comma"].join(sentence.elements.get(name, []))
        turn(
            rng.choice(words["ask"][name]),
            rng.choice(words["answer"]).format(values=values) if values else rng.choice(words["absent"]),
        )
    turn(rng.choice(words["json"]), dump(sentence.elements))
    if rng.random() < 0.4:
        turn(rng.choice(words["thanks"]), rng.choice(words["bye"]))
    return messages


def conversations(seed: int) -> list[dict[str, Any]]:
    """Several turns each, both languages in turn; one in six is for test."""
    rng = random.Random(seed + 2)
    composers = [Composer(rng, language) for language in LANGUAGES]
    return [
        {"messages": conversation(composers[number % 2]), "split": "test" if number % 6 >= 4 and number % 12 < 6 else "train"}
        for number in range(2 * CONVERSATIONS)
    ]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines, UTF-8, one line feed a row."""
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))


def main(arguments: list[str] | None = None) -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description="Make Tunewise's sample datasets.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args(arguments)
    options.to.mkdir(parents=True, exist_ok=True)
    rows = extraction(options.seed)
    write_lines(options.to / "extraction.jsonl", (row.columns() for row in rows))
    report = dirt_report(rows, options.seed)
    entries = ",\n".join("  " + json.dumps(entry) for entry in report.pop("dirt"))
    head = json.dumps(report, ensure_ascii=False, indent=1).removesuffix("\n}")
    (options.to / "dirt.json").write_bytes(f'{head},\n "dirt": [\n{entries}\n ]\n}}\n'.encode())
    write_lines(options.to / "classification.jsonl", classification(options.seed))
    write_lines(options.to / "conversations.jsonl", conversations(options.seed))
    print(f"{len(rows)} extraction rows, {sum(report['counts'].values())} marks of dirt, seed {options.seed}")


if __name__ == "__main__":
    main()
