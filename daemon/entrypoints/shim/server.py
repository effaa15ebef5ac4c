"""The shim on its address: alone in a process, or beside a worker in a thread."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from daemon.core.ports import Intake
from daemon.entrypoints import server
from daemon.entrypoints.shim.access import check_address
from daemon.entrypoints.shim.app import create_app
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.service import Service

log = structlog.get_logger(__name__)


def serve(settings: Settings, store: Intake) -> None:
    """Answer calls until SIGTERM or SIGINT.

    Raises:
        WrongSettings: it may not, or cannot, listen at this address.
    """
    with _listening(settings) as listener:
        server.Server(create_app(settings, store)).run(sockets=[listener])


@contextmanager
def serving(settings: Settings, store: Intake, *, worker: Service | None = None) -> Iterator[str]:
    """Answer calls in a thread while the block runs, for a worker beside it too; yields the shim's address.

    Raises:
        WrongSettings: it may not, or cannot, listen at this address.
    """
    with _listening(settings) as listener, server.serving(create_app(settings, store, worker), listener, name="shim"):
        yield server.address(listener)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    check_address(settings)
    names = "EASELD_SHIM_HOST, EASELD_SHIM_PORT"
    with server.listening(settings.shim_host, settings.shim_port, settings=names) as listener:
        log.info("shim.listening", address=server.address(listener), keys=len(settings.shim_keys))
        yield listener
