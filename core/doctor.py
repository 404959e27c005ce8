"""What this machine can do: hardware, libraries with what each would add, disk, the default model.

Looks with ``nvidia-smi``, ``psutil`` and package metadata, so it is quick and never imports torch,
unless a tiny generation is asked for. Changes nothing and makes no workspace. Knows nothing of how
its findings are shown.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from core.errors import UserError
from core.models.default import NAME, default_model_folder, is_converted, packaged_file
from core.records import GenerationSettings, ModelRef, Record
from core.settings import get_settings

State = Literal["ok", "missing", "warning", "fault"]

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
NEEDED = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "evaluate", "streamlit")
OPTIONAL = {
    "flash-attn": (
        "nothing needed: attention without padding uses torch's own flash kernel",
        "pip install flash-attn (needs a CUDA GPU)",
    ),
    "liger-kernel": (
        "quicker training on a GPU: its kernels are used where it is installed",
        "pip install liger-kernel (needs a CUDA GPU)",
    ),
    "vllm": ("`serve` on a GPU, many times faster", "pip install vllm in an environment of its own (needs a GPU)"),
    "ray": (
        "training on several machines, once there is a launch backend for it; none is here yet",
        "pip install 'ray[default]'",
    ),
    "psycopg": ("one PostgreSQL database for a team, by TUNEWISE_DATABASE_URL", "pip install 'psycopg[binary]'"),
}
LOW_DISK_GB = 5.0
LOW_MEMORY_GB = 4.0
_GPU_FIELDS = "index,name,memory.total,memory.used,driver_version,compute_cap,utilization.gpu"


class Finding(Record):
    """One thing that was looked at: its state, what was seen, and what to do if it isn't well."""

    name: str
    state: State
    value: str
    adds: str = ""
    remedy: str = ""


class Gpu(Record):
    """A GPU as nvidia-smi sees it; memory in GB (10^9 bytes)."""

    index: int
    name: str
    memory_gb: float
    free_gb: float
    driver: str
    compute: str
    busy_percent: int | None = None


class Generation(Record):
    """What the default model said, and how fast."""

    text: str
    tokens: int
    load_seconds: float
    tokens_per_second: float


class Report(Record):
    """All findings, and in ``can`` what follows from them in plain sentences."""

    machine: tuple[Finding, ...]
    gpus: tuple[Gpu, ...]
    libraries: tuple[Finding, ...]
    optional: tuple[Finding, ...]
    storage: tuple[Finding, ...]
    model: Finding
    generation: Generation | None = None
    can: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What keeps Tunewise from working as a whole."""
        looked = (*self.machine, *self.libraries, *self.storage, self.model)
        return tuple(f for f in looked if f.state in ("fault", "missing"))


def examine(*, generate: bool = False) -> Report:
    """Look at everything; about a tenth of a second, more where nvidia-smi is slow.

    ``generate`` also lets the default model say something (imports torch; converts the model if need be).
    """
    gpus = list_gpus()
    libraries = needed_libraries(bool(gpus))
    generation = try_generation() if generate else None
    memory = psutil.virtual_memory()
    return Report(
        machine=machine(),
        gpus=gpus,
        libraries=libraries,
        optional=optional_libraries(),
        storage=storage(),
        model=default_model(),
        generation=generation,
        can=capabilities(gpus, memory.available / 1e9, torch_for_gpu=not (version_of("torch") or "").endswith("+cpu")),
    )


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it; None if it isn't there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> tuple[Finding, ...]:
    """Python, processor and memory."""
    memory = psutil.virtual_memory()
    low = memory.available / 1e9 < LOW_MEMORY_GB
    flags = cpu_flags()
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return (
        Finding(name="python", state="ok", value=f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding(
            name="processor",
            state="ok",
            value=f"{os.cpu_count()} cores" + (f", {', '.join(wide)}" if wide else ""),
            adds="bfloat16 in hardware" if "avx512_bf16" in flags or "amx_bf16" in flags else "",
        ),
        Finding(
            name="memory",
            state="warning" if low else "ok",
            value=f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB",
            remedy=f"Training the default model wants {LOW_MEMORY_GB:.0f} GB: close other programs." if low else "",
        ),
    )


def cpu_flags() -> frozenset[str]:
    """What the processor says it can, on Linux; empty elsewhere."""
    try:
        found = re.search(r"^flags\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        return frozenset()
    return frozenset(found.group(1).split()) if found else frozenset()


def list_gpus() -> tuple[Gpu, ...]:
    """All NVIDIA GPUs; empty where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs out of nvidia-smi's CSV (memory there is in MiB); a line it can't make sense of is left out."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 7 or not all(part.isdigit() for part in (parts[0], parts[2], parts[3])):
            continue
        total, used = (int(part) * 2**20 / 1e9 for part in parts[2:4])
        busy = int(parts[6]) if parts[6].isdigit() else None
        gpus.append(
            Gpu(
                index=int(parts[0]),
                name=parts[1],
                memory_gb=round(total, 1),
                free_gb=round(total - used, 1),
                driver=parts[4],
                compute=parts[5],
                busy_percent=busy,
            )
        )
    return tuple(gpus)


