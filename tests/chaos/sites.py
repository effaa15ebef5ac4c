"""The two places where chaos runs: Firestore and Cloud Storage behind a bad network, and one folder."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.folder import FolderBlobs
from daemon.adapters.gcs import GcsBlobs
from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import Fields
from daemon.core.objects import Mark
from tests.chaos.plan import LEASE, Plan
from tests.contracts.firestore_client import FirestoreClient
from tests.contracts.sqlite_client import SqliteClient
from tests.parts.fake_gcs import gcs_server
from tests.parts.firestore_emulator import firestore_emulator
from tests.parts.gcs_fence import GcsFence, gcs_fence
from tests.parts.proxy import Proxy, proxy

if TYPE_CHECKING:
    from daemon.core.ports import BlobStore, Store

PREFIX = "generating"
SIDES = 2  # networks: what cuts off half of the workers leaves the others to rescue their jobs
SKEWS = (0.0, 600.0, -600.0, 0.0)  # seconds, by worker


class Client(Protocol):
    """An app's hand: whole documents set and deleted."""

    def set(self, path: str, fields: Fields) -> None: ...

    def delete(self, path: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """How the clients and the checks reach it (directly), and how each worker does (through faults)."""

    store: Store
    blobs: BlobStore
    client: Client
    environment: Callable[[int], dict[str, str]]  # of the worker of this number
    skew: Callable[[int], float]
    store_proxies: list[Proxy] = field(default_factory=list)
    blob_proxies: list[Proxy] = field(default_factory=list)
    fence: GcsFence | None = None
    database: Path | None = None

    def address(self, name: str) -> str:
        """What a document says of an object; public addresses are the same whoever wrote it."""
        return self.blobs.address(name, Mark(document="", token="", attempt=1, claimed=0))


@contextmanager
def site(plan: Plan, folder: Path) -> Iterator[Site]:
    """Set it up until the block ends. Raises ``PartMissing``."""
    with ExitStack() as stack:
        common = _settings(plan, folder)
        yield _folder(stack, folder, common) if plan.site == "sqlite" else _cloud(stack, common)


def _settings(plan: Plan, folder: Path) -> dict[str, str]:
    catalog = {
        name: {"family": "null", "task": task, "step_seconds": plan.step_seconds, "max_batch": 4}
        for name, task in (("still", "text2image"), ("moving", "text2video"))
    }
    values: dict[str, Any] = {
        "MODELS": "still,moving",
        "CATALOG": json.dumps(catalog),
        "DATA": folder / "data",
        "CACHE": folder / "cache",
        "LEASE": LEASE,
        "HEARTBEAT": LEASE / 4,
        "PROGRESS_INTERVAL": 0.5,
        "RESCUE_INTERVAL": 1.0,
        "SETTLING": 0.3,
        "PREFETCH": 0.3,
        "GRACE": 3.0,
        "PATIENCE": 60.0,
        "MAX_ATTEMPTS": plan.max_attempts,
        "MIN_FREE_DISK": 0.0,
        "LOG_JSON": 1,
    }
    return {f"EASELD_{name}": str(value) for name, value in values.items()}


def _folder(stack: ExitStack, folder: Path, common: dict[str, str]) -> Site:
    data = folder / "data"
    data.mkdir(parents=True)
    store = SqliteStore(data / "jobs.db")
    stack.callback(store.close)
    media = data / "media"
    media.mkdir()
    blobs = FolderBlobs(media, media.resolve().as_uri())
    stack.callback(blobs.close)
    return Site(
        store=store,
        blobs=blobs,
        client=SqliteClient(data / "jobs.db", store),
        environment=lambda _: common,
        skew=lambda _: 0.0,  # its time is the machine's uptime; nobody can shift that for one process
        database=data / "jobs.db",
    )


def _cloud(stack: ExitStack, common: dict[str, str]) -> Site:
    emulator, server = stack.enter_context(firestore_emulator()), stack.enter_context(gcs_server())
    fence = stack.enter_context(gcs_fence(server.url))
    stores = [stack.enter_context(proxy(emulator.address)) for _ in range(SIDES)]
    buckets = [stack.enter_context(proxy(fence.url.removeprefix("http://"))) for _ in range(SIDES)]
    project, bucket = emulator.new_project(), server.new_bucket_name()
    google = server.client()
    google.create_bucket(bucket)
    os.environ["FIRESTORE_EMULATOR_HOST"] = emulator.address  # of the clients here; workers get their own
    store = FirestoreStore.connect(project=project)
    stack.callback(store.close)
    apps = store._client  # one more connection would do the same

    def environment(number: int) -> dict[str, str]:
        side = number % SIDES
        return common | {
            "EASELD_STORE": "firestore",
            "EASELD_PROJECT": project,
            "EASELD_BUCKET": bucket,
            "EASELD_PUBLIC_BASE": server.url,
            "FIRESTORE_EMULATOR_HOST": stores[side].address,
            "STORAGE_EMULATOR_HOST": f"http://{buckets[side].address}",
        }

    return Site(
        store=store,
        blobs=GcsBlobs(client=google, bucket=bucket, prefix=PREFIX, base=server.url),
        client=FirestoreClient(apps),
        environment=environment,
        skew=lambda number: SKEWS[number % len(SKEWS)],
        store_proxies=stores,
        blob_proxies=buckets,
        fence=fence,
    )


def fetch(address: str) -> bytes:
    """A file, as whoever has its address gets it."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        content: bytes = answer.read()
        return content


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold SQLite's write lock until the block ends, as a slow backup does; it may first wait for a frozen worker's."""
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
