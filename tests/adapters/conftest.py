"""Fixtures of the Firestore adapter's own tests: its faults come from a relay before the emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.adapters.firestore import FirestoreStore
from tests.parts.firestore_emulator import FirestoreEmulator
from tests.parts.firestore_relay import FirestoreRelay, firestore_relay


@pytest.fixture
def relay(firestore_emulator: FirestoreEmulator) -> Iterator[FirestoreRelay]:
    """A relay that fails what a test tells it to."""
    with firestore_relay(firestore_emulator.address) as relay:
        yield relay


@pytest.fixture
def direct(firestore_project: str) -> Iterator[FirestoreStore]:
    """A store on this test's project, with nothing between it and the emulator."""
    store = FirestoreStore.connect(project=firestore_project)
    yield store
    store.close()


@pytest.fixture
def relayed(
    firestore_project: str, direct: FirestoreStore, relay: FirestoreRelay, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FirestoreStore]:
    """A store on the same project behind the relay; its listeners prove within three seconds that they live."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", relay.address)
    store = FirestoreStore.connect(project=firestore_project, silence=3.0, deadline=20.0)
    yield store
    store.close()
