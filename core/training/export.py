"""Takes a run out of Tunewise: a folder that transformers and vLLM load, with the run's template as its chat template.

The adapter as it is, or merged into whole bf16 weights of the unquantised base, with a report on how the merged weights
answer beside the adapter. Torch is imported where weights are merged.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelError, NotFoundError, UserError
from core.models.catalogue import resolve
from core.models.context import local_folder
from core.models.identity import check_same, identity, kept_identity
from core.models.tokenizer import load_tokenizer, tokenizer_in
from core.prompts.chat import as_served
from core.prompts.render import render
from core.prompts.templates import dump_template
from core.records import Reporter, Run, Template
from core.store.datasets import get_dataset, read_rows
from core.store.files import MANIFEST, atomic_folder, is_complete, write_json, write_text
from core.store.runs import run_folder
from core.training.artefacts import base_of, model_card, result_folder
from core.training.merge_parity import CHECKED_ROWS, PARITY_HEADINGS, base_format, go_on, parity, parity_lines, parity_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHARD = "5GB"
NO_TEMPLATE = "none, nor a tokenizer"
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for ``--max-lora-rank``."""
VLLM_RANK = 16
"""The one that it takes by itself."""
_WRAP = """{%- if messages | selectattr('role', 'equalto', 'user') | list | length == 1 -%}
{%- set instruction = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\n') -%}
{%- set input = messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first -%}
{%- set elements = ELEMENTS -%}{%- set shots = [] -%}{%- set extra = {} -%}
{%- set tunewise_system -%}SYSTEM{%- endset -%}
{%- set tunewise_user -%}USER{%- endset -%}
"""
_CHAT = """{%- set opening = [{'role': 'system', 'content': tunewise_system}] if tunewise_system else [] -%}
{%- set closing = messages | selectattr('role', 'equalto', 'assistant') | list -%}
{%- set messages = opening + [{'role': 'user', 'content': tunewise_user}] + closing -%}
{%- endif -%}
"""
_RAW = """{{- tunewise_system + tunewise_user -}}
{%- for message in messages if message['role'] == 'assistant' -%}{{- message['content'] -}}{%- endfor -%}
{%- else -%}
{%- for message in messages -%}{{- message['content'] + '\\n' -}}{%- endfor -%}
{%- endif -%}"""


def export_run(run: Run, to: Path, reporter: Reporter, *, merge: bool = False, check: int = CHECKED_ROWS) -> dict[str, Any]:
    """Write a finished run to a new folder; returns what is in it: ``folder``, ``kind``, ``chat_template``, ``parity``
    with its finding in ``parity_words``.

    ``merge``: whole bf16 weights instead of the adapter; ``check`` rows of dev (else of train) are then answered by
    adapter, merged weights and merged weights in 4 bits. An adapter needs no base: where another model lies in its place
    by now, ``warning`` says so. UserError: the run isn't finished, the folder is there, or there is no such base to merge with.
    """
    source = result_folder(run)
    if not run.complete or not is_complete(source):
        raise UserError(f"Run {run.name!r} has no finished result", "Wait for its job, or resume it: `python -m core jobs`.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} is there already", "Name a folder that doesn't exist yet.")
    whole = merge or run.spec.method == "full"
    found: dict[str, Any] = {"folder": str(to), "run": run.run_id, "kind": "model" if whole else "adapter"}
    if run.spec.method != "full":
        found |= _base_found(run, source, merge)
    with atomic_folder(to.absolute()) as folder:
        if merge and run.spec.method != "full":
            _write_merged(run, folder, reporter)
        else:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        found["chat_template"] = _write_tokenizer(run, source, folder)
        if whole and run.spec.method != "full" and check > 0:
            found["parity"] = parity(run, folder, check, reporter)
            found["parity_words"] = list(parity_words(found["parity"], base_format(run.spec)))
        write_text(folder / "template.yaml", dump_template(run.template))
        write_json(folder / "tunewise.json", found | {"stop": list(run.template.stop)})
        base = Path(json.loads((source / MANIFEST).read_text("utf-8"))["base"])
        card = model_card(run, base, run.summary, merged=whole and run.spec.method != "full")
        write_text(folder / "README.md", card + _how_to_use(run, found, base_of(run, base)))
    return found


def _base_found(run: Run, adapter: Path, merge: bool) -> dict[str, str]:
    """What to warn of about the base of an adapter. ModelError where it is to be merged with and is gone, or another."""
    alone = "The adapter alone can be exported as it is: without merging it needs no base."
    try:
        folder = resolve(run.spec.model) if merge else local_folder(run.spec.model)
        check_same(kept_identity(adapter), {} if folder is None else identity(folder), f"Run {run.name}")
    except ModelError as error:
        if merge:
            raise ModelError(f"Merging needs the base model. {error.message}", f"{error.hint} {alone}") from error
        return {"warning": f"{error.message}. The adapter belongs on the model that it was trained on."}
    return {}


def export_folder(run: Run, *, merge: bool) -> Path:
    """Where an export lies that nobody named a folder for: inside the run's own."""
    return run_folder(run.run_id) / "exports" / ("model" if merge or run.spec.method == "full" else "adapter")


def read_export(run: Run, *, merge: bool) -> dict[str, Any] | None:
    """What ``export_run`` said of an export in its ``export_folder``; none if there is none."""
    folder = export_folder(run, merge=merge)
    if not is_complete(folder):
        return None
    found: dict[str, Any] = json.loads((folder / "tunewise.json").read_text("utf-8"))
    return found


