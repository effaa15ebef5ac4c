"""uvicorn as we run it: alone in a process, or beside a worker in a thread."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from daemon.core.errors import WrongSettings
from daemon.entrypoints.shim.protocol import Protocol

GRACE = 10  # seconds for calls in progress when told to stop
BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn that ends by returning: its own raises the signal again, and nobody could clean up then."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="critical",  # we log calls ourselves; a broken request is its sender's trouble
                access_log=False,  # a line for each call would tell what we do not want told: an address with a key
                server_header=False,
                timeout_graceful_shutdown=GRACE,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # beside a worker, which listens to signals itself
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def serving(app: FastAPI, listener: socket.socket, *, name: str) -> Iterator[None]:
    """Answer calls in a thread while the block runs."""
    server = Server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        app.state.closing = True  # streams end by themselves then: uvicorn would wait for them
        server.should_exit = True
        thread.join(GRACE + 1)


@contextmanager
def listening(host: str, port: int, *, settings: str) -> Iterator[socket.socket]:
    """A socket at an address, which ``settings`` name.

    Raises:
        WrongSettings: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise WrongSettings(f"{settings}: cannot listen at {host} port {port}: {exc}") from exc
    with listener:
        yield listener


def address(listener: socket.socket) -> str:
    """Where a socket listens, as the beginning of an address."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
