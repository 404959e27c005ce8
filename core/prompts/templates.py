"""Templates: the built-in ones, the stored ones, their versions, YAML and what can be wrong with one.

Knows nothing of rows and tokenizers: ``render`` puts a template, a row and a tokenizer together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import TemplateSyntaxError
from pydantic import ValidationError

from core.errors import InputFileError, NotFoundError, SpecError
from core.prompts.sandbox import Text, compile_text, syntax_fault
from core.records import Template
from core.store import runs as store
from core.store.files import check_name
from core.store.yamltext import read_yaml

PARTS = ("system", "user", "answer")
VARIABLES = frozenset({"instruction", "input", "elements", "shots", "passages", "extra"})
"""What ``system`` and ``user`` may read; ``answer`` may read ``output`` too. ``passages``: what an arm retrieved, else empty."""
_NOT_TEXT = {"created_at", "schema_version", "name", "version", "language", "description"}


@lru_cache(maxsize=1)
def builtin_templates() -> tuple[Template, ...]:
    """The templates that come with Tunewise, ``chat`` first, then by name."""
    texts = [
        f.read_text(encoding="utf-8") for f in files("core.prompts").joinpath("builtin").iterdir() if f.name.endswith(".yaml")
    ]
    return tuple(sorted((parse_template(text) for text in texts), key=lambda t: (t.name != "chat", t.name)))


def list_templates() -> list[Template]:
    """Built-in and stored templates, every version once, built-in names first, versions ascending."""
    found = {t.ref: t for t in builtin_templates()}
    found.update((t.ref, t) for t in store.list_templates())
    order = {t.name: place for place, t in enumerate(builtin_templates())}
    return sorted(found.values(), key=lambda t: (order.get(t.name, len(order)), t.name, t.version))


def find_template(ref: str) -> Template:
    """The template ``name@version``, or the newest version of ``name``; NotFoundError if there is none."""
    name, _, version = ref.partition("@")
    versions = [t for t in list_templates() if t.name == name and (not version or str(t.version) == version)]
    if not versions:
        names = ", ".join(dict.fromkeys(t.name for t in list_templates()))
        raise NotFoundError(f"There is no template {ref!r}", f"Templates here: {names}. `name@version` names one version.")
    return versions[-1]


def save_as_next_version(template: Template) -> Template:
    """Store a template under its name; a text that differs from every version there becomes the next version."""
    check_name(template.name, "template name")
    check_texts(template)
    versions = [t for t in list_templates() if t.name == template.name]
    for old in versions:
        if text_hash(old) == text_hash(template):
            return old
    number = 1 + max((t.version for t in versions), default=0)
    return store.save_template(template.model_copy(update={"version": number}))


def text_hash(template: Template) -> str:
    """Hash of all that decides what a template writes; equal texts under two names have the same."""
    content = template.model_dump(mode="json", exclude=_NOT_TEXT)
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def part(template: Template, name: str) -> Text:
    """One of ``PARTS``, compiled; SpecError naming template, part and line."""
    source: str = getattr(template, name)
    try:
        return compile_text(source)
    except TemplateSyntaxError as error:
        raise syntax_fault(f"Template {template.ref}, {name}", error) from error


def check_texts(template: Template) -> None:
    """SpecError with every fault of the texts: syntax, unknown variables, the answer inside the prompt."""
    faults: list[SpecError] = []
    for name in PARTS:
        try:
            unknown = part(template, name).names - VARIABLES - ({"output"} if name == "answer" else frozenset())
        except SpecError as error:
            faults.append(error)
            continue
        where = f"Template {template.ref}, {name}"
        if "output" in unknown:
            hint = "`output` is the gold answer: it belongs into the answer text only."
            faults.append(SpecError(f"{where}: `output` can't stand in the prompt", hint))
        for missing in sorted(unknown - {"output"}):
            hint = f"Variables: {', '.join(sorted(VARIABLES))}, and in the answer output. Other columns: extra.NAME."
            faults.append(SpecError(f"{where}: there is no variable {missing!r}", hint))
    if not faults and "output" not in part(template, "answer").names:
        faults.append(SpecError(f"Template {template.ref}, answer: it does not write the output", "Write {{ output }} into it."))
    if faults:
        raise SpecError(faults[0].message, faults[0].hint, tuple(fault.message for fault in faults))


def uses_shots(template: Template) -> bool:
    """Whether the texts place the worked examples themselves."""
    return any("shots" in part(template, name).names for name in ("system", "user"))


def uses_passages(template: Template) -> bool:
    """Whether the texts have a place for retrieved passages."""
    return any("passages" in part(template, name).names for name in ("system", "user"))


def names_elements(template: Template, elements: Sequence[str]) -> bool:
    """Whether the prompt says what to extract by itself: it has a place for the dataset's elements, or writes one of them."""
    if any("elements" in part(template, name).names for name in ("system", "user")):
        return True
    return any(element in text for element in elements for text in (template.system, template.user))


def dump_template(template: Template) -> str:
    """A template as YAML, texts as blocks."""
    content: dict[str, Any] = template.model_dump(mode="json", exclude={"created_at", "schema_version"})
    return yaml.dump(content, Dumper=_Blocks, allow_unicode=True, sort_keys=False, width=1_000_000)


def parse_template(text: str, where: str = "The template") -> Template:
    """A template out of YAML; SpecError naming unknown keys and wrong values, texts checked."""
    content = read_yaml(text, where, "Export one with `templates --show NAME` to see the form.")
    if not isinstance(content, dict):
        raise SpecError(f"{where} is not a mapping of name, kind, system, user, answer", "Export one to see the form.")
    try:
        template = Template.model_validate(content)
    except ValidationError as error:
        faults = tuple(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        keys = ", ".join(k for k in Template.model_fields if k not in {"created_at", "schema_version"})
        raise SpecError(f"{where}: {faults[0]}", f"Keys: {keys}.", faults) from error
    check_texts(template)
    return template


def import_template(path: Path) -> Template:
    """Read a template out of a YAML file and store it, as the next version if its name is taken."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} can't be read as a template", "Give a YAML file in UTF-8.") from error
    return save_as_next_version(parse_template(text, str(path)))


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as literal blocks."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _write_text)
