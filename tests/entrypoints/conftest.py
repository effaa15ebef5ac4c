"""The command ``easeld`` on a folder of the test's own, with models that paint without weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon.entrypoints import cli
from tests.parts.process import killed_with_us

COMMAND = (sys.executable, "-m", "daemon.entrypoints.cli")
ENDS_WITHIN = 60.0  # seconds for one command on a busy machine
CATALOG = {
    "null-image": {"family": "null", "task": "text2image", "step_seconds": 0.0},
    "null-video": {"family": "null", "task": "text2video", "step_seconds": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON value."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """Standard error, which is one line."""
        [line] = self.err.splitlines()
        return line


class Easeld:
    """Runs the command with a folder of its own, each time in a new process, as a shell would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "EASELD_DATA": str(folder / "data"),
            "EASELD_CATALOG": json.dumps(CATALOG),
            "EASELD_MODELS": "null-image,null-video",
            "EASELD_SHIM_PORT": "0",
            "EASELD_MIN_FREE_DISK": "0",
            "EASELD_PROGRESS_INTERVAL": "0.1",
            "EASELD_LOG_JSON": "true",
        }

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        """Run a command to its end."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN,
            check=False,
        )
        return Ended(status=done.returncode, out=done.stdout, err=done.stderr)

    @contextmanager
    def up(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Daemon]:
        """Run ``easeld up`` until the block ends, entered once it claims."""
        process = subprocess.Popen(
            [*COMMAND, "up", *arguments],
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with killed_with_us(process.pid), process:
            try:
                daemon = Daemon(process)
                daemon.wait_for("worker.claiming")
                yield daemon
            finally:
                process.kill()


class Daemon:
    """A running ``easeld up``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def wait_for(self, message: str) -> dict[str, Any]:
        """Read the log up to the entry with this message; fails where it ends before."""
        assert self._process.stderr is not None
        before = []
        for line in self._process.stderr:
            before.append(line)
            entry: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if entry.get("message") == message:
                return entry
        raise AssertionError(f"the daemon ended before {message}:\n{''.join(before)}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Send a signal, and wait for the end."""
        self._process.send_signal(number)
        out, err = self._process.communicate(timeout=ENDS_WITHIN)
        return Ended(status=self._process.returncode, out=out, err=err)


class QuickEaseld(Easeld):
    """Runs the command's ``main`` in the test's own process, which saves its start; for client commands only."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder)
        self._capsys = capsys

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        """Run a command to its end."""
        assert arguments[0] not in ("up", "worker") or "--help" in arguments, "these end their process"
        self._capsys.readouterr()
        ours = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment | environment)
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(sys, "argv", ["easeld", *arguments])
                patched.chdir(self.folder)
                cli.main()
                status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0
        finally:
            os.environ.clear()
            os.environ.update(ours)
            structlog.reset_defaults()
        out, err = self._capsys.readouterr()
        return Ended(status=status, out=out, err=err)


@pytest.fixture
def easeld(tmp_path: Path) -> Easeld:
    """The command in processes of its own, on a folder of this test's own."""
    return Easeld(tmp_path)


@pytest.fixture
def quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> QuickEaseld:
    """The client commands without the start of a process, on the same folder."""
    return QuickEaseld(tmp_path, capsys)
