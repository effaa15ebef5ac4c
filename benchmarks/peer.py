"""The peers of row d, each in an environment of its own under ``build/peers``: started, and given jobs.

``python -m benchmarks.peer`` installs those environments (``make peers``).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import local

from benchmarks.child import ONE_THREAD, ROOT
from tests.parts.process import free_port, killed_with_us, running

FILES = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / "build" / "peers"
CONNECTIONS = 32  # of a client that has a backlog: more than fit into any batch
WITHIN = 60.0  # seconds for one answer, and for a peer to start

Command = list[str | Path]


class PeerMissing(Exception):
    """A peer is not on this machine; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """``seconds(n)`` gives it n jobs at once and says how long they took."""

    seconds: Callable[[int], float]


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment.

    Raises:
        PeerMissing: it is not installed.
    """
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        raise PeerMissing(f"{name} is not installed: make peers")
    return python


def _environment(**added: str) -> dict[str, str]:
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": str(FILES), **added}


@contextmanager
def _served(command: Command, port: int, path: str, payload: object) -> Iterator[Peer]:
    """A peer that answers over HTTP."""
    body, connections = json.dumps(payload), local()

    def post(_: object = None) -> None:
        try:
            once()
        except (AttributeError, ConnectionError):  # none yet in this thread, or closed by the server while it was idle
            connections.of_thread = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
            once()

    def once() -> None:
        connection: http.client.HTTPConnection = connections.of_thread
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        assert b'"image"' in said, said

    def ready() -> bool:
        try:
            post()
        except (OSError, http.client.HTTPException, AssertionError):
            vars(connections).clear()
            return False
        return True

    with ExitStack() as stack:
        server = running(command, ready=ready, within=WITHIN, environment=_environment())
        stack.callback(_end_group, stack.enter_context(server).pid)
        pool = stack.enter_context(ThreadPoolExecutor(CONNECTIONS))

        def seconds(jobs: int) -> float:
            began = time.perf_counter()
            if jobs == 1:
                post()
            else:
                list(pool.map(post, range(jobs)))
            return time.perf_counter() - began

        yield Peer(seconds=seconds)


def _end_group(leader: int) -> None:
    """End a server with the processes that it started and would leave behind."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@contextmanager
def litserve(batch: int) -> Iterator[Peer]:
    """LitServe, without batching or with."""
    port = free_port()
    command: Command = [python_of("litserve"), FILES / "litserve_server.py", str(port), str(batch)]
    with _served(command, port, "/predict", {"prompt": "a red circle"}) as peer:
        yield peer


@contextmanager
def runpod() -> Iterator[Peer]:
    """The runpod SDK's local server."""
    port = free_port()
    command: Command = [python_of("runpod"), FILES / "runpod_server.py", "--rp_serve_api", "--rp_api_port", str(port)]
    command += ["--rp_api_host", "127.0.0.1", "--rp_log_level", "ERROR"]
    with _served(command, port, "/runsync", {"input": {"prompt": "a red circle"}}) as peer:
        yield peer


@contextmanager
def celery(folder: Path) -> Iterator[Peer]:
    """A worker, a client, and a Redis of their own."""
    python, redis, port = python_of("celery"), shutil.which("redis-server"), free_port()
    if redis is None:
        raise PeerMissing("celery needs redis-server: apt-get install redis-server")
    environment = _environment(CELERY_REDIS=f"redis://127.0.0.1:{port}/0")
    folder.mkdir(parents=True, exist_ok=True)
    worker: Command = [python, "-m", "celery", "-A", "celery_null", "worker", "--pool", "solo", "--loglevel", "ERROR"]
    commands: list[Command] = [
        [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        [*worker, "--without-gossip", "--without-mingle"],
        [python, FILES / "celery_null.py"],
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        started = []
        for command in commands:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if command is commands[-1] else log,
                stderr=log,
                text=True,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
            stack.enter_context(killed_with_us(process.pid))
            stack.callback(process.communicate)
            stack.callback(process.kill)
            started.append(process)
        client = started[-1]

        def seconds(jobs: int) -> float:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(f"{jobs}\n")
            client.stdin.flush()
            answer = client.stdout.readline()
            assert answer, (folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
            return float(answer)

        yield Peer(seconds=seconds)


def install() -> None:
    """Make the environment of each peer that has a list of requirements."""
    for requirements in sorted(FILES.glob("*.txt")):
        environment = ENVIRONMENTS / requirements.stem
        print(f"{requirements.stem}: into {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", "-r", requirements], check=True)
    if shutil.which("redis-server") is None:
        print("celery needs redis-server too: apt-get install redis-server")


if __name__ == "__main__":
    install()
