"""Shims on both kinds of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.adapters.firestore import FirestoreStore
from daemon.adapters.sqlite import SqliteStore
from daemon.core.ports import Intake
from tests.contracts.conftest import STORES, Database
from tests.entrypoints.shim.running import Shim, running
from tests.parts.firestore_emulator import FirestoreEmulator


@pytest.fixture(params=["sqlite", "firestore"], scope="module")
def shared_shim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """One shim for all tests of a module, whose jobs have names of their own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "sqlite":
            store: Intake = SqliteStore(tmp_path_factory.mktemp("shim") / "jobs.db")
        else:
            emulator: FirestoreEmulator = request.getfixturevalue("firestore_emulator")
            patch.setenv("FIRESTORE_EMULATOR_HOST", emulator.address)
            store = FirestoreStore.connect(project=emulator.new_project(), deadline=60.0)
        with running(store) as shim:
            yield shim
        store.close()


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind of store."""
    with request.param(tmp_path, request) as opened:
        yield opened


@pytest.fixture
def shim(database: Database) -> Iterator[Shim]:
    """A shim on an empty database."""
    with running(database.open()) as shim:
        yield shim


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty embedded store."""
    store = SqliteStore(tmp_path / "jobs.db")
    yield store
    store.close()
