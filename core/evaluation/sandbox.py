"""Runs a Python program that nobody vouches for: bubblewrap, no network, no files but a scratch folder, everything bounded.

The program sees Python's own library read-only and an empty folder of its own in memory. It has no network, no other
process, no view of the machine's files, and can make no process (a system call filter; a limit on processes doesn't bind
root). Time, memory, file sizes and open files are bounded by rlimits. Where this can't be had, it refuses: there is no
unprotected way to run a program here. Knows nothing of what the program is for.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError

_ALLOW, _DENY, _ABSENT, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_CLONE_THREAD = 0x00010000
_ARCHITECTURES = {
    # audit number, clone, calls that are denied: fork, vfork, ptrace, mount, keys, bpf, namespaces, memory that no limit counts
    "x86_64": (0xC000003E, 56, (57, 58, 101, 165, 248, 250, 321, 323, 298, 272, 308, 425, 319, 29, 68, 64)),
    "aarch64": (0xC00000B7, 220, (117, 40, 217, 219, 280, 282, 241, 97, 268, 425, 279, 194, 186, 190)),
}
_CLONE3 = 435
_DRIVER = """
import json, os, resource, sys
asked = json.loads(sys.stdin.buffer.read())
for name, most in asked["limits"].items():
    resource.setrlimit(getattr(resource, name), (most, most))
tell = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for place in (0, 1, 2):
    os.dup2(null, place)
program, word = asked["program"], asked["word"]
del asked
try:
    exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
    said = word
except BaseException as error:
    said = (type(error).__name__ + ": " + str(error))[:300]
os.write(tell, said.encode("utf-8", "replace"))
os._exit(0)
"""


@dataclass(frozen=True)
class Limits:
    """What a program may take: seconds of wall clock, MiB of memory and of its scratch folder, open files."""

    seconds: float = 5.0
    memory_mb: int = 1024
    scratch_mb: int = 16
    files: int = 64


@dataclass(frozen=True)
class Ran:
    """``result``: ``passed`` (the program ran to its end), ``timed out``, the exception as text, or how the process died."""

    passed: bool
    result: str


def run_program(program: str, limits: Limits | None = None) -> Ran:
    """Run a program in the sandbox to its end. UserError where no sandbox can be had."""
    limits = limits or Limits()
    command = _command(limits)
    word = secrets.token_hex(16)  # only reaching the end says it: leaving early with exit code 0 doesn't pass
    size = limits.scratch_mb * 2**20
    rlimits = {
        "RLIMIT_AS": limits.memory_mb * 2**20,
        "RLIMIT_CPU": int(limits.seconds) + 1,
        "RLIMIT_FSIZE": size,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CORE": 0,
    }
    asked = json.dumps({"program": program, "word": word, "limits": rlimits}).encode("utf-8", "replace")
    with tempfile.TemporaryFile() as said, _filter_file() as rules:
        full = [*command, "--seccomp", str(rules.fileno()), *_python()]
        process = subprocess.Popen(
            full, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL, pass_fds=(rules.fileno(),), env={}
        )
        try:
            process.communicate(asked, timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # all inside die with it
            process.wait()
            return Ran(False, "timed out")
        said.seek(0)
        text = said.read(4096).decode("utf-8", "replace")
    if text == word:
        return Ran(True, "passed")
    return Ran(False, text or f"ended early, exit code {process.returncode}")


def check_sandbox() -> None:
    """UserError, with what is missing, unless a program can be run in the sandbox here."""
    fault = _fault()
    if fault:
        raise UserError(
            f"Programs can't be run here: {fault}",
            "Install bubblewrap (`apt-get install bubblewrap`) on Linux with user namespaces. Nothing is run without a sandbox.",
        )


@functools.cache
def _fault() -> str:
    """Why there is no sandbox; empty when there is one. Found out by running one."""
    if platform.machine() not in _ARCHITECTURES or sys.platform != "linux":
        return f"there is no system call filter for {sys.platform} on {platform.machine()}"
    if shutil.which("bwrap") is None:
        return "bubblewrap isn't installed"
    with _filter_file() as rules:
        full = [*_arguments(Limits()), "--seccomp", str(rules.fileno()), *_python("import os; os.write(1, b'sound')")]
        try:
            tried = subprocess.run(full, capture_output=True, pass_fds=(rules.fileno(),), timeout=30, check=False, env={})
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap doesn't start ({error})"
    return "" if tried.stdout == b"sound" else f"bubblewrap fails ({tried.stderr.decode('utf-8', 'replace').strip()[-200:]})"


def _command(limits: Limits) -> list[str]:
    check_sandbox()
    return _arguments(limits)


def _arguments(limits: Limits) -> list[str]:
    """Bubblewrap and what it lets in: Python and the system's libraries, read-only, and a scratch folder in memory."""
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"]
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    base = Path(sys.base_prefix)
    command += ["--ro-bind", str(_interpreter()), str(_interpreter())]
    for library in {base / "lib", base / "lib64", Path(os.__file__).parent}:
        if library.is_dir() and not library.is_symlink() and not str(library).startswith(("/usr/lib", "/lib")):
            command += ["--ro-bind", str(library), str(library)]
    command += ["--dev", "/dev", "--size", str(limits.scratch_mb * 2**20), "--tmpfs", "/scratch", "--chdir", "/scratch"]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]


def _interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _python(code: str = _DRIVER) -> list[str]:
    return ["--", str(_interpreter()), "-I", "-S", "-B", "-c", code]


def _filter_file() -> tempfile._TemporaryFileWrapper[bytes]:
    """The system call filter as bubblewrap reads it: a file with compiled rules (seccomp(2), classic BPF)."""
    audit, clone, denied = _ARCHITECTURES[platform.machine()]
    load, equal, at_least, test, back = 0x20, 0x15, 0x35, 0x45, 0x06
    rules: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, audit),
        (back, 0, 0, _KILL),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 calls
        (back, 0, 0, _DENY),
        (equal, 0, 1, _CLONE3),
        (back, 0, 0, _ABSENT),  # libraries go on with clone
    ]
    for call in denied:
        rules += [(equal, 0, 1, call), (back, 0, 0, _DENY)]
    rules += [
        (equal, 0, 3, clone),
        (load, 0, 0, 16),
        (test, 1, 0, _CLONE_THREAD),
        (back, 0, 0, _DENY),
        (back, 0, 0, _ALLOW),
    ]
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 (closed by the caller)
    file.write(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    file.flush()
    file.seek(0)
    return file
