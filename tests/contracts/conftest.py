"""The adapters that the contract suites run over. To add one: a function, and a line in ``STORES`` or ``BLOBS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.folder import FolderBlobs
from daemon.adapters.gcs import GcsBlobs
from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import Fields
from daemon.core.ports import BlobStore, Intake, Store
from tests.contracts.firestore_client import FirestoreClient
from tests.contracts.sqlite_client import SqliteClient
from tests.parts.gcs_fence import gcs_fence


class Client(Protocol):
    """What an app does to a document without asking us; ``path`` may be no job's."""

    def set(self, path: str, fields: Fields) -> None:
        """Write the whole document anew; ``SERVER_TIME`` in a value is the time of the commit."""
        ...

    def delete(self, path: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Database:
    """One database, empty at the start of a test, that any number of stores open as so many processes would."""

    open: Callable[[], Intake]  # a further independent instance; closed after the test
    client: Client


DatabaseFactory = Callable[[Path, pytest.FixtureRequest], AbstractContextManager[Database]]
BlobsFactory = Callable[[Path, pytest.FixtureRequest], AbstractContextManager[Callable[[], BlobStore]]]


@contextmanager
def sqlite_database(folder: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The embedded store."""
    path = folder / "jobs.db"
    with ExitStack() as stack:

        def open_store() -> Intake:
            store = SqliteStore(path)
            stack.callback(store.close)
            return store

        yield Database(open=open_store, client=SqliteClient(path, open_store()))


@contextmanager
def folder_blobs(folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], BlobStore]]:
    """The embedded blob store."""
    with ExitStack() as stack:

        def open_blobs() -> BlobStore:
            blobs = FolderBlobs(folder / "media", "http://127.0.0.1:8080/media")
            stack.callback(blobs.close)
            return blobs

        yield open_blobs


@contextmanager
def firestore_database(folder: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A project of the emulator's."""
    project = request.getfixturevalue("firestore_project")
    client = FirestoreClient(request.getfixturevalue("firestore_client"))
    with ExitStack() as stack:

        def open_store() -> Intake:
            store = FirestoreStore.connect(project=project)
            stack.callback(store.close)
            return store

        yield Database(open=open_store, client=client)


@contextmanager
def gcs_blobs(folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], BlobStore]]:
    """A bucket of the Cloud Storage server's, behind the proxy that keeps its promises."""
    bucket, server = request.getfixturevalue("bucket"), request.getfixturevalue("gcs_server")
    patched = request.getfixturevalue("monkeypatch")
    with gcs_fence(server.url) as fence, ExitStack() as stack:
        patched.setenv("STORAGE_EMULATOR_HOST", fence.url)

        def open_blobs() -> BlobStore:
            blobs = GcsBlobs.connect(bucket=bucket.name, base=fence.url)
            stack.callback(blobs.close)
            return blobs

        yield open_blobs


STORES: dict[str, DatabaseFactory] = {"sqlite": sqlite_database, "firestore": firestore_database}
BLOBS: dict[str, BlobsFactory] = {"folder": folder_blobs, "gcs": gcs_blobs}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind of store."""
    factory: DatabaseFactory = request.param
    with factory(tmp_path, request) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> Store:
    """One store on it."""
    return database.open()


@pytest.fixture(params=list(BLOBS.values()), ids=list(BLOBS))
def open_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], BlobStore]]:
    """Opens a further independent instance on one empty blob store."""
    factory: BlobsFactory = request.param
    with factory(tmp_path, request) as opened:
        yield opened


@pytest.fixture
def blobs(open_blobs: Callable[[], BlobStore]) -> BlobStore:
    """One blob store on it."""
    return open_blobs()
