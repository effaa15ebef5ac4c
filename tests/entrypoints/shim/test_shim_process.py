"""``easeld shim`` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from daemon.shutdown import EXIT_SETTINGS
from tests.parts.process import free_port, running

ROOT = Path(__file__).parents[3]
START_WITHIN = 20.0  # seconds: ten times what it may take on an idle machine
MOST_MEMORY = 120 * 1024  # KiB
COMMAND = [sys.executable, "-m", "daemon.entrypoints.cli", "shim"]
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "numpy", "PIL", "av"}


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_it_starts_quickly_stays_small_and_ends_when_told(tmp_path: Path) -> None:
    """Without torch: ready in seconds, little memory, and a clean end on SIGTERM."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = {"EASELD_DATA": str(tmp_path), "EASELD_SHIM_PORT": str(port)}
    started = time.monotonic()
    with running(COMMAND, ready=lambda: _answers(address), within=START_WITHIN, environment=environment) as shim:
        assert time.monotonic() - started < START_WITHIN
        status = Path(f"/proc/{shim.pid}/status")
        if status.exists():  # Linux
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
            assert int(peak.split()[1]) < MOST_MEMORY
        shim.send_signal(signal.SIGTERM)
        assert shim.wait(START_WITHIN) == 0


@pytest.mark.parametrize("store", ["sqlite", "firestore"])
def test_it_imports_nothing_that_only_a_worker_needs(store: str) -> None:
    """The smallest machine there is runs a shim."""
    program = (
        "import sys, daemon.entrypoints.cli, daemon.entrypoints.shim.server, "
        f"daemon.adapters.{store}; print(sorted(set({sorted(HEAVY)}) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_an_open_address_without_a_key_ends_it_with_one_line(tmp_path: Path) -> None:
    """The message says which setting; nothing was opened before."""
    command = [*COMMAND, "--host", "0.0.0.0"]  # noqa: S104 - what is refused
    environment = {"EASELD_DATA": str(tmp_path / "data"), "PATH": ""}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == EXIT_SETTINGS
    what = "others can reach 0.0.0.0: set EASELD_SHIM_KEYS, or listen at 127.0.0.1"
    assert run.stderr == f"easeld: wrong setting: EASELD_SHIM_HOST: {what}\n"
    assert not (tmp_path / "data").exists()
