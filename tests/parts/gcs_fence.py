"""A proxy before fake-gcs-server that keeps the promises which that server breaks, and writes down what was accepted.

It enforces generation preconditions on DELETE and on resumable uploads, and refuses an upload whose crc32c is wrong.
On demand it fails requests: before they arrive, or by losing the answer.
"""

from __future__ import annotations

import base64
import email
import email.policy
import http.client
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

NOT_FORWARDED = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}
UPSTREAM_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An upload or a delete that the server carried out, in this order."""

    kind: str  # "upload" or "delete"
    name: str
    generation: int
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Failure:
    status: HTTPStatus
    part: str
    times: int
    after: bool


class GcsFence(ThreadingHTTPServer):
    """Forwards to ``upstream`` (``http://host:port``); one change of an object at a time."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.changing = threading.Lock()
        self.conditions: dict[
            str, tuple[str, str, str | None, dict[str, Any]]
        ] = {}  # of resumable uploads, by their id
        self._log: list[Accepted] = []
        self._failures: dict[str, _Failure] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What Google's client library reads to come through here."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    @property
    def accepted(self) -> list[Accepted]:
        """Every upload and delete so far, oldest first."""
        return list(self._log)

    def fail(self, method: str, status: HTTPStatus, *, part: str = "", times: int = 1, after: bool = False) -> None:
        """Answer the next ``times`` requests of a method, whose path holds ``part``, with ``status``.

        With ``after`` they are carried out all the same.
        """
        self._failures[method] = _Failure(status=status, part=part, times=times, after=after)

    def failure(self, method: str, path: str) -> _Failure | None:
        """The failure that this request is to meet; counted."""
        with self.changing:
            failure = self._failures.get(method)
            if failure is None or not failure.times or failure.part not in path:
                return None
            failure.times -= 1
            return failure

    def note(self, accepted: Accepted) -> None:
        self._log.append(accepted)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: that is what they do in tests of faults."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def gcs_fence(upstream: str) -> Iterator[GcsFence]:
    """Run the proxy until the block ends."""
    with GcsFence(upstream) as fence:
        thread = threading.Thread(target=fence.serve_forever, name="gcs-fence", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield fence
        finally:
            fence.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GcsFence
    failing: _Failure | None = None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Say nothing: the log is ``accepted``."""

    def parse_request(self) -> bool:
        """Take a request, and the failure that it is to meet."""
        parsed = super().parse_request()
        self.failing = self.server.failure(self.command, self.path) if parsed else None
        if self.failing is not None and not self.failing.after:
            self._body()
            self._refuse(self.failing.status, "failed on demand")
            return False
        return parsed

    def do_GET(self) -> None:
        self._answer(*self._forward(self._body()))

    do_HEAD = do_PATCH = do_GET  # noqa: N815 - likewise

    def do_POST(self) -> None:
        body, query = self._body(), self._query()
        kind = query.get("uploadType")
        if kind == "multipart":
            self._multipart(body, query)
        elif kind == "resumable":
            self._start(body, query)
        else:
            self._answer(*self._forward(body))

    def do_PUT(self) -> None:
        """A piece of a resumable upload; its last one makes the object."""
        body, condition = self._body(), self.server.conditions.get(self._query().get("upload_id", ""))
        if condition is None:
            self._answer(*self._forward(body))
            return
        bucket, name, generation, metadata = condition
        with self.server.changing:
            if not self._holds(bucket, name, generation):
                self._refuse(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
                return
            status, headers, answer = self._forward(body)
            if status == HTTPStatus.OK:
                self._note_upload(answer, metadata)
        self._answer(status, headers, answer)

    def do_DELETE(self) -> None:
        parts = urlsplit(self.path).path.split("/")
        if "o" not in parts:  # a bucket
            self._answer(*self._forward(b""))
            return
        place = parts.index("o")
        bucket, name = unquote(parts[place - 1]), unquote("/".join(parts[place + 1 :]))
        with self.server.changing:
            present = self._generation(bucket, name)
            if not self._holds(bucket, name, self._query().get("ifGenerationMatch"), absent_fails=False):
                self._refuse(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
                return
            status, headers, answer = self._forward(b"")
            if status < HTTPStatus.BAD_REQUEST:
                self.server.note(Accepted(kind="delete", name=name, generation=present or 0))
        self._answer(status, headers, answer)

    def _multipart(self, body: bytes, query: dict[str, str]) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        described = json.loads(message.get_payload(0).get_payload(decode=True))  # type: ignore[union-attr,arg-type]
        boundary = message.get_boundary("").encode()
        content = body.split(b"--" + boundary)[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        given = described.get("crc32c")
        if given is not None and given != _crc32c(content):
            self._refuse(HTTPStatus.BAD_REQUEST, f"Provided CRC32C {given} doesn't match calculated CRC32C")
            return
        with self.server.changing:
            status, headers, answer = self._forward(body)
            if status == HTTPStatus.OK:
                self._note_upload(answer, described)
        self._answer(status, headers, answer)

    def _start(self, body: bytes, query: dict[str, str]) -> None:
        described = json.loads(body or b"{}")
        bucket = unquote(urlsplit(self.path).path.split("/b/")[1].split("/")[0])
        name = described.get("name") or query.get("name", "")
        if not self._holds(bucket, name, query.get("ifGenerationMatch")):
            self._refuse(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
            return
        status, headers, answer = self._forward(body)
        for index, (key, value) in enumerate(headers):
            if key.lower() == "location":  # the rest of the upload must come through here
                upload = parse_qs(urlsplit(value).query)["upload_id"][0]
                self.server.conditions[upload] = (bucket, name, query.get("ifGenerationMatch"), described)
                headers[index] = (key, value.replace(self.server.upstream, self.server.url))
        self._answer(status, headers, answer)

    def _note_upload(self, answer: bytes, described: dict[str, Any]) -> None:
        stored = json.loads(answer)
        metadata = described.get("metadata") or {}
        self.server.note(
            Accepted(kind="upload", name=stored["name"], generation=int(stored["generation"]), metadata=metadata)
        )

    def _holds(self, bucket: str, name: str, generation: str | None, *, absent_fails: bool = True) -> bool:
        if generation is None:
            return True
        present = self._generation(bucket, name)
        return int(generation) == (present or 0) or (present is None and not absent_fails)

    def _generation(self, bucket: str, name: str) -> int | None:
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        status, _, answer = self._call("GET", path, b"", {})
        return int(json.loads(answer)["generation"]) if status == HTTPStatus.OK else None

    def _query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError("the client went away in the middle")
        return body

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {key: value for key, value in self.headers.items() if key.lower() not in NOT_FORWARDED}
        return self._call(self.command, self.path, body, headers)

    def _call(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        address = urlsplit(self.server.upstream)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=UPSTREAM_TIMEOUT)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        answer = {"error": {"code": status.value, "message": message}}
        self._answer(status.value, [("Content-Type", "application/json")], json.dumps(answer).encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        failing, self.failing = self.failing, None
        if failing is not None and failing.after:
            status, headers, body = failing.status, [], b"{}"
        self.send_response_only(status)
        for key, value in headers:
            if key.lower() not in NOT_FORWARDED:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
