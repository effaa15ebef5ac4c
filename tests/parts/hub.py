"""A small Hugging Face hub on loopback: one repository at one commit, which can cut off and damage what it sends."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGE = 100_000  # bytes: files from this size have a SHA-256 for a name, as those in git's large file storage


@dataclass(kw_only=True)
class Hub:
    """What it serves, how it misbehaves, and what it was asked."""

    repository: str
    commit: str
    files: dict[str, bytes]
    cut: dict[str, int] = field(default_factory=dict)  # file: bytes after which the connection breaks, once
    damage: list[str] = field(default_factory=list)  # files whose last byte arrives wrong, once for each mention
    claimed: dict[str, int] = field(default_factory=dict)  # file: a size that is told instead of the real one
    fetched: Counter[str] = field(default_factory=Counter)
    resumed: dict[str, int] = field(default_factory=dict)  # file: the byte from which it was asked for
    asked: list[str] = field(default_factory=list)  # every path that was asked for
    address: str = ""

    def digest(self, name: str) -> str:
        """The file's digest, as the hub names it."""
        content = self.files[name]
        if len(content) >= LARGE:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        """The file in a listing."""
        size = self.claimed.get(name, len(self.files[name]))
        entry: dict[str, Any] = {"type": "file", "path": name, "rfilename": name, "oid": self.digest(name)}
        entry |= {"size": size, "blobId": self.digest(name)}
        if len(self.files[name]) >= LARGE:
            entry["lfs"] = {"oid": self.digest(name), "sha256": self.digest(name), "size": size, "pointerSize": 130}
        return entry


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, *, body: bool) -> None:
        hub = self.server.hub
        path = self.path.partition("?")[0]
        hub.asked.append(path)
        entries = [hub.entry(name) for name in hub.files]
        if path.startswith(f"/api/models/{hub.repository}/tree/"):
            self._json(entries)
        elif path.startswith(f"/api/models/{hub.repository}"):
            self._json({"id": hub.repository, "modelId": hub.repository, "sha": hub.commit, "siblings": entries})
        elif path.startswith(f"/{hub.repository}/resolve/{hub.commit}/"):
            self._file(hub, path.partition(f"/resolve/{hub.commit}/")[2], body=body)
        else:
            self.send_error(404)

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, hub: Hub, name: str, *, body: bool) -> None:
        if name not in hub.files:
            self._head(404, hub, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
            return
        content = hub.files[name]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": f'"{hub.digest(name)}"', "Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, hub, headers)
        if body:
            self._send(hub, name, content, start)

    def _head(self, status: int, hub: Hub, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, hub: Hub, name: str, content: bytes, start: int) -> None:
        hub.fetched[name] += 1
        if start:
            hub.resumed[name] = start
        if name in hub.damage:
            hub.damage.remove(name)
            content = content[:-1] + bytes([content[-1] ^ 1])
        end = hub.cut.pop(name, None)
        self.wfile.write(content[start:end])
        if end is not None:
            self.wfile.flush()
            self.connection.close()


@contextmanager
def hub_of(folder: Path, *, repository: str = "easeld/motion", commit: str = "1" * 40) -> Iterator[Hub]:
    """Serve a folder until the block ends."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    hub = Hub(repository=repository, commit=commit, files=files)
    server = _Server(hub)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
