"""Servers as child processes that are gone when the tests are gone, however those ended."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_POLL = 0.02  # seconds between two looks at a server that is starting
STOP_GRACE = 5.0  # seconds from SIGTERM to SIGKILL
LOG_TAIL = 4000  # bytes of a server's output that an error quotes


class StartFailed(Exception):
    """The server ended, or was not ready in time; the message quotes its output."""


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago; whoever starts a server on it retries a race."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    within: float,  # seconds
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` until the block ends, entered once ``ready()`` says so. Raises ``StartFailed``."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the tests, which stop their servers last
        )
        try:
            with killed_with_us(process.pid):
                _wait_until_ready(process, command, ready, within, log.fileno())
                yield process
                _stop(process)
        finally:
            process.kill()
            process.wait()


@contextmanager
def killed_with_us(pid: int) -> Iterator[None]:
    """Kill ``pid`` when this process dies, even by SIGKILL.

    A shell holds the read end of a pipe whose only write end is ours; when we are gone, its read ends. That works on
    Linux and macOS alike, and from any thread, which Linux's own parent-death signal does not.
    """
    watch = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -KILL "$1"', "watch", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.kill()
        watch.communicate()


def _wait_until_ready(
    process: subprocess.Popen[bytes], command: Sequence[str | Path], ready: Callable[[], bool], within: float, log: int
) -> None:
    deadline = time.monotonic() + within
    while True:
        if process.poll() is not None:
            raise StartFailed(f"{command[0]} ended with status {process.returncode}:\n{_tail(log)}")
        if ready():
            return
        if time.monotonic() > deadline:
            raise StartFailed(f"{command[0]} was not ready within {within:g} s:\n{_tail(log)}")
        time.sleep(READY_POLL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    return os.pread(log, LOG_TAIL, max(0, size - LOG_TAIL)).decode(errors="replace")
