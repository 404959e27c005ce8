"""A model's own code: off unless somebody has looked at it and said yes, to these very files of this revision.

Some models bring Python files that transformers would run (``trust_remote_code``). Here they are shown first (names, sizes,
checksums, text), trusted by the checksum of all of them together, and kept beside the weights of the revision that was
shown. Other files, or another revision, ask again. A process keeps code that it has loaded until it ends: taken back, or
trusted in another version, it is refused or the new one is run, never the old one in its name. Imports no torch; knows
nothing of loading.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from core.errors import ModelError
from core.models import hub, remote
from core.models.weights import model_config
from core.records import ModelRef, Record, now
from core.settings import get_settings
from core.store.files import atomic_file, write_json

MOST_BYTES = 2_000_000
"""Of one file; no model's code comes near."""


@dataclass(frozen=True)
class CodeFile:
    """A Python file of a model. ``entry``: transformers begins with it; the others may be imported by it."""

    path: str
    content: bytes
    entry: bool

    @property
    def sha256(self) -> str:
        """Checksum of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """What it says."""
        return self.content.decode("utf-8", "replace")


@dataclass(frozen=True)
class ModelCode:
    """All code of a model at a revision (empty for a folder). ``digest`` stands for exactly these files."""

    ref: ModelRef
    revision: str
    files: tuple[CodeFile, ...]

    @property
    def digest(self) -> str:
        """One checksum of all names and contents, short enough to be typed."""
        return _digest((file.path, file.content) for file in self.files)


class Trust(Record):
    """That somebody trusted a model's code: which, at which revision, and when."""

    digest: str
    revision: str
    files: tuple[str, ...]
    at: datetime


def code_of(ref: ModelRef) -> ModelCode:
    """The code of a model, read from its folder or fetched from its hub; nothing of it is run.

    ModelError: it has none, or its code lies in another repository.
    """
    if ref.source == "path":
        folder = Path(ref.name)
        config, revision = model_config(folder), ""
        contents = {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    elif ref.source in ("hub", "modelscope"):
        contents, revision = remote.fetch_texts(
            _pinned(ref), lambda name: name.endswith(".py") or name == "config.json", MOST_BYTES
        )
        config = json.loads(contents.pop("config.json", b"{}"))
    else:
        raise ModelError(f"{ref.label} has no code of its own", "There is nothing to trust.")
    entries = _entries(config, ref)
    files = tuple(CodeFile(name, content, name in entries) for name, content in sorted(contents.items()))
    if not entries or not files:
        raise ModelError(f"{ref.label} has no code of its own", "There is nothing to trust: load it as it is.")
    return ModelCode(ref, revision, files)


def trust(ref: ModelRef, digest: str) -> ModelCode:
    """Let a model's code run from now on, if it is still the code of ``digest``; ModelError where it isn't."""
    found = code_of(ref)
    if found.digest != digest:
        raise ModelError(
            f"The code of {ref.label} is not the one of {digest}: it is {found.digest} now",
            "Look at it again before you trust it.",
        )
    for file in found.files:
        with atomic_file(_store(digest) / file.path) as temporary:
            temporary.write_bytes(file.content)
    kept = Trust(digest=digest, revision=found.revision, files=tuple(f.path for f in found.files), at=now())
    write_json(_record(ref), kept.model_dump(mode="json"))
    return found


def distrust(ref: ModelRef) -> None:
    """Take it back."""
    _record(ref).unlink(missing_ok=True)


def trusted(ref: ModelRef) -> Trust | None:
    """What was trusted of a model; none if nothing was."""
    path = _record(ref)
    return Trust.model_validate(json.loads(path.read_text("utf-8"))) if path.is_file() else None


def prepare(ref: ModelRef, folder: Path) -> Path | None:
    """Where to load a model from so that its code runs, exactly as it was trusted; none where nothing was trusted.

    That is ``folder`` under a name of these files' own: transformers keeps classes by the folder's name until the process
    ends, and would run those of another version. ModelError where the folder's code is not (or no longer) the trusted one.
    """
    said = trusted(ref)
    if said is None:
        return None
    for name in said.files:
        if not (folder / name).is_file() and ref.source != "path":
            with atomic_file(folder / name) as temporary:
                temporary.write_bytes((_store(said.digest) / name).read_bytes())
    there = _digest((path.name, path.read_bytes()) for path in sorted(folder.glob("*.py")))
    if there != said.digest:
        raise ModelError(
            f"The code of {ref.label} has changed since it was trusted ({said.digest}, now {there})",
            f"Look at it and trust it anew: `python -m core models --code {_text(ref)}`.",
        )
    whole = folder.resolve()
    named = _store(said.digest) / hashlib.sha256(str(whole).encode()).hexdigest()[:8] / f"code-{said.digest}"
    named.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        named.symlink_to(whole, target_is_directory=True)
    return named


def check_classes(kinds: Iterable[type], ref: ModelRef, folder: Path) -> None:
    """ModelError where what was loaded runs other code than the trusted files of ``folder``, or any where none is trusted.

    Code can make itself known to the whole process (``AutoConfig.register``), which then takes it for other models, too.
    """
    allowed = trusted(ref)
    for base in {base for kind in kinds for base in kind.__mro__}:
        if not base.__module__.startswith("transformers_modules."):
            continue
        source = Path(inspect.getfile(base))
        own = folder / source.name
        if allowed is None or not own.is_file() or own.read_bytes() != source.read_bytes():
            raise ModelError(
                f"{ref.label} can't be loaded: this process has loaded another model's or version's own code of the same kind",
                "Restart the server: a process keeps such code until it ends.",
            )


def way_to_trust(ref: ModelRef) -> str:
    """What to do about a model that can't be loaded without its code."""
    return (
        "It needs code of its own, which is not run unless you trust it. Look at it with "
        f"`python -m core models --code {_text(ref)}`, or choose a model of an architecture that transformers knows."
    )


def _pinned(ref: ModelRef) -> ModelRef:
    """The model at the revision that its weights here have, or that was trusted, or that was asked for."""
    revision = hub.local_revision(ref)
    return ref.model_copy(update={"revision": revision}) if revision else ref


def _entries(config: dict[str, object], ref: ModelRef) -> set[str]:
    mapped = config.get("auto_map")
    values = mapped.values() if isinstance(mapped, dict) else ()
    named = [name for value in values for name in (value if isinstance(value, list) else [value]) if name]
    elsewhere = next((str(name) for name in named if "--" in str(name)), None)
    if elsewhere is not None:
        raise ModelError(
            f"The code of {ref.label} lies in another repository ({elsewhere.partition('--')[0]})",
            "It can't be looked at as a whole, so it is not run. Choose another model.",
        )
    return {f"{str(name).rpartition('.')[0]}.py" for name in named}


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    lines = sorted(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _text(ref: ModelRef) -> str:
    text = ref.name if ref.source == "path" else f"{ref.source}:{ref.name}"
    return f"{text} --revision {ref.revision}" if ref.revision else text


def _record(ref: ModelRef) -> Path:
    mark = hashlib.sha256(f"{ref.source} {ref.name} {ref.revision or ''}".encode()).hexdigest()[:16]
    return get_settings().model_cache.absolute() / "trusted" / f"{mark}.json"


def _store(digest: str) -> Path:
    return get_settings().model_cache.absolute() / "trusted" / digest
