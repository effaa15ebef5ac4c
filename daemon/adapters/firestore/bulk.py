"""Writes as Firestore takes them: one in a batch of its own, or many at once, each on its own condition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

import grpc
from google.api_core.exceptions import InvalidArgument
from google.cloud import firestore
from google.cloud.firestore_v1.base_batch import BaseBatch
from google.cloud.firestore_v1.bulk_batch import BulkWriteBatch
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from daemon.adapters.firestore import writes
from daemon.adapters.firestore.client import Client
from daemon.adapters.firestore.failures import translated
from daemon.adapters.firestore.reading import as_document
from daemon.adapters.firestore.times import StoreClock, as_datetime
from daemon.core.errors import DocumentTooLarge, StoreUnavailable
from daemon.core.job import Changes, Document, JobId, Refusal, apply
from daemon.core.ports import Settled, Update

BEATEN = {
    grpc.StatusCode.ABORTED.value[0],
    grpc.StatusCode.ALREADY_EXISTS.value[0],
    grpc.StatusCode.FAILED_PRECONDITION.value[0],
    grpc.StatusCode.NOT_FOUND.value[0],
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def add(client: Client, batch: BaseBatch, document: Document, changes: Changes) -> None:
    """Add a write to a batch, on the condition that the document is still this version."""
    if changes.create:
        reference = client.document(document.id.path)
        batch.create(reference, apply(None, changes, cast("datetime", firestore.SERVER_TIMESTAMP)))
    else:
        write = writes.update(client.documents + document.id.path, changes, version=document.version)
        batch._add_write_pbs([write])  # noqa: SLF001 - as the library's own methods do with what they make


class Bulk:
    """One pass over many updates: read together, written together, each won or lost by itself."""

    def __init__(self, client: Client, clock: StoreClock) -> None:
        self._client = client
        self._clock = clock

    def settle(self, updates: Mapping[int, Update]) -> dict[int, Settled | DocumentTooLarge | StoreUnavailable]:
        """What became of them by their keys; those are missing that another writer, or one of them, was quicker than.

        Raises:
            StoreUnavailable: Firestore is away.
        """
        documents = self._read({job for update in updates.values() for job in update.candidates})
        settled: dict[int, Settled | DocumentTooLarge | StoreUnavailable] = {}
        writing: dict[JobId, int] = {}
        batch = BulkWriteBatch(self._client)
        for key, update in updates.items():
            found = (documents[job] for job in update.candidates)
            document = next((one for one in found if one.fields is not None), documents[update.candidates[0]])
            changes = update.decide(document, document.read_at)
            if isinstance(changes, Refusal):
                settled[key] = Settled(job=document.id, why=changes.why)
            elif document.id not in writing:  # Firestore takes one write of each document at a time
                writing[document.id] = key
                add(self._client, batch, document, changes)
        if writing:
            try:
                with translated("writing", project=self._client.project):
                    response = batch.commit(**self._client.limits)
            except StoreUnavailable as exc:
                if isinstance(exc.__cause__, InvalidArgument):  # one of them is too large, and all are refused for it
                    return settled
                raise
            for (job, key), status in zip(writing.items(), response.status, strict=True):
                if (became := outcome(job, status)) is not None:
                    settled[key] = became
        return settled

    def _read(self, jobs: set[JobId]) -> dict[JobId, Document]:
        references = {job.path: job for job in jobs}
        with translated("reading", project=self._client.project):
            snapshots = list(
                self._client.get_all([self._client.document(path) for path in references], **self._client.limits)
            )
        found = {}
        for snapshot in snapshots:
            self._clock.saw(as_datetime(snapshot.read_time))
            job = references[snapshot.reference.path]
            found[job] = as_document(job, snapshot)
        return found


def outcome(job: JobId, status: Status) -> Settled | DocumentTooLarge | StoreUnavailable | None:
    """What became of one write; ``None`` where another writer was quicker."""
    if status.code == 0:
        return Settled(job=job)
    if status.code in BEATEN:
        return None
    if status.code == INVALID:
        return DocumentTooLarge(f"Firestore refuses the write: {status.message}")
    return StoreUnavailable(f"Firestore, writing {job}: {status.message}")
