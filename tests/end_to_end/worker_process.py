"""A real worker as a child process, as systemd would start it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.parts.process import killed_with_us

READY_WITHIN = 120.0  # seconds; importing torch on a busy machine takes most of it


class WorkerProcess:
    """``easeld worker`` with its log, line by line."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daemon.entrypoints.cli", "worker"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EASELD_LOG_JSON": "1", **environment},
            start_new_session=True,
        )
        self.log: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, message: str, *, within: float = READY_WITHIN) -> dict[str, Any]:
        """The next log entry with this message; fails with the log where it does not come."""
        deadline = time.monotonic() + within
        while True:
            try:
                entry = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {message} within {within} s; log: {self.log}") from None
            if entry is None:
                raise AssertionError(f"the worker ended with {self.process.wait()} before {message}: {self.log}")
            if entry.get("message") == message:
                return entry

    def stop(self, number: int = signal.SIGTERM, *, within: float = 40.0) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=within)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"message": line.rstrip()}
                self.log.append(entry)
                self._lines.put(entry)
        self._lines.put(None)


@contextmanager
def worker(environment: Mapping[str, str]) -> Iterator[WorkerProcess]:
    """Run a worker until the block ends, entered once it claims."""
    it = WorkerProcess(environment)
    with killed_with_us(it.process.pid):
        try:
            it.wait_for("worker.claiming")
            yield it
        finally:
            it.process.kill()
            it.process.wait()
