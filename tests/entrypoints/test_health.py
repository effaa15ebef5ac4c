from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Easeld
from tests.parts.process import free_port

WITHIN = 30.0  # seconds for one answer on a busy machine
MANY = 20  # messages
KEY = "the-key-of-the-app"


def get(address: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The status and the body."""
    request = urllib.request.Request(address, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=WITHIN) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would open for a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(str(tmp_path / "notify"))
        it.settimeout(WITHIN)
        yield it


def rest(notified: socket.socket, *, silence: float) -> list[str]:
    """What is heard before so many seconds of silence, or so much that there is none."""
    heard: list[str] = []
    notified.settimeout(silence)
    while len(heard) < MANY:
        try:
            heard.append(notified.recv(1000).decode())
        except TimeoutError:
            break
    return heard


def test_a_worker_tells_systemd_how_it_is_from_start_to_end(easeld: Easeld, notified: socket.socket) -> None:
    """READY, then signs of life for the watchdog while it works, then STOPPING."""
    with easeld.up(environment={"NOTIFY_SOCKET": notified.getsockname()}) as daemon:
        heard = [notified.recv(1000).decode()]
        while heard.count("WATCHDOG=1") < 2 or "STATUS=claiming" not in heard:
            heard.append(notified.recv(1000).decode())
        assert "READY=1" in heard
        assert heard.index("READY=1") < heard.index("WATCHDOG=1")
        assert "STOPPING=1" not in heard
        daemon.stop()
    heard += rest(notified, silence=0.1)
    assert "STOPPING=1" in heard
    assert heard[-1] in ("STATUS=draining", "WATCHDOG=1")


def test_a_frozen_worker_gives_no_sign_of_life(easeld: Easeld, notified: socket.socket) -> None:
    """So the watchdog ends it; awake again it goes on."""
    with easeld.up(environment={"NOTIFY_SOCKET": notified.getsockname()}) as daemon:
        while notified.recv(1000) != b"WATCHDOG=1":
            pass
        os.kill(daemon.pid, signal.SIGSTOP)
        assert len(rest(notified, silence=3.5)) < MANY  # what was on its way, then nothing for three signs of life
        os.kill(daemon.pid, signal.SIGCONT)
        notified.settimeout(WITHIN)
        assert notified.recv(1000) == b"WATCHDOG=1"


def test_health_and_metrics_are_on_the_shims_address_and_on_one_of_their_own(easeld: Easeld) -> None:
    """The worker's own address is for the operator's network; on the shim's the metrics need its key."""
    shim, own = free_port(), free_port()
    ports = {"EASELD_SHIM_PORT": str(shim), "EASELD_HTTP_PORT": str(own), "EASELD_SHIM_KEYS": KEY}
    with easeld.up(environment=ports):
        for port in (shim, own):
            assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
            assert get(f"http://127.0.0.1:{port}/readyz")[0] == 200
        assert get(f"http://127.0.0.1:{shim}/metrics")[0] == 401
        status, text = get(f"http://127.0.0.1:{shim}/metrics", {"Authorization": f"Bearer {KEY}"})
        assert (status, "easeld_queue_depth 0.0" in text) == (200, True)
        assert get(f"http://127.0.0.1:{own}/metrics")[0] == 200


def test_a_port_that_is_taken_is_a_wrong_setting(easeld: Easeld) -> None:
    """The second worker with the same port says which setting it is, and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = easeld("worker", EASELD_HTTP_PORT=str(taken.getsockname()[1]))
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("easeld: wrong setting: EASELD_HTTP_HOST, EASELD_HTTP_PORT: ")
