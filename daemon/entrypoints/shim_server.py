"""uvicorn around the shim: alone in a process, or beside a worker in a thread."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from daemon.core.errors import WrongSettings
from daemon.core.ports import Store
from daemon.entrypoints.shim import create_app
from daemon.entrypoints.shim_access import check_address
from daemon.entrypoints.shim_protocol import protocol
from daemon.settings import Settings

log = structlog.get_logger(__name__)

GRACE = 10  # seconds for calls in progress when told to stop
BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn that ends by returning: its own raises the signal again, and nobody could clean up then."""

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


def serve(settings: Settings, store: Store) -> None:
    """Answer calls until SIGTERM or SIGINT.

    Raises:
        WrongSettings: it may not, or cannot, listen at this address.
    """
    with _listening(settings) as listener:
        _server(settings, store).run(sockets=[listener])


@contextmanager
def serving(settings: Settings, store: Store) -> Iterator[str]:
    """Answer calls in a thread while the block runs; yields the shim's address.

    Raises:
        WrongSettings: it may not, or cannot, listen at this address.
    """
    with _listening(settings) as listener:
        server = _server(settings, store)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="shim", daemon=True)
        thread.start()
        try:
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join(GRACE + 1)


def _server(settings: Settings, store: Store) -> Server:
    config = uvicorn.Config(
        create_app(settings, store),
        http=protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",  # we log calls ourselves; a broken request is its sender's trouble
        access_log=False,  # a line for each call would tell what we do not want told: an address with a key in it
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    check_address(settings)
    host, port = settings.shim_host, settings.shim_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise WrongSettings(f"EASELD_SHIM_HOST, EASELD_SHIM_PORT: cannot listen at {host} port {port}: {exc}") from exc
    with listener:
        log.info("shim.listening", address=_address(listener), keys=len(settings.shim_keys))
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
