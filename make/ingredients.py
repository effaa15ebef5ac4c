"""What the checks of the deployment are made with: a smallest Debian, what pip would download, and a few words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

FOLDER = Path("build/deploy")
BASE = FOLDER / "base"
WHEELS = FOLDER / "wheels"
SUITE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "ca-certificates", "procps")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")

T = TypeVar("T")


class Wrong(Exception):
    """Something is not as it should be; the message says what."""


def report(name: str, needed: Mapping[str, str], check: Callable[[], Mapping[str, object]]) -> None:
    """Run a check; exit status 1 with a line that says what was wrong, or 0 with a line of what was seen."""
    began = time.monotonic()
    try:
        require(needed)
        seen = check()
    except Wrong as exc:
        print(f"{name}: {exc}", file=sys.stderr)
        sys.exit(1)
    figures = " ".join(f"{figure}={value}" for figure, value in seen.items())
    print(f"{name}: {figures} took_s={time.monotonic() - began:.0f}")


def require(tools: Mapping[str, str]) -> None:
    """Look for tools, each with the Debian package that brings it.

    Raises:
        Wrong: with the command that installs what is missing.
    """
    if os.geteuid() != 0:
        raise Wrong("this needs root on Linux")
    missing = sorted({package for tool, package in tools.items() if shutil.which(tool) is None})
    if missing:
        raise Wrong(f"to mend it: apt-get install --no-install-recommends {' '.join(missing)}")


def base() -> Path:
    """A folder with the smallest Debian that boots and has a Python; made once."""
    if not BASE.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        begun = BASE.with_suffix(".begun")
        remove(begun)
        say("Making a Debian")
        arguments = ["--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(begun)]
        with (FOLDER / "debootstrap.log").open("wb") as log:
            if subprocess.run(["debootstrap", *arguments], stdout=log, stderr=log, check=False).returncode:
                raise Wrong(f"debootstrap failed: see {log.name}")
        begun.rename(BASE)
    return BASE


def downloads() -> Path:
    """A folder with every package that easeld needs, and needs to be built; filled again when that has changed."""
    options = os.environ.get("PIP_OPTIONS", "").split()
    wanted = Path("constraints.txt").read_text() + Path("setup.cfg").read_text()
    stamp = WHEELS / "complete"
    if not stamp.exists() or stamp.read_text() != wanted:
        say("Downloading what easeld needs")
        command = [*PIP, "download", *options, "--constraint", "constraints.txt", "--dest", str(WHEELS)]
        subprocess.run([*command, ".[worker]", "setuptools", "wheel"], check=True)
        stamp.write_text(wanted)
    return WHEELS


def source(folder: Path) -> Path:
    """Copy what the package is built from into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("daemon", "models"):
        shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy(name, folder / name)
    return folder


def remove(folder: Path) -> None:
    """Remove a tree, and nothing that is mounted into it."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def say(what: str) -> None:
    """Tell a person what begins now."""
    print(what, "...", flush=True)


def until(what: str, look: Callable[[], T | None], *, within: float) -> T:
    """Look until there is something to see.

    Raises:
        Wrong: there was nothing for ``within`` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise Wrong(f"not within {within:g} s: {what}")
        time.sleep(0.2)
