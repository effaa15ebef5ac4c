"""A store whose calls are counted and timed, and a bucket; each call is a sign of life of the thread that makes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from daemon.core.errors import StoreUnavailable
from daemon.core.job import Collection, Decide, Document, JobId, Refusal
from daemon.core.objects import Mark, Placement, StoredObject
from daemon.core.ports import BlobStore, Store, Subscription
from daemon.metrics import Metrics
from daemon.vitals import Vitals


class ObservedStore:
    """Implements ``daemon.core.ports.Store`` by asking another one."""

    def __init__(self, store: Store, *, metrics: Metrics, vitals: Vitals) -> None:
        self._store = store
        self._metrics = metrics
        self._vitals = vitals

    def read(self, job: JobId) -> Document:
        with self._call("read"):
            return self._store.read(job)

    def update(self, target: Document | JobId, decide: Decide) -> Document | Refusal:
        with self._call("update"):
            return self._store.update(target, decide)

    def claim(self, document: Document, decide: Decide) -> Document | Refusal:
        with self._call("claim"):
            return self._store.claim(document, decide)

    def claim_together(self, claims: Sequence[tuple[Document, Decide]]) -> list[Document | Refusal] | None:
        with self._call("claim_together"):
            return self._store.claim_together(claims)

    def window(self, collections: Sequence[Collection], *, limit: int, after: Document | None = None) -> list[Document]:
        with self._call("window"):
            return self._store.window(collections, limit=limit, after=after)

    def by_name(
        self, collections: Sequence[Collection], *, status: str, limit: int, after: Document | None = None
    ) -> list[Document]:
        with self._call("by_name"):
            return self._store.by_name(collections, status=status, limit=limit, after=after)

    def stale(self, *, before: datetime, limit: int, after: Document | None = None) -> list[Document]:
        with self._call("stale"):
            return self._store.stale(before=before, limit=limit, after=after)

    def cancelling(self, *, limit: int) -> list[Document]:
        with self._call("cancelling"):
            return self._store.cancelling(limit=limit)

    def newest(
        self, *, status: str, limit: int, user_id: str | None = None, before: datetime | None = None
    ) -> list[Document]:
        with self._call("newest"):
            return self._store.newest(status=status, limit=limit, user_id=user_id, before=before)

    def queued(self, collections: Sequence[Collection], *, before: datetime | None = None) -> int:
        with self._call("queued"):
            return self._store.queued(collections, before=before)

    def now(self) -> datetime:
        return self._store.now()

    def listen(self, collections: Sequence[Collection], wake: Callable[[], None]) -> Subscription:
        with self._call("listen"):
            return self._store.listen(collections, wake)

    def listen_cancellations(self, collections: Sequence[Collection], wake: Callable[[], None]) -> Subscription:
        with self._call("listen_cancellations"):
            return self._store.listen_cancellations(collections, wake)

    def probe(self) -> list[str]:
        return self._store.probe()

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        self._vitals.sign()
        began = time.monotonic()
        try:
            yield
        except StoreUnavailable as exc:
            self._metrics.store_errors.labels(operation).inc()
            self._vitals.store_trouble = str(exc)
            raise
        else:
            self._vitals.store_trouble = None
        finally:
            self._metrics.store_calls.labels(operation).observe(time.monotonic() - began)
            self._vitals.sign()


class ObservedBlobs:
    """Implements ``daemon.core.ports.BlobStore`` by asking another one."""

    def __init__(self, blobs: BlobStore, *, vitals: Vitals) -> None:
        self._blobs = blobs
        self._vitals = vitals

    def look(self, name: str) -> StoredObject | None:
        with self._call():
            return self._blobs.look(name)

    def put(self, name: str, content: bytes, placement: Placement) -> int | None:
        with self._call():
            return self._blobs.put(name, content, placement)

    def delete(self, name: str, generation: int) -> bool:
        with self._call():
            return self._blobs.delete(name, generation)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return self._blobs.objects(prefix)

    def address(self, name: str, mark: Mark, *, version: int | None = None) -> str:
        return self._blobs.address(name, mark, version=version)

    def probe(self) -> list[str]:
        return self._blobs.probe()

    def close(self) -> None:
        self._blobs.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._vitals.sign()
        try:
            yield
        finally:
            self._vitals.sign()
