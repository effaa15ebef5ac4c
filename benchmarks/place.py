"""Where the benchmarks' workers run: the embedded store with a folder, and the emulator with fake-gcs-server."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

from google.cloud import firestore

from daemon.adapters.sqlite import SqliteStore
from daemon.core.job import SERVER_TIME, Collection, JobId, fill
from tests.contracts.sqlite_client import SqliteClient
from tests.parts.fake_gcs import GcsServer
from tests.parts.firestore_emulator import FirestoreEmulator

MOST_WRITES = 500  # that Firestore takes in one commit
NULL_SECONDS = 0.05  # of one call of the null generator
STEPS = 10
CATALOG = {
    "null": {"family": "null", "task": "text2image", "step_seconds": NULL_SECONDS / STEPS, "max_batch": 8},
}
REQUEST = {"width": 256, "height": 256, "num_inference_steps": STEPS}
NULL = {"EASELD_MODELS": "null", "EASELD_CATALOG": json.dumps(CATALOG)}

Write = Callable[[Sequence[JobId]], None]


@dataclass(kw_only=True)
class Place:
    """One store and bucket of its own. ``write`` queues documents as an app does, in as few commits as it can.

    ``forget`` deletes documents and objects between two measurements. The emulator looks at every document of a
    collection for every listener at every commit, and fake-gcs-server at every object at every upload, which Firestore
    and Cloud Storage do not: without it a round would cost more than the one before. ``version`` is another number
    after each commit of another process, on SQLite: looking at it takes microseconds.
    """

    name: str
    environment: Mapping[str, str]
    write: Write
    status: Callable[[JobId], str]
    forget: Write = lambda _: None
    version: Callable[[], int] = lambda: 0
    client: firestore.Client | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def jobs(self, number: int) -> list[JobId]:
        """So many new names."""
        return [self.job() for _ in range(number)]

    def job(self) -> JobId:
        """A new name."""
        return JobId(user_id="bench", collection=Collection.IMAGES, file_uid=f"job-{next(self._numbers)}")


def document(job: JobId) -> dict[str, Any]:
    """What an app writes; with ``settling`` at 0 nothing waits for a call of the endpoint."""
    return {
        "prompt": f"a red circle, {job.file_uid}",
        "status": "queued",
        "generated": False,
        "error": False,
        "created_at": SERVER_TIME,
        **REQUEST,
    }


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """The embedded default."""
    data = folder / "data"
    data.mkdir(parents=True)
    store = SqliteStore(data / "jobs.db")
    client = SqliteClient(data / "jobs.db", store)
    with ThreadPoolExecutor(8) as pool, closing(sqlite3.connect(data / "jobs.db")) as watching:

        def write(jobs: Sequence[JobId]) -> None:
            each = pool.map if len(jobs) > 1 else map
            list(each(lambda job: client.set(job.path, document(job)), jobs))

        def version() -> int:
            return int(watching.execute("PRAGMA data_version").fetchone()[0])

        def status(job: JobId) -> str:
            return str((store.read(job).fields or {}).get("status"))

        try:
            yield Place(
                name="sqlite",
                environment={"EASELD_DATA": str(data), "EASELD_SETTLING": "0"},
                write=write,
                status=status,
                version=version,
            )
        finally:
            store.close()


def batched(jobs: Sequence[JobId]) -> Iterator[Sequence[JobId]]:
    """Split jobs into what one commit takes."""
    for start in range(0, len(jobs), MOST_WRITES):
        yield jobs[start : start + MOST_WRITES]


@contextmanager
def emulated(folder: Path, emulator: FirestoreEmulator, server: GcsServer) -> Iterator[Place]:
    """The Firestore emulator and fake-gcs-server: a project and a bucket of its own."""
    os.environ.update(emulator.environment | server.environment)
    project = emulator.new_project()
    bucket = server.client().create_bucket(server.new_bucket_name())
    client = firestore.Client(project=project)

    def write(jobs: Sequence[JobId]) -> None:
        for batch in batched(jobs):
            with client.batch() as commit:
                for job in batch:
                    fields = fill(document(job), cast("Any", firestore.SERVER_TIMESTAMP))
                    commit.set(client.document(job.path), fields)

    def forget(jobs: Sequence[JobId]) -> None:
        for batch in batched(jobs):
            with client.batch() as commit:
                for job in batch:
                    commit.delete(client.document(job.path))
        bucket.delete_blobs(list(bucket.list_blobs()))

    def status(job: JobId) -> str:
        return str((client.document(job.path).get().to_dict() or {}).get("status"))

    environment = {
        "EASELD_DATA": str(folder / "data"),
        "EASELD_SETTLING": "0",
        "EASELD_STORE": "firestore",
        "EASELD_PROJECT": project,
        "EASELD_BUCKET": bucket.name,
        "EASELD_PUBLIC_BASE": server.url,
        **emulator.environment,
        **server.environment,
    }
    try:
        yield Place(name="emulator", environment=environment, write=write, status=status, forget=forget, client=client)
    finally:
        emulator.wipe(project)
        client.close()
