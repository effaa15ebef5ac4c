"""Child processes of the benchmarks: one that answers lines, and a worker that is watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.observed import Span
from tests.parts.process import killed_with_us

ROOT = Path(__file__).parent.parent
READY_WITHIN = 120.0  # seconds
LOOK_EVERY = 0.05  # seconds; every time comes from the spans, and looking takes the worker's cores from it
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "EASELD_THREADS": "1", "EASELD_DEVICE": "cpu"}


def environment_of(added: Mapping[str, str]) -> dict[str, str]:
    """What a child gets: ours without settings of ours, torch on one thread."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("EASELD_")}
    return {**ours, **ONE_THREAD, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **added}


@contextmanager
def answering(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[Callable[[Any], Any]]:
    """A child that answers a line of JSON with a line of JSON; it is asked until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment_of(environment),
        start_new_session=True,
    )

    def ask(question: Any) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with killed_with_us(process.pid):
        try:
            yield ask
        finally:
            process.kill()
            process.communicate()


@dataclass
class Watched:
    """A worker process and what it did so far, in the order in which it was done."""

    process: subprocess.Popen[bytes]
    file: Path
    spans: list[Span]
    _read: int = 0

    def look(self) -> list[Span]:
        """Read what is new."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as lines:
            lines.seek(self._read)
            whole = lines.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        new = [Span(*json.loads(line)) for line in whole.splitlines()]
        self.spans += new
        return new

    def until(self, true: Callable[[], bool], what: str, *, within: float) -> None:
        """Read what it does until something is so."""
        deadline = time.monotonic() + within
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.file.with_suffix(".log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"({self.process.poll()}) not within {within:g} s: {what}; it said: {said}")
            time.sleep(LOOK_EVERY)
            self.look()

    def of(self, kind: str, since: int = 0) -> list[Span]:
        """The spans of one kind."""
        return [span for span in self.spans[since:] if span.kind == kind]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the whole process, so that a backlog can be written that it then finds complete."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def watched(environment: Mapping[str, str], file: Path) -> Iterator[Watched]:
    """Run a worker until the block ends, entered once it claims."""
    with file.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.observed", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment_of({"EASELD_LOG_LEVEL": "warning", **environment}),
            start_new_session=True,
        )
        it = Watched(process, file, [])
        with killed_with_us(process.pid):
            try:
                it.until(lambda: bool(it.of("claiming")), "claiming", within=READY_WITHIN)
                yield it
            finally:
                process.kill()
                process.wait()


@contextmanager
def ready(module: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a module until the block ends, entered once it says that it is ready."""
    with _told([sys.executable, "-m", module, *arguments], environment, "ready"):
        yield


@contextmanager
def claiming(environment: Mapping[str, str]) -> Iterator[None]:
    """Run ``easeld worker`` until the block ends, entered once its log says that it claims."""
    command = [sys.executable, "-m", "daemon.entrypoints.cli", "worker"]
    with _told(command, {"EASELD_LOG_JSON": "1", **environment}, "worker.claiming"):
        yield


@contextmanager
def _told(command: Sequence[str], environment: Mapping[str, str], words: str) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(environment),
        start_new_session=True,
    )
    with killed_with_us(process.pid):
        try:
            assert process.stdout is not None
            said = []
            while words not in (line := process.stdout.readline()):
                said.append(line)
                assert line, f"{command} ended: {said}"
            yield
        finally:
            process.kill()
            process.communicate()
