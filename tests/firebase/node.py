"""Node with the packages of ``package.json``, installed when the first test asks for them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.parts.missing import PartMissing

FOLDER = Path(__file__).parent
LOCK = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"  # npm's own record of what it installed
OLDEST = 20  # the release of Node that the packages need
INSTALL_WITHIN = 240.0  # seconds; 30 here


def find_node() -> str:
    """Node, with the packages in place. Raises ``PartMissing``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PartMissing("Firebase's SDK", f"install Node {OLDEST} or newer with npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST:
        raise PartMissing("Firebase's SDK", f"install Node {OLDEST} or newer; this is {version.strip()}")
    with (FOLDER / "package.json").open() as lock:  # one test run installs at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not INSTALLED.is_file() or INSTALLED.stat().st_mtime < LOCK.stat().st_mtime:
            _install(npm)
    return node


def _install(npm: str) -> None:
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        subprocess.run(command, cwd=FOLDER, capture_output=True, timeout=INSTALL_WITHIN, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        raise PartMissing("Firebase's SDK", "npm ci in tests/firebase, which needs the npm registry") from exc
    INSTALLED.touch()


def run(
    node: str, script: Path, *arguments: str | Path, within: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, which must come ``within`` seconds."""
    return subprocess.run(
        [node, script, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
