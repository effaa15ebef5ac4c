"""Google Cloud takes a spot machine away: its metadata server says so, and the worker drains."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from daemon import preemption
from daemon.shutdown import Shutdown
from tests.daemon.rig import Rig, until
from tests.parts.process import free_port


@contextmanager
def metadata_server(taken: threading.Event) -> Iterator[ThreadingHTTPServer]:
    """A metadata server that holds a request back until the machine is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Metadata-Flavor"] == "Google"
            assert self.path.startswith("/computeMetadata/v1/instance/preempted?wait_for_change=true")
            body = b"TRUE" if taken.wait(20.0) else b"FALSE"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        taken.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_worker_drains_when_its_machine_is_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running job is completed, nothing more is claimed, exit status 0."""
    taken = threading.Event()
    with metadata_server(taken) as server:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        rig.device.hold()
        job = rig.call("a")
        with rig.worker(grace=20.0) as running:
            until(lambda: bool(rig.device.calls), "generation begins")
            taken.set()
            until(running.shutdown.draining.is_set, "the worker drains")
            later = rig.call("b")
            rig.device.let_go()
            assert running.wait() == 0
    assert rig.status(job) == "completed"
    assert rig.status(later) == "queued"


def test_a_metadata_server_that_cannot_be_reached_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that comes up late costs the notice nothing but a few seconds."""
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(preemption, "AGAIN_AFTER", 0.01)
    shutdown, stopped = Shutdown(), threading.Event()
    thread = threading.Thread(target=preemption.watch, args=(shutdown, stopped))
    thread.start()
    stopped.set()
    thread.join(20.0)
    assert not thread.is_alive()
    assert not shutdown.draining.is_set()


@pytest.mark.parametrize(("product", "is_google"), [("Google Compute Engine\n", True), ("Standard PC\n", False)])
def test_only_machines_of_google_cloud_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product: str, is_google: bool
) -> None:
    """Elsewhere nobody answers at the metadata server's name, and nobody should be asked."""
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setattr(preemption, "PRODUCT", tmp_path / "product_name")
    assert not preemption.on_google_cloud()
    (tmp_path / "product_name").write_text(product)
    assert preemption.on_google_cloud() is is_google
