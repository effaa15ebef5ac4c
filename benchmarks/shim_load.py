"""The clients of the shim's benchmark, in a process of their own.

Reads one JSON object a line from standard input (``host``, ``port``, ``path``, ``clients``, ``seconds``, ``user_id``),
calls for so long with so many connections that stay open, and answers with a line: ``rps``, ``p50_ms``, ``p99_ms``,
``errors``. Raw sockets in one thread, so that the measure costs little beside what it measures: with a thread for each
client it was the clients that were measured on a fast machine, and both servers looked alike.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import sys
import time
import uuid
from contextlib import ExitStack
from typing import Any, Self

INPUT = '{"input":{"prompt":"a red sports car","user_id":"%s","file_uid":"%s","use_cloud_storage":true,"seed":7}}'
HEAD = "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer bench\r\nContent-Type: application/json\r\n"


def main() -> None:
    """Measure what is asked for until the input ends."""
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), flush=True)


def measure(*, host: str, port: int, path: str, clients: int, seconds: float, user_id: str) -> dict[str, Any]:
    """Call with ``clients`` connections for ``seconds``; every call names a document of its own."""
    run, number = uuid.uuid4().hex[:12], itertools.count()
    head = HEAD % path

    def message() -> bytes:
        body = INPUT % (user_id, f"{run}-{next(number)}")
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    took: list[float] = []
    errors = 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        waiting = [stack.enter_context(Client(host, port)) for _ in range(clients)]
        for client in waiting:
            selector.register(client.connection, selectors.EVENT_READ, client)
        start = time.perf_counter()
        for client in waiting:
            client.call(message())
        calling = clients
        while calling:
            ready = selector.select(timeout=60)
            if not ready:
                raise TimeoutError("the server does not answer")
            for key, _ in ready:
                answer = key.data.answer()
                if answer is None:
                    continue
                now = time.perf_counter()
                took.append(now - key.data.began)
                errors += not answer.startswith(b"HTTP/1.1 200")
                if now - start < seconds:
                    key.data.call(message())
                else:
                    calling -= 1
        passed = time.perf_counter() - start
    took.sort()
    return {
        "rps": len(took) / passed,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[min(len(took) - 1, int(len(took) * 0.99))],
        "errors": errors,
    }


class Client:
    """A connection that stays open, with one call at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.connection = socket.create_connection((host, port), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, message: bytes) -> None:
        """Send a call, far smaller than what a socket takes at once."""
        self._data = b""
        self.began = time.perf_counter()
        self.connection.sendall(message)

    def answer(self) -> bytes | None:
        """The head of the answer, once all of it is here."""
        chunk = self.connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server hung up")
        self._data += chunk
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return head if len(body) >= length else None


if __name__ == "__main__":
    main()
