"""A process that has imported everything and forks a worker when told to: a worker starts in a moment, not in seconds.

``Nursery`` is the parent's end. Both speak lines of JSON: orders one way, what became of the children the other.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Self

from tests.parts.process import killed_with_us

LOOK_EVERY = 0.02  # seconds between two looks at the children


class Nursery:
    """Starts workers, and tells when they stop or end. ``changed`` runs in a thread of its own, one call at a time."""

    def __init__(self, changed: Callable[[int, str, int], None]) -> None:
        self._changed = changed
        self._stack = ExitStack()
        self._started: dict[str, int] = {}
        self._arrived = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the children are of its group, and go with it
        )
        self._stack.enter_context(killed_with_us(-self._process.pid))
        self._thread = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._thread.join()
        self._stack.close()

    def start(self, name: str, environment: Mapping[str, str], configuration: str, log: str) -> int:
        """Start a worker; its process id."""
        order = {"name": name, "environment": dict(environment), "configuration": configuration, "log": log}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        with self._arrived:
            if not self._arrived.wait_for(lambda: name in self._started, timeout=60.0):
                raise RuntimeError(f"{name} was not started")
            return self._started.pop(name)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                event = json.loads(line)
                if event["kind"] == "started":
                    with self._arrived:
                        self._started[event["name"]] = event["pid"]
                        self._arrived.notify_all()
                else:
                    self._changed(event["pid"], event["kind"], event["status"])


def serve() -> None:
    """Be the nursery, until the orders end."""
    import av  # noqa: F401 - what a worker imports later, its children have already
    import PIL.Image  # noqa: F401

    import daemon.adapters.firestore
    import daemon.adapters.folder
    import daemon.adapters.gcs
    import daemon.adapters.sqlite  # noqa: F401
    from tests.chaos import victim

    pending = b""
    while True:
        if select.select([0], [], [], LOOK_EVERY)[0]:
            read = os.read(0, 65536)
            if not read:
                return
            *orders, pending = (pending + read).split(b"\n")
            for order in orders:
                _fork(json.loads(order), victim.main)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    break
                kind = "stopped" if os.WIFSTOPPED(status) else "ended"
                tell(kind=kind, pid=pid, status=0 if kind == "stopped" else os.waitstatus_to_exitcode(status))


def tell(**event: Any) -> None:
    """Tell the parent."""
    os.write(1, (json.dumps(event) + "\n").encode())


def _fork(order: Mapping[str, Any], run: Callable[[str], None]) -> None:
    pid = os.fork()
    if pid:
        tell(kind="started", name=order["name"], pid=pid)
        return
    status = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["environment"])
        run(order["configuration"])
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of a process
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
