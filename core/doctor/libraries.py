"""Which libraries are there, in which version, and what those that aren't would add. Reads package metadata; imports none."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.doctor.report import Finding, State

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"
NEEDED = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "evaluate", "streamlit")
ADDS = {"bitsandbytes": "models in int8 and NF4, and QLoRA", "peft": "fine-tunes as adapters, several on one base"}
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


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it; None if it isn't there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
    return Finding(name=name, state="ok", value=found, adds=ADDS.get(name, ""))


def optional_libraries() -> tuple[Finding, ...]:
    """Libraries that would add something."""
    findings = []
    for name, (adds, how) in OPTIONAL.items():
        found = version_of(name)
        state: State = "ok" if found else "missing"
        findings.append(Finding(name=name, state=state, value=found or "not installed", adds=adds, remedy="" if found else how))
    return tuple(findings)
