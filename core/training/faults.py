"""What of a spec is only told by its model's files and its data's rows: layers that are not there, rows that do not fit.

A model that isn't on this machine yet is left to the training. Answers on rows are kept, since versions don't change. No torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow.compute as pc

from core.errors import UserError
from core.models.catalogue import list_models
from core.models.tokenizer import load_tokenizer
from core.prompts.examples import Dropped, Example
from core.prompts.templates import find_template
from core.records import DatasetUse, ModelRef, TrainSpec
from core.settings import get_settings
from core.store.datasets import get_dataset, get_version, read_rows
from core.training.data import dev_examples, example_of, within_context

LOOKED = 1000
"""Rows of a dataset, the shortest, that are tried before none is said to fit."""
_EVERYWHERE = ("lm_head",)
"""Layers that a model has without weights of their own, where its head is tied to its embeddings."""


def model_folder(model: ModelRef) -> Path | None:
    """Where a model lies, if it needs no download to be read."""
    if model.source == "path":
        return Path(model.name)
    entries = (entry for entry in list_models() if (entry.ref.source, entry.ref.name) == (model.source, model.name))
    return next((entry.folder for entry in entries if entry.ready), None)


def layer_faults(spec: TrainSpec) -> list[str]:
    """Names in ``target_modules`` that no layer of the model has; none where its weights can't be asked."""
    folder = model_folder(spec.model)
    if spec.method == "full" or not spec.target_modules or folder is None:
        return []
    layers = _layers(tuple((path, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors"))))
    if not layers or any(".experts." in f".{layer}." for layer in layers):  # experts are put together as they are loaded
        return []
    names = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
    faults = []
    for wanted in spec.target_modules:
        if wanted in _EVERYWHERE or any(f".{layer}".endswith(f".{wanted}") for layer in layers):
            continue
        near = difflib.get_close_matches(wanted, names, n=1)
        said = f", did you mean {near[0]!r}?" if near else "."
        ways = f"Its layers: {', '.join(names)}; leave target_modules out to take all of its blocks"
        faults.append(f"target_modules: the model has no layer {wanted!r}{said} {ways}")
    return faults


def length_faults(spec: TrainSpec, places: list[tuple[str, DatasetUse]]) -> list[str]:
    """Datasets of which not one row can be trained on (or looked at, for ``dev``), e.g. by a ``max_length`` too short for them.

    ``places``: the uses that are there, each with its key. None where template or model can't be read yet.
    """
    try:
        template = find_template(spec.template)
        folder = model_folder(spec.model)
        if folder is None or not (folder / "config.json").is_file():
            return []
        load_tokenizer(spec.model)
    except UserError:
        return []
    faults = []
    for place, use in places:
        version = get_version(use.dataset, use.version)
        asked = spec.model_copy(update={"name": "", "template": template.ref, "data": (use,), "dev": None})
        kept = asked.model_dump_json(include=_DECIDING)
        stamp = (str(get_settings().workspace.absolute()), get_settings().database, str(version.created_at))
        use = use.model_copy(update={"version": version.number})
        if fault := _length_fault(kept, use.model_dump_json(), place == "dev", spec.eval_rows, stamp):
            faults.append(fault if fault.startswith("max_length") else f"{place}: {fault}")
    return faults


_DECIDING = {"data", "model", "template", "max_length", "overflow", "loss_on", "turns"}


@lru_cache(maxsize=128)
def _length_fault(kept: str, use_json: str, dev: bool, eval_rows: int, stamp: tuple[str, ...]) -> str:
    """What is wrong with all rows that are tried; empty when one can be used. ``stamp``: which workspace's version it is."""
    asked, use = TrainSpec.model_validate_json(kept), DatasetUse.model_validate_json(use_json)
    spec = within_context(asked)
    where = f"{use.dataset!r} v{use.version}, split {use.split!r},"
    needed: list[int] = []
    reason = ""
    if dev:
        spec = spec.model_copy(update={"eval_rows": eval_rows})
        for _, prompt, gold in dev_examples(use, spec, find_template(spec.template), load_tokenizer(spec.model)):
            if len(prompt) + len(gold) <= spec.max_length:
                return ""
            needed.append(len(prompt) + len(gold))
        reason = "its rows have no answer"
    else:
        for made in _shortest(spec, use):
            if isinstance(made, Example):
                return ""
            needed += [made.tokens] if made.tokens else []
            reason = reason or made.reason
    if not needed:
        return f"not one row of {where} can be used: {reason}" if reason else ""
    way = "" if dev or spec.overflow != "drop" else ", or let longer rows be shortened (`overflow: shorten_input`)"
    most = f"{spec.max_length:,} tokens"
    if spec.max_length < asked.max_length:
        most, give = f"the {most} that the model reads", "take a model that reads more"
    else:
        give = "give at least that"
    return f"max_length: not one row of {where} fits into {most}; the shortest needs {min(needed):,}: {give}{way}"


def _shortest(spec: TrainSpec, use: DatasetUse) -> Iterator[Example | Dropped]:
    """The shortest rows of a use, made into what is trained on."""
    table = read_rows(use.dataset, use.version, split=use.split, limit=use.limit)
    texts = [pc.fill_null(pc.utf8_length(table[name]), 0) for name in ("instruction", "input", "output", "messages")]
    lengths = texts[0]
    for more in texts[1:]:
        lengths = pc.add(lengths, more)
    places = pc.sort_indices(lengths)[:LOOKED]
    template, tokenizer, elements = find_template(spec.template), load_tokenizer(spec.model), get_dataset(use.dataset).elements
    for place in places.to_pylist():
        [row] = table.slice(place, 1).to_pylist()
        yield example_of(row, spec, template, tokenizer, elements)


@lru_cache(maxsize=16)
def _layers(files: tuple[tuple[Path, int], ...]) -> frozenset[str]:
    """Names of the layers whose weights are matrices; none where a file can't be read."""
    from safetensors import SafetensorError, safe_open

    found = set()
    try:
        for path, _ in files:
            with safe_open(path, framework="numpy") as weights:
                found |= {
                    key.removesuffix(".weight")
                    for key in weights.keys()  # noqa: SIM118  (not a mapping)
                    if key.endswith(".weight") and len(weights.get_slice(key).get_shape()) == 2
                }
    except (OSError, SafetensorError):
        return frozenset()
    return frozenset(found)
