"""A worker's page, called as anything but a browser would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.rig import Rig, rig
from tests.entrypoints.page.running import serving


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Caller:
    """Sends requests with exactly the given headers."""

    address: str
    rig: Rig

    def get(self, path: str, **headers: str) -> Answer:
        with self.open("GET", path, headers=headers) as response:
            return self._answer(response)

    def post(self, path: str, body: object, **headers: str) -> Answer:
        with self.open("POST", path, body=json.dumps(body), headers=headers) as response:
            return self._answer(response)

    def change(self, path: str, body: object, **headers: str) -> Answer:
        """A change as the page itself asks for it."""
        return self.post(path, body, **{"X-Easeld-Page": "1", **headers})

    @contextmanager
    def open(
        self, method: str, path: str, *, body: str | None = None, headers: dict[str, str]
    ) -> Iterator[HTTPResponse]:
        """Send a request; its answer is still to be read."""
        with closing(HTTPConnection(urlsplit(self.address).netloc, timeout=20)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": urlsplit(self.address).netloc, **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body.encode())))
            connection.endheaders(None if body is None else body.encode())
            with connection.getresponse() as response:
                yield response

    def events(self) -> Iterator[tuple[str, Any]]:
        """Every event of the page's stream, until it ends."""
        with self.open("GET", "/page/events", headers={}) as stream:
            name = ""
            for line in stream:
                key, _, value = line.decode().strip().partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    yield name, json.loads(value)

    @staticmethod
    def _answer(response: HTTPResponse) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as it:
        yield it


@pytest.fixture
def caller(rig: Rig) -> Iterator[Caller]:
    """A page on loopback, without a token."""
    with rig.worker(), serving(rig) as address:
        yield Caller(address, rig)


@pytest.fixture(scope="module")
def shared_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """One such page for all tests of a module that leave nothing behind."""
    with rig(tmp_path_factory.mktemp("page")) as it, it.worker(), serving(it) as address:
        yield Caller(address, it)


@pytest.fixture
def token_caller(rig: Rig) -> Iterator[Caller]:
    """A page with a token."""
    with rig.worker(), serving(rig, page_token="a token of the test") as address:
        yield Caller(address, rig)
