"""Tells systemd how the service is (sd_notify): freedesktop.org/software/systemd/man/latest/sd_notify.html."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Self

import structlog

log = structlog.get_logger(__name__)


class Systemd:
    """One datagram for each message to ``address``; implements ``daemon.core.ports.Supervisor``.

    Without an address nobody listens, and nothing is sent. A message that cannot be delivered is dropped: the service
    works on, and where it is the watchdog's, systemd acts.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The systemd that started this process, if it did; a leading ``@`` stands for an abstract socket's zero byte.

        Other kinds of address (vsock) are for whole virtual machines.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            return cls("\0" + address[1:])
        return cls(address if address.startswith("/") else None)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as exc:
            log.debug("systemd.unreachable", message=message, error=str(exc))
