"""Fixtures that every room shares: the real parts, and the last line that tells which of them were missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage
from google.cloud import firestore
from google.cloud.storage import Bucket

from tests.parts.fake_gcs import GcsServer, gcs_server
from tests.parts.firestore_emulator import FirestoreEmulator, firestore_emulator
from tests.parts.missing import NotTested, PartMissing, skip_or_fail

OUR_OWN_VARIABLES = {
    "EASELD_FIRESTORE_EMULATOR_JAR",
    "EASELD_FUZZ",
    "EASELD_FUZZ_SEED",
    "EASELD_LIVES",
    "EASELD_NOT_TESTED_FILE",
}  # the harness reads them
FOREIGN_VARIABLES = {
    "FIRESTORE_EMULATOR_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
}

NOT_TESTED = pytest.StashKey[NotTested]()


def pytest_configure(config: pytest.Config) -> None:
    """Forget the settings of whoever runs the tests: they reach no real project, no accelerator and no model hub."""
    for name in list(os.environ):
        if name in FOREIGN_VARIABLES or (name.startswith("EASELD_") and name not in OUR_OWN_VARIABLES):
            del os.environ[name]
    os.environ.update(EASELD_DEVICE="cpu", HF_HUB_OFFLINE="1")
    config.stash[NOT_TESTED] = NotTested()
    config.pluginmanager.register(_Counter(config.stash[NOT_TESTED]))


class _Counter:
    def __init__(self, not_tested: NotTested) -> None:
        self._not_tested = not_tested

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._not_tested.note(report)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last what was not tested, below even the line that counts passed and failed."""
    if hasattr(config, "workerinput"):  # one of several processes; the first one hears every report
        return
    lines = config.stash[NOT_TESTED].lines()
    if lines:
        print("\n".join(lines), flush=True)  # noqa: T201 - this is the report
    if file := os.environ.get("EASELD_NOT_TESTED_FILE"):  # `make test` repeats it below the coverage
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a slow test of what others reach as well: counting the lines that it covers doubles its time."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.delenv(name)  # by which processes that it starts are counted
    counting = Coverage.current()
    if counting is not None:
        counting.stop()
    yield
    if counting is not None:
        counting.start()


@pytest.fixture(name="firestore_emulator", scope="session")
def _firestore_emulator() -> Iterator[FirestoreEmulator]:
    """One Firestore emulator for the whole run."""
    try:
        with firestore_emulator() as emulator:
            yield emulator
    except PartMissing as missing:
        skip_or_fail(missing.part, missing.how)


@pytest.fixture
def firestore_project(firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of a project of this test's own; clients made during the test find the emulator by the environment."""
    for name, value in firestore_emulator.environment.items():
        monkeypatch.setenv(name, value)
    project = firestore_emulator.new_project()
    yield project
    firestore_emulator.wipe(project)


@pytest.fixture
def firestore_client(firestore_project: str) -> Iterator[firestore.Client]:
    """A client of this test's own project."""
    client = firestore.Client(project=firestore_project)
    yield client
    client.close()


@pytest.fixture(name="gcs_server", scope="session")
def _gcs_server() -> Iterator[GcsServer]:
    """One Cloud Storage server for the whole run."""
    try:
        with gcs_server() as server:
            yield server
    except PartMissing as missing:
        skip_or_fail(missing.part, missing.how)


@pytest.fixture
def bucket(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of this test's own; clients made during the test find the server by the environment."""
    for name, value in gcs_server.environment.items():
        monkeypatch.setenv(name, value)
    client = gcs_server.client()
    bucket = client.create_bucket(gcs_server.new_bucket_name())
    yield bucket
    for blob in client.list_blobs(bucket):
        blob.delete()
    client.close()
