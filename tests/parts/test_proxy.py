"""The faulty network: every fault shows at the client as the real one would."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.parts.proxy import Mode, Proxy, proxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while chunk := self.request.recv(65536):
                self.request.sendall(chunk)
        except ConnectionError:
            pass


@pytest.fixture
def network() -> Iterator[Proxy]:
    """A proxy in front of a server that says back what it hears."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with proxy(f"127.0.0.1:{server.server_address[1]}") as instance:
            yield instance
        server.shutdown()
        thread.join()


def _connect(network: Proxy) -> socket.socket:
    host, port = network.address.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def _echo(connection: socket.socket, message: bytes) -> bytes:
    connection.sendall(message)
    answer = b""
    while len(answer) < len(message):
        chunk = connection.recv(65536)
        if not chunk:
            break
        answer += chunk
    return answer


def test_bytes_pass_both_ways(network: Proxy) -> None:
    """A healthy network changes nothing, however much goes through, and passes on who has finished speaking."""
    message = bytes(range(256)) * 256
    with _connect(network) as connection:
        assert _echo(connection, message) == message
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_cut_resets_what_exists_and_serves_what_comes(network: Proxy) -> None:
    """After a cut the old connection is dead, and a new one works at once."""
    with _connect(network) as connection:
        assert _echo(connection, b"one") == b"one"
        network.cut()
        with pytest.raises(ConnectionError):
            _until_reset(connection)
    with _connect(network) as connection:
        assert _echo(connection, b"two") == b"two"


def _until_reset(connection: socket.socket) -> None:
    """Speak until the operating system says that nobody listens."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not _echo(connection, b"still there?"):
            raise ConnectionResetError


def test_a_black_hole_holds_everything_and_gives_it_back(network: Proxy) -> None:
    """In a black hole nothing arrives and nothing fails; when it ends, what was sent arrives."""
    with _connect(network) as connection:
        assert _echo(connection, b"one") == b"one"
        network.set(Mode.BLACK_HOLE)
        connection.sendall(b"two")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        network.set(Mode.PASS)
        connection.settimeout(5)
        assert connection.recv(3) == b"two"


def test_a_refusing_server_refuses_until_it_is_back_at_the_same_address(network: Proxy) -> None:
    """Refusing looks like a server that is down; later it is there again under its old address."""
    address = network.address
    with _connect(network) as connection:
        network.set(Mode.REFUSE)
        with pytest.raises(ConnectionError):
            _until_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        _connect(network)
    network.set(Mode.PASS)
    assert network.address == address
    with _connect(network) as connection:
        assert _echo(connection, b"back") == b"back"


def test_a_delay_holds_every_answer_back(network: Proxy) -> None:
    """A delay counts once for each direction."""
    network.set(Mode.PASS, delay=0.1)
    with _connect(network) as connection:
        started = time.monotonic()
        assert _echo(connection, b"slow") == b"slow"
        assert time.monotonic() - started >= 0.2


def test_closing_ends_every_thread_even_in_a_black_hole(network: Proxy) -> None:
    """A test that ends in the middle of a fault leaves nothing running."""
    with _connect(network) as connection:
        assert _echo(connection, b"one") == b"one"
        network.set(Mode.BLACK_HOLE)
        connection.sendall(b"two")
        network.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "proxy"]


def test_a_server_that_is_down_resets_its_clients() -> None:
    """Where nobody listens behind the proxy, a client's connection ends at once."""
    with proxy("127.0.0.1:1") as instance:
        with pytest.raises(ConnectionError), _connect(instance) as connection:  # the reset may be there before we are
            _until_reset(connection)
        assert instance.accepted == 1