def served_template(template: Template, tokenizer: PreTrainedTokenizerFast, elements: Sequence[str] = ()) -> str:
    """The chat template that writes a run's prompts: a system message is the instruction, the user's message the input.

    With several user messages, or none, it is the tokenizer's own.
    """
    text = _WRAP.replace("ELEMENTS", json.dumps(list(elements), ensure_ascii=False))
    text = text.replace("SYSTEM", template.system).replace("USER", template.user)
    return text + (_CHAT + str(tokenizer.chat_template) if template.kind == "chat" else _RAW)


def _write_tokenizer(run: Run, source: Path, folder: Path) -> str:
    """Write the tokenizer with the run's chat template, if that gives the run's prompts; says which template it has.

    It is the one that the run kept; an older run kept none beside its adapter, which is written without one if its base is gone.
    """
    try:
        tokenizer = tokenizer_in(source) if (source / "tokenizer.json").is_file() else load_tokenizer(run.spec.model)
    except ModelError as error:
        return f"{NO_TEMPLATE}: the run kept none, and its base can't be read ({error.message})"
    use = run.spec.data[0]
    tokenizer.save_pretrained(folder)
    try:
        elements = get_dataset(use.dataset).elements
        rows = read_rows(use.dataset, use.version, split=use.split, limit=CHECKED_ROWS).to_pylist()
    except NotFoundError:
        return "the tokenizer's own (the rows on which the run's template would be tried were deleted)"
    text = served_template(run.template, tokenizer, elements)
    if not _writes_the_same(text, run.template, rows, tokenizer, elements):
        return "the tokenizer's own (the run's template can't be written as one)"
    write_text(folder / "chat_template.jinja", text)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    if config.pop("chat_template", None) is not None:
        write_json(path, config)
    return run.template.ref


def _writes_the_same(
    text: str,
    template: Template,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    elements: Sequence[str],
) -> bool:
    for row in rows:
        if row.get("messages"):
            continue
        messages = [{"role": "system", "content": row["instruction"]}] if row["instruction"] else []
        messages.append({"role": "user", "content": row["input"]})
        made = as_served(tokenizer, text, messages)
        if made != render(template, row, tokenizer=tokenizer, elements=elements).prompt:
            return False
    return True


def _write_merged(run: Run, folder: Path, reporter: Reporter) -> None:
    """Add the adapter's products to the unquantised base's weights, on the CPU, in bf16 as they are served."""
    import torch
    from peft import PeftModel

    from core.models.load import load_model

    plain = run.spec.model.model_copy(update={"quantisation": "none", "dtype": "bfloat16"})
    reporter.progress(0, 2, unit="steps", message="loading the unquantised base")
    model = load_model(plain, device="cpu").model
    go_on(reporter)
    reporter.progress(1, 2, unit="steps", message="merging")
    adapted = PeftModel.from_pretrained(model, str(result_folder(run)), autocast_adapter_dtype=True)
    _untie(adapted.get_base_model())
    merged = adapted.merge_and_unload(safe_merge=True)
    merged.to(torch.bfloat16).save_pretrained(folder, max_shard_size=SHARD)
    reporter.progress(2, 2, unit="steps", message="merged")


def _untie(model: Any) -> None:
    """Give the head weights of its own where it shares them with the embeddings and an adapter is on one of the two.

    Merged into shared weights, the adapter of the one would act in the other as well.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    inner, head = [layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer for layer in layers]
    if head is None or inner.weight is not head.weight or not any(isinstance(layer, BaseTunerLayer) for layer in layers):
        return
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False


def _how_to_use(run: Run, found: Mapping[str, Any], base: str) -> str:
    lines = [
        "\n## Use",
        f"Chat template: {found['chat_template']}. The system message is the instruction, the user's message the input.",
    ]
    if found["kind"] == "adapter" and run.spec.use_dora:
        lines.append("vLLM doesn't load adapters with DoRA; export the run merged for it.")
    else:
        template = "" if found["chat_template"].startswith(NO_TEMPLATE) else " --chat-template chat_template.jinja"
        lines.append(f"```\n{_serve(run, found['kind'], base)}{template}\n```")
    if "warning" in found:
        lines.append(found["warning"])
    if run.template.stop:
        lines.append(f"Stop at: {', '.join(f'`{text}`' for text in run.template.stop)}.")
    if "parity" in found:
        lines += ["## Parity", *found["parity_words"], "", "| | " + " | ".join(PARITY_HEADINGS) + " |", "|-|-|-|-|-|-|-|"]
        lines += [f"| {' | '.join(line)} |" for line in parity_lines(found["parity"])]
    return "\n".join(lines) + "\n"


def _serve(run: Run, kind: str, base: str) -> str:
    """The command that serves the folder with vLLM, which has to be told of an adapter wider than it expects."""
    if kind == "model":
        return "vllm serve ."
    rank = next((rank for rank in VLLM_RANKS if rank >= run.spec.lora_r), run.spec.lora_r)
    wide = f" --max-lora-rank {rank}" if rank > VLLM_RANK else ""
    return f"vllm serve {shlex.quote(base)} --enable-lora{wide} --lora-modules {shlex.quote(f'{run.name}=.')}"
