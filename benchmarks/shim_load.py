"""The clients of the shim's benchmark, in a process of their own.

Reads one JSON object a line from standard input (``host``, ``port``, ``path``, ``clients``, ``seconds``, ``user_id``),
calls for so long with so many connections that stay open, and answers with a line: ``rps``, ``p50_ms``, ``p99_ms``,
``errors``. Raw sockets, so that the measure costs little beside what it measures.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
import threading
import time
import uuid
from typing import Any

INPUT = '{"input":{"prompt":"a red sports car","user_id":"%s","file_uid":"%s","use_cloud_storage":true,"seed":7}}'
HEAD = "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer bench\r\nContent-Type: application/json\r\n"


def main() -> None:
    """Measure what is asked for until the input ends."""
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), flush=True)


def measure(*, host: str, port: int, path: str, clients: int, seconds: float, user_id: str) -> dict[str, Any]:
    """Call with ``clients`` connections for ``seconds``; every call names a document of its own."""
    took: list[list[float]] = [[] for _ in range(clients)]
    errors = [0] * clients
    ready = threading.Barrier(clients + 1)
    run = uuid.uuid4().hex[:12]

    def client(number: int) -> None:
        with socket.create_connection((host, port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.wait()
            end = time.perf_counter() + seconds
            for call in itertools.count():
                body = INPUT % (user_id, f"{run}-{number}-{call}")
                message = f"{HEAD % path}Content-Length: {len(body)}\r\n\r\n{body}".encode()
                began = time.perf_counter()
                if began >= end:
                    return
                connection.sendall(message)
                errors[number] += not _answer(connection).startswith(b"HTTP/1.1 200")
                took[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - began
    every = sorted(itertools.chain.from_iterable(took))
    return {
        "rps": len(every) / passed,
        "p50_ms": 1000 * every[len(every) // 2],
        "p99_ms": 1000 * every[min(len(every) - 1, int(len(every) * 0.99))],
        "errors": sum(errors),
    }


def _answer(connection: socket.socket) -> bytes:
    """A whole answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1])
    while len(body) < length:
        body += _received(connection)
    return head


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(65536)
    if not chunk:
        raise ConnectionError("the server hung up")
    return chunk


if __name__ == "__main__":
    main()