def pins() -> dict[str, str]:
    """The exact versions that requirements.txt asks for, by package."""
    if not REQUIREMENTS.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def needed_libraries(has_gpu: bool) -> tuple[Finding, ...]:
    """The libraries that Tunewise can't do without, against the versions it was tested with."""
    wanted = pins()
    return tuple(_needed(name, version_of(name), wanted.get(name), has_gpu) for name in NEEDED)


def _needed(name: str, found: str | None, pin: str | None, has_gpu: bool) -> Finding:
    if found is None:
        return Finding(name=name, state="missing", value="not installed", remedy="Run `make setup`.")
    if name == "torch" and has_gpu and found.endswith("+cpu"):
        remedy = f"Install the CUDA build of torch {found.removesuffix('+cpu')}: this one doesn't see the GPU."
        return Finding(name=name, state="warning", value=found, remedy=remedy)
    if pin is not None and found.partition("+")[0] != pin:
        return Finding(name=name, state="warning", value=found, remedy=f"Tested with {pin}: run `make setup`.")
    return Finding(name=name, state="ok", value=found)


def optional_libraries() -> tuple[Finding, ...]:
    """Libraries that would add something."""
    findings = []
    for name, (adds, how) in OPTIONAL.items():
        found = version_of(name)
        state: State = "ok" if found else "missing"
        findings.append(Finding(name=name, state=state, value=found or "not installed", adds=adds, remedy="" if found else how))
    return tuple(findings)


def storage() -> tuple[Finding, ...]:
    """Where data and models go, and how much room there is; nothing is made."""
    settings = get_settings()
    return (
        _folder("workspace", settings.workspace.absolute(), "TUNEWISE_WORKSPACE"),
        _folder("model cache", settings.model_cache.absolute(), "TUNEWISE_MODEL_CACHE"),
        Finding(name="database", state="ok", value=(settings.database_url or "sqlite").partition(":")[0].partition("+")[0]),
    )


def _folder(name: str, path: Path, variable: str) -> Finding:
    existing = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    value = f"{path}, {free:.0f} GB free"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding(name=name, state="fault", value=f"{path} can't be written", remedy=f"Set {variable} to a folder that can.")
    if free < LOW_DISK_GB:
        return Finding(name=name, state="warning", value=value, remedy=f"Free some space, or set {variable} to a larger disk.")
    return Finding(name=name, state="ok", value=value)


def default_model() -> Finding:
    """Whether the default model is converted, or can be."""
    if is_converted():
        return Finding(name=NAME, state="ok", value=str(default_model_folder()))
    try:
        packaged_file()
    except UserError as error:
        return Finding(name=NAME, state="missing", value=error.message, remedy=error.hint)
    return Finding(name=NAME, state="ok", value="its package is here; the first command that needs it converts it (about 15 s)")


def capabilities(gpus: tuple[Gpu, ...], memory_gb: float, *, torch_for_gpu: bool) -> tuple[str, ...]:
    """What the machine is good for. ``memory_gb`` is the free main memory.

    Sizes are arithmetic, not measurements: weights take 2 bytes a parameter in bfloat16 and about
    0.6 in NF4 with double quantisation (QLoRA, Dettmers et al. 2023, section 3); a quarter of the
    memory is left for activations, adapters and the key-value cache, and 1 GB for the libraries.
    """
    if gpus and torch_for_gpu:
        best = max(gpus, key=lambda gpu: gpu.free_gb)
        room = max(0.0, (best.free_gb - 1.0) * 0.75)
        sentences = [
            f"On {best.name}: answers and LoRA (bfloat16) for models up to about {room / 2:.1f} billion parameters, "
            f"QLoRA (NF4) up to about {room / 0.6:.0f} billion."
        ]
        if len(gpus) > 1:
            sentences.append(f"{len(gpus)} GPUs: training can use several at once, jobs can run side by side.")
        return tuple(sentences)
    room = max(0.0, (memory_gb - 1.0) * 0.75)
    return (
        ("There is a GPU, but this torch can't use it: everything runs on the processor. " if gpus else "No GPU: ")
        + "the default model (135 million parameters) trains in minutes; "
        f"memory would hold answers of models up to about {room / 2:.1f} billion parameters, slowly.",
    )


def try_generation(words: str = "Name one colour.") -> Generation:
    """Let the default model answer a few words, on the first device. Imports torch."""
    from core.models.engine import Engine
    from core.models.load import load_model

    begun = time.monotonic()
    loaded = load_model(ModelRef())
    loading = time.monotonic() - begun
    engine = Engine(loaded)
    try:
        text = loaded.tokenizer.apply_chat_template(
            [{"role": "user", "content": words}], tokenize=False, add_generation_prompt=True
        )
        prompt = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = engine.generate([prompt], GenerationSettings(max_new_tokens=16))[0]
    finally:
        engine.close()
    rate = answer.tokens / answer.seconds if answer.seconds else 0.0
    return Generation(text=answer.text.strip(), tokens=answer.tokens, load_seconds=loading, tokens_per_second=rate)
