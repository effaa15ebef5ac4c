from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.adapters.systemd import Systemd

WITHIN = 5.0  # seconds for a datagram on one machine


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd opens it, and its name as the environment has it."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("there are abstract sockets on Linux only")
    name = str(tmp_path / "notify") if request.param == "path" else f"@easeld-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(name.replace("@", "\0"))
        it.settimeout(WITHIN)
        yield it, name


def test_systemd_hears_what_the_service_says(listening: tuple[socket.socket, str]) -> None:
    """One datagram for each, in the words of sd_notify; a status is one line, whatever was in it."""
    heard, name = listening
    systemd = Systemd.of_environment({"NOTIFY_SOCKET": name})
    systemd.ready()
    systemd.status("unfit: no device,\nREADY=1")
    systemd.alive()
    systemd.stopping()
    systemd.close()
    messages = [heard.recv(1000).decode() for _ in range(4)]
    assert messages == ["READY=1", "STATUS=unfit: no device, READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_nobody_is_told_where_nobody_listens(environment: dict[str, str]) -> None:
    """On a terminal and in a container the same code says nothing."""
    systemd = Systemd.of_environment(environment)
    systemd.ready()
    systemd.close()


def test_a_message_that_cannot_be_delivered_holds_nothing_up(tmp_path: Path) -> None:
    """Neither a socket that is gone nor one that nobody empties is a reason to stop working."""
    gone = Systemd.of_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.alive()
    gone.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        systemd = Systemd(str(tmp_path / "full"))
        for _ in range(10_000):
            systemd.alive()
        systemd.close()
