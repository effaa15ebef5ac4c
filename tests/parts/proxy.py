"""A TCP proxy on the loopback interface that misbehaves on demand: the faulty network between a worker and a server."""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 65536  # bytes forwarded at a time
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST instead of FIN


class Mode(enum.Enum):
    """What happens to bytes and to new connections."""

    PASS = "pass"
    BLACK_HOLE = "black hole"  # accepted, but nothing moves either way until the mode changes: a lost route
    REFUSE = "refuse"  # new connections are refused, those that exist are reset: a server that is down


class Proxy:
    """Forwards connections to ``upstream``. Every method may be called from any thread, at any time."""

    def __init__(self, upstream: str) -> None:
        host, port = upstream.rsplit(":", 1)
        self._upstream = (host, int(port))
        self._changed = threading.Condition()
        self._mode = Mode.PASS
        self._delay = 0.0
        self._closed = False
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.accepted = 0  # connections so far
        self._listener: socket.socket | None = None
        self._port = 0
        self._listen()

    @property
    def address(self) -> str:
        """Where clients connect; it stays the same in every mode."""
        return f"127.0.0.1:{self._port}"

    def set(self, mode: Mode, *, delay: float = 0.0) -> None:
        """Change how bytes move; ``delay`` holds each chunk back, in seconds, in each direction."""
        with self._changed:
            self._mode, self._delay = mode, delay
            self._changed.notify_all()
        if mode is Mode.REFUSE:
            self._stop_listening()
            self.cut()
        elif self._listener is None:
            self._listen()

    def cut(self) -> None:
        """Reset every connection there is, as a network does that changes under a program. New ones are served."""
        with self._changed:
            connections, self._connections = self._connections, set()
            self._changed.notify_all()
        for connection in connections:
            _reset(connection)

    def close(self) -> None:
        """Refuse, cut, and end every thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop_listening()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._accept, listener)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            listener.close()

    def _start(self, target: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # no longer listening
            self.accepted += 1
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                _reset(client)
                continue
            with self._changed:
                self._connections |= {client, server}
            if self._mode is Mode.REFUSE:  # between accept and here
                self.cut()
            self._start(self._pump, client, server)
            self._start(self._pump, server, client)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while chunk := source.recv(CHUNK):
                if not self._wait_to_pass(source):
                    return
                target.sendall(chunk)
            if self._wait_to_pass(source):
                target.shutdown(socket.SHUT_WR)  # the other direction may still have something to say
        except OSError:
            _reset(source)
            _reset(target)

    def _wait_to_pass(self, source: socket.socket) -> bool:
        """Hold a chunk back as the mode says; ``False`` when its connection was cut meanwhile."""

        def cut() -> bool:
            return self._closed or source not in self._connections

        with self._changed:
            if self._delay:
                self._changed.wait_for(cut, self._delay)
            self._changed.wait_for(lambda: cut() or self._mode is not Mode.BLACK_HOLE)
            return not cut()


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in recv
    connection.close()


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of ``upstream`` (host:port) until the block ends."""
    instance = Proxy(upstream)
    try:
        yield instance
    finally:
        instance.close()
